"""How the mean's time grows with clients and parameters.

`fedviz.average` of float32 models of four tensors, the file in the page cache, cases in turns.
1,000 clients of 10 M parameters (40 GB) do not fit into this machine's memory and are left out:
there the disk is measured, not the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fedviz
from benchmarks.datasets import model_of
from benchmarks.large_datasets import large_dataset
from benchmarks.timing import Goal, Row, medians

REPEATS = 10
CLIENTS = (10, 100, 1000)
PARAMETERS = (100_000, 1_000_000, 10_000_000)
TENSORS = 4
LARGEST_BYTES = 5e9
FLAT = 2.0
FIXED_COST_HIDDEN = 300e6


def measure(folder: Path) -> Iterator[Row | Goal]:
    """Each combination that fits."""
    paths: dict[str, Path] = {}
    nbytes: dict[str, int] = {}
    for clients in CLIENTS:
        for parameters in PARAMETERS:
            name = f"{clients:,} clients × {parameters / 1e6:g} M"
            if 4 * clients * parameters <= LARGEST_BYTES:
                nbytes[name] = 4 * clients * parameters
                file = f"growth-{clients}-{parameters}"
                paths[name] = large_dataset(
                    folder, file, model_of(TENSORS, parameters // TENSORS), clients
                )
    for path in paths.values():
        fedviz.average(path)
    times = medians({n: lambda p=p: fedviz.average(p).seconds for n, p in paths.items()}, REPEATS)
    for path in paths.values():
        path.unlink()
    per_byte = {name: 1e9 * times[name] / nbytes[name] for name in times}
    for name, value in times.items():
        speed = f"{nbytes[name] / 1e9:.3g} GB: {per_byte[name]:.3f} ns a byte"
        yield Row(name, value, speed)
    spread = max(per_byte.values()) / min(per_byte.values())
    large = [per_byte[name] for name in times if nbytes[name] >= FIXED_COST_HIDDEN]
    among_large = max(large) / min(large)
    yield Goal(
        "time per byte flat within a factor of 2, all sizes",
        f"{spread:.1f} × between the extremes: a call costs {min(times.values()):.3f} s at least",
        spread <= FLAT,
    )
    yield Goal(
        "time per byte flat within a factor of 2, from 0.4 GB on",
        f"{among_large:.2f} × between the extremes",
        among_large <= FLAT,
    )
