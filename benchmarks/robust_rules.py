"""The rules beyond TFF, next to NumPy on an array that is in memory.

Ours read a mapped file in blocks. NumPy's trimmed mean is a `np.partition` and a mean. Memory is
what NumPy allocated at most. The Gram matrix, which Krum, Bulyan and the geometric median rest on,
is next to `X @ X.T` in float32.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.timing import Goal, Row, median_seconds, seconds
from fedviz.analysis.gram import gram_matrix
from fedviz.robust import aggregate

REPEATS = 10
CLIENTS = 100
COLUMNS = 200_000
GRAM_COLUMNS = 1_660_000


def measure(folder: Path) -> Iterator[Row | Goal]:
    """Order statistics, then what rests on inner products."""
    stack = mapped(folder / "rules.bin", CLIENTS, COLUMNS)
    yield from order_statistics(stack)
    weights = np.ones(CLIENTS)
    for name in ("krum", "bulyan", "geometric-median"):
        yield Row(
            f"{CLIENTS} × {COLUMNS:,}: {name}",
            seconds(lambda n=name: aggregate(n, {"x": stack}, weights)),
        )
    yield from gram(folder)


def mapped(path: Path, num_clients: int, num_columns: int) -> np.ndarray:
    """A file of normal float32 values, as it is mapped."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for _ in range(num_clients):
            rng.standard_normal(num_columns, dtype=np.float32).tofile(file)
    return np.memmap(path, "f4", "r", shape=(num_clients, num_columns))


def order_statistics(stack: np.ndarray) -> Iterator[Row | Goal]:
    """Median and trimmed mean next to NumPy's."""
    values, weights, k = np.array(stack), np.ones(len(stack)), len(stack) // 10

    def trimmed() -> np.ndarray:
        return np.partition(values, (k, len(values) - k - 1), axis=0)[k:-k].mean(axis=0)

    for name, numpys in (("median", lambda: np.median(values, axis=0)), ("trimmed-mean", trimmed)):
        ours: Callable[[], object] = lambda n=name: aggregate(n, {"x": stack}, weights)  # noqa: E731
        times = median_seconds({"ours": ours, "numpy": numpys}, REPEATS)
        held = peak_bytes(ours)
        size = f"{len(stack)} × {stack.shape[1]:,}"
        yield Row(
            f"{size}: NumPy, {name} in memory", times["numpy"], f"{values.nbytes / 1e6:.0f} MB"
        )
        yield Row(f"{size}: {name}", times["ours"], f"allocates {held / 1e6:.0f} MB at most")
        ratio = times["numpy"] / times["ours"]
        yield Goal(
            f"{name} no slower than NumPy's on an array in memory, in bounded memory",
            f"{ratio:.1f} × as fast, {held / 1e6:.0f} MB",
            ratio >= 1 and held < values.nbytes,
        )


def gram(folder: Path) -> Iterator[Row | Goal]:
    """The Gram matrix of updates, with float64 sums."""
    stack = mapped(folder / "rules.bin", CLIENTS, GRAM_COLUMNS)
    values, server = np.array(stack), {"x": np.array(stack[0])}
    times = median_seconds(
        {
            "numpy": lambda: values @ values.T,
            "weights": lambda: gram_matrix({"x": stack}, None),
            "updates": lambda: gram_matrix({"x": stack}, server),
        },
        REPEATS,
    )
    name = f"{CLIENTS} × {GRAM_COLUMNS:,}"
    yield Row(f"{name}: NumPy, `X @ X.T` in memory", times["numpy"])
    for what in ("weights", "updates"):
        share = times["numpy"] / times[what]
        yield Row(
            f"{name}: Gram matrix of the {what}", times[what], f"{share:.0%} of NumPy's speed"
        )
    share = times["numpy"] / times["updates"]
    yield Goal("Gram matrix of the updates at half of NumPy's speed", f"{share:.0%}", share >= 0.5)


def peak_bytes(call: Callable[[], object]) -> int:
    """The most that NumPy held at once during a call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
