"""A dataset larger than the machine's memory: 100 GB, averaged once.

1,000 clients of 25 M float32 values in a sparse file: zeros that take no room on the disk, but for
a million values of each of ten clients, whose mean is known. The zeros pass through the page cache
like all else; no disk is read. Measured is the most that this process and its worker hold in
anonymous memory (`RssAnon`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import fedviz
from benchmarks.large_datasets import sparse_dataset
from benchmarks.process_memory import PeakMemory, family
from benchmarks.timing import Goal, Row

CLIENTS, SIZE = 1000, 25_000_000
WRITTEN, FIRST = 1_000_000, 9_000_000


def measure(folder: Path) -> Iterator[Row | Goal]:
    """One mean, checked where it is not zero."""
    yield from average_sparse(folder / "sparse.h5", CLIENTS, SIZE)


def average_sparse(path: Path, clients: int, size: int) -> Iterator[Row | Goal]:
    """Write, average and check a sparse dataset."""
    rng = np.random.default_rng(0)
    first, count = min(FIRST, size // 2), min(WRITTEN, size // 4)
    blocks = {
        (client, first): rng.standard_normal(count, dtype="f4")
        for client in range(0, clients, max(1, clients // 10))
    }
    sparse_dataset(path, clients, size, blocks)
    status = path.stat()
    yield Row(
        "the file",
        f"{status.st_size / 1e9:.0f} GB",
        f"{512 * status.st_blocks / 1e6:,.0f} MB on the disk",
    )
    with PeakMemory(lambda: family(os.getpid())) as memory:
        result = fedviz.average(path)
    path.unlink()
    (mean,) = result.weights.values()
    weights = 1.0 + np.arange(clients) % 7
    expected = sum(weights[c] * block.astype("f8") for (c, _), block in blocks.items())
    error = np.abs(mean[first : first + count] - expected / weights.sum()).max()
    right = bool(error < 1e-7) and not mean[:first].any() and not mean[first + count :].any()
    yield Row(
        "the mean", result.seconds, f"{status.st_size / 1e9 / result.seconds:.2f} GB a second"
    )
    held = memory.peak - memory.before
    limit = (1 << 30) + 12 * 4 * size
    yield Row(
        "anonymous memory at most",
        f"{memory.peak / 1e6:,.0f} MB",
        f"{held / 1e6:,.0f} MB more than before, without the worker",
    )
    yield Goal(
        f"{status.st_size / 1e9:.0f} GB averaged, and right, in 1 GB + 12 × the model",
        f"{memory.peak / 1e6:,.0f} MB of {limit / 1e6:,.0f}; largest error {error:.1e}",
        right and memory.peak < limit,
    )
