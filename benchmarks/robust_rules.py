"""The rules beyond TFF, next to NumPy on an array that is in memory.

Ours read a dataset's file in blocks. NumPy's trimmed mean is a `np.partition` and a mean. Memory is
what NumPy allocated at most. The Gram matrix, which Krum, Bulyan and the geometric median rest on,
is next to `X @ X.T` in float32.
"""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.datasets import model_of, write_dataset
from benchmarks.timing import Goal, Row, median_seconds, seconds
from fedviz.analysis.gram import gram_matrix
from fedviz.analysis.stacks import Stacks
from fedviz.analysis.stored import stacks_of_round
from fedviz.dataset import WeightDataset
from fedviz.robust import aggregate

REPEATS = 10
CLIENTS = 100
COLUMNS = 200_000
GRAM_COLUMNS = 1_660_000


def measure(folder: Path) -> Iterator[Row | Goal]:
    """Order statistics, then what rests on inner products."""
    weights = np.ones(CLIENTS)
    with stored(folder / "rules.h5", COLUMNS) as (stacks, values):
        yield from order_statistics(stacks, values)
        for name in ("krum", "bulyan", "geometric-median"):
            yield Row(
                f"{CLIENTS} × {COLUMNS:,}: {name}",
                seconds(lambda n=name: aggregate(n, stacks, weights)),
            )
    with stored(folder / "gram.h5", GRAM_COLUMNS) as (stacks, values):
        yield from gram(stacks, values)


@contextlib.contextmanager
def stored(path: Path, num_columns: int) -> Iterator[tuple[Stacks, np.ndarray]]:
    """The stacks of a new dataset of one tensor, and its values in memory."""
    write_dataset(path, model_of(1, num_columns), CLIENTS)
    with WeightDataset(path) as dataset:
        round_ = dataset.round()
        (name,) = dataset.signature.names
        with stacks_of_round(round_, [name]) as stacks:
            yield stacks, round_.read_stack(name)


def order_statistics(stacks: Stacks, values: np.ndarray) -> Iterator[Row | Goal]:
    """Median and trimmed mean next to NumPy's."""
    weights, k = np.ones(len(values)), len(values) // 10

    def trimmed() -> np.ndarray:
        return np.partition(values, (k, len(values) - k - 1), axis=0)[k:-k].mean(axis=0)

    for name, numpys in (("median", lambda: np.median(values, axis=0)), ("trimmed-mean", trimmed)):
        ours: Callable[[], object] = lambda n=name: aggregate(n, stacks, weights)  # noqa: E731
        times = median_seconds({"ours": ours, "numpy": numpys}, REPEATS)
        held = peak_bytes(ours)
        size = f"{len(values)} × {values.shape[1]:,}"
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


def gram(stacks: Stacks, values: np.ndarray) -> Iterator[Row | Goal]:
    """The Gram matrix of updates, with float64 sums."""
    server = dict.fromkeys(stacks, values[0])
    times = median_seconds(
        {
            "numpy": lambda: values @ values.T,
            "weights": lambda: gram_matrix(stacks, None),
            "updates": lambda: gram_matrix(stacks, server),
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
