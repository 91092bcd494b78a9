"""What all benchmarks share: timing in turns, and what a topic hands back."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

__all__ = ["Goal", "Row", "Timed", "machine", "median_seconds", "medians", "seconds"]

PACKAGES = ("numpy", "h5py", "tensorflow", "tensorflow-federated")

# A process is at rest that uses less than a tenth of a processor for 20 ms.
LOOK_SECONDS, IDLE_SHARE = 0.02, 0.1

Timed = Callable[[], float]
"""A case that runs once and says how many seconds of it count."""


@dataclass(frozen=True)
class Row:
    """One measured case: what it is, the median wall time or another figure, and a note."""

    case: str
    value: float | str
    note: str = ""


@dataclass(frozen=True)
class Goal:
    """What was to be reached, what was, and whether that is enough."""

    goal: str
    figure: str
    met: bool


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def median_seconds(cases: Mapping[str, Callable[[], object]], repeats: int = 5) -> dict[str, float]:
    """Median wall time of each case, by name; see :func:`medians`."""
    return medians({name: lambda c=call: seconds(c) for name, call in cases.items()}, repeats)


def medians(cases: Mapping[str, Timed], repeats: int) -> dict[str, float]:
    """Median of what each case says that it took, by name.

    The cases take turns, so that what else the machine does falls on all of them alike and their
    ratios mean something on a busy machine too.
    """
    runs: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, call in cases.items():
            _come_to_rest()
            runs[name].append(call())
    return {name: statistics.median(times) for name, times in runs.items()}


def _come_to_rest() -> None:
    """Wait until this process's threads are idle.

    Those that NumPy multiplies matrices with look for more work for a tenth of a second after a
    product: on two processors the next case would have only one.
    """
    busy = 1.0
    while busy > IDLE_SHARE:
        started, used = time.perf_counter(), time.process_time()
        time.sleep(LOOK_SECONDS)
        busy = (time.process_time() - used) / (time.perf_counter() - started)


def machine() -> str:
    """What was measured on, in one line: neither names nor paths."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB, "
        f"Python {platform.python_version()}, {packages}. "
        f"Others kept {os.getloadavg()[0]:.1f} processes busy when it began."
    )
