"""1,000 clients of 500 small tensors: writing, opening and checking them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.datasets import model_of, write_dataset
from benchmarks.timing import Row, median_seconds, seconds
from fedviz.analysis.check import check
from fedviz.dataset import WeightDataset
from fedviz.describe import dataset_info

CLIENTS, TENSORS, SIZE, ROUNDS = 1000, 500, 8, 5

COLD_CHECK = """
import sys, time
import fedviz.analysis.check as module
started = time.perf_counter()
module.check(sys.argv[1], look_at="signatures")
print(time.perf_counter() - started)
"""


def measure(folder: Path) -> Iterator[Row]:
    """Without divergent clients, with 100, and over several rounds."""
    model = model_of(TENSORS, SIZE)
    for divergent in (0, 100):
        path = folder / f"{divergent}.h5"
        name = f"1,000 × 500, {divergent} divergent"
        yield Row(
            f"{name}: write",
            seconds(lambda p=path, d=divergent: write_dataset(p, model, CLIENTS, num_divergent=d)),
            f"{path.stat().st_size / 2**20:,.0f} MB",
        )
        yield Row(f"{name}: check signatures, a new interpreter", cold_check(path), "goal: 1 s")
        for case, found in _median_reads(path, values=not divergent).items():
            yield Row(f"{name}: {case}", found)
        path.unlink()
    path = folder / "rounds.h5"
    write_dataset(path, model, CLIENTS, num_rounds=ROUNDS)
    times = median_seconds({"index": lambda: _info(path)}, 3)
    yield Row(f"1,000 × 500 × {ROUNDS} rounds: what `fedviz info` reads", times["index"])


def cold_check(path: Path) -> float:
    """Seconds of the first check that a process makes, its imports left out."""
    command = [sys.executable, "-c", COLD_CHECK, str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _median_reads(path: Path, *, values: bool) -> dict[str, float]:
    cases = {
        "open": lambda: WeightDataset(path).close(),
        "check signatures": lambda: check(path, look_at="signatures"),
    }
    if values:
        cases["check finiteness"] = lambda: check(path, look_at="finiteness")
        cases["check values"] = lambda: check(path)
    return median_seconds(cases, 3)


def _info(path: Path) -> None:
    with WeightDataset(path) as dataset:
        dataset_info(dataset)
