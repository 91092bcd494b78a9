"""How fast the rules beyond TFF are, next to NumPy on an array in memory, and how exact the Gram.

``python -m benchmarks.robust_rules`` prints a table. Ours read a mapped file; NumPy's array is in
memory. Times are the processor's, of one BLAS thread, so that a busy machine does not distort them;
memory is what NumPy allocated at most.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read by NumPy when it is imported

import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from fedviz.analysis.gram import gram_matrix
from fedviz.robust import aggregate

REPEATS = 3
CLIENTS = 100
MEDIAN_COLUMNS = 810_000
GRAM_COLUMNS = 1_660_000
MANY_CLIENTS = 1000


def cpu_seconds(call: Callable[[], object]) -> float:
    """Shortest of some calls."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return min(times)


def peak_mebibytes(call: Callable[[], object]) -> float:
    """The most that NumPy held at once during a call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def mapped(path: Path, num_clients: int, num_columns: int) -> np.ndarray:
    """A file of normal float32 values, as it is mapped."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for _ in range(num_clients):
            rng.standard_normal(num_columns, dtype=np.float32).tofile(file)
    return np.memmap(path, "f4", "r", shape=(num_clients, num_columns))


def order_statistics(stack: np.ndarray) -> Iterator[tuple[str, float, float]]:
    """Median and trimmed mean: seconds of ours, seconds of NumPy's."""
    values, weights, k = np.array(stack), np.ones(len(stack)), len(stack) // 10

    def trimmed() -> np.ndarray:
        return np.partition(values, (k, len(values) - k - 1), axis=0)[k:-k].mean(axis=0)

    for name, numpys in (("median", lambda: np.median(values, axis=0)), ("trimmed-mean", trimmed)):
        ours = cpu_seconds(lambda rule=name: aggregate(rule, {"x": stack}, weights))
        yield name, ours, cpu_seconds(numpys)


def gram_error(kind: str, width: int) -> float:
    """Largest error of one float32 block's product, over the two norms' product."""
    rng = np.random.default_rng(0)
    block = {
        "normal": rng.standard_normal((CLIENTS, width)),
        "all positive": rng.uniform(0.5, 1, (CLIENTS, width)),
        "one direction": rng.standard_normal(width) + 0.01 * rng.standard_normal((CLIENTS, width)),
        "few large": rng.standard_normal((CLIENTS, width)) ** 7,
    }[kind].astype("f4")
    exact = block.astype("f8") @ block.astype("f8").T
    lengths = np.sqrt(exact.diagonal())
    return float((np.abs(block @ block.T - exact) / np.outer(lengths, lengths)).max())


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        stack = mapped(Path(folder, "median.bin"), CLIENTS, MEDIAN_COLUMNS)
        print(f"{CLIENTS} × {MEDIAN_COLUMNS:,} float32, seconds of processor time")
        for name, ours, numpys in order_statistics(stack):
            memory = peak_mebibytes(lambda n=name: aggregate(n, {"x": stack}, np.ones(CLIENTS)))
            print(f"  {name:<13} {ours:6.2f}  NumPy {numpys:6.2f}  ours allocates {memory:.0f} MiB")
        for name in ("krum", "bulyan", "geometric-median"):
            ours = cpu_seconds(lambda n=name: aggregate(n, {"x": stack}, np.ones(CLIENTS)))
            print(f"  {name:<16} {ours:6.2f}")
        stack = mapped(Path(folder, "gram.bin"), CLIENTS, GRAM_COLUMNS)
        values, server = np.array(stack), {"x": np.array(stack[0])}
        numpys = cpu_seconds(lambda: values @ values.T)
        print(f"Gram matrix of {CLIENTS} × {GRAM_COLUMNS:,} float32; NumPy X @ X.T {numpys:.2f}")
        for name, centre in (("as they are", None), ("minus the server model", server)):
            ours = cpu_seconds(lambda c=centre: gram_matrix({"x": stack}, c))
            print(f"  {name:<23} {ours:6.2f}  {numpys / ours:4.0%} of NumPy's speed")
        Path(folder, "median.bin").unlink()
        stack = mapped(Path(folder, "many.bin"), MANY_CLIENTS, GRAM_COLUMNS)
        started = time.process_time()
        memory = peak_mebibytes(lambda: gram_matrix({"x": stack}, per_tensor=False))
        seconds = time.process_time() - started
        print(f"  {MANY_CLIENTS:,} clients: {seconds:.0f} s, allocates {memory:.0f} MiB")
    print("largest error of a block's product, over the norms' product")
    for kind in ("normal", "all positive", "one direction", "few large"):
        errors = ", ".join(f"{w}: {gram_error(kind, w):.1e}" for w in (1024, 4096, 16384))
        print(f"  {kind:<14} {errors}")


if __name__ == "__main__":
    main()
