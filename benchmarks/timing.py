"""Timing that all benchmarks share: medians, cases measured in turns, and their table."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

__all__ = ["Row", "machine", "markdown_table", "median_seconds", "seconds"]

PACKAGES = ("numpy", "h5py", "tensorflow")


@dataclass(frozen=True)
class Row:
    """One measured case: what it is, the median wall time, and what to say beside it."""

    case: str
    seconds: float
    note: str = ""


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def median_seconds(cases: Mapping[str, Callable[[], object]], repeats: int = 5) -> dict[str, float]:
    """Median wall time of each case, by name.

    The cases take turns, so that what else the machine does falls on all of them alike and their
    ratios mean something on a busy machine too.
    """
    runs: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, call in cases.items():
            runs[name].append(seconds(call))
    return {name: statistics.median(times) for name, times in runs.items()}


def markdown_table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [f"| {row.case} | {row.seconds:.3f} | {row.note} |" for row in rows]
    return "\n".join(["| case | seconds | |", "|---|---:|---|", *lines])


def machine() -> str:
    """What was measured on, in one line: neither names nor paths."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB, "
        f"Python {platform.python_version()}, {packages}. "
        f"Others kept {os.getloadavg()[0]:.1f} processes busy when it began."
    )
