"""Looking for values that are no numbers, against NumPy over the memory map."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.datasets import model_of, write_dataset
from benchmarks.timing import Row, median_seconds
from fedviz.analysis.check import check
from fedviz.dataset import WeightDataset

CLIENTS, SIZE = 100, 810_000


def measure(folder: Path) -> Iterator[Row]:
    """One large tensor, from the page cache."""
    path = folder / "large.h5"
    write_dataset(path, model_of(1, SIZE), CLIENTS)
    times = median_seconds(
        {
            "numpy": lambda: _isfinite_over_memory_map(path),
            "fedviz": lambda: check(path, look_at="finiteness"),
        }
    )
    name = f"{CLIENTS} × {SIZE / 1e6:.2f} M float32"
    yield Row(f"{name}: np.isfinite(memmap).all()", times["numpy"])
    speed = times["numpy"] / times["fedviz"]
    yield Row(
        f"{name}: check finiteness", times["fedviz"], f"{speed:.0%} of NumPy's speed; goal: 50 %"
    )


def _isfinite_over_memory_map(path: Path) -> bool:
    with WeightDataset(path) as dataset:
        round_ = dataset.round()
        stacks = [round_.stack(name) for name in dataset.signature.names]
    return all(
        np.isfinite(np.memmap(s.path, s.dtype, "r", s.offset or 0, s.shape)).all() for s in stacks
    )
