"""Whether the numbers are right.

The mean against NumPy in float64, for several orders of the clients and numbers of shards: the
error in units in the last place (ulp) of the largest client value at that place, the largest over
all places. *Near* are clients around a model, *equal* are alike, *sorted* grow from client to
client, *random* have nothing in common. The rules next to Flower's on the same clients, and the
geometric median next to a convex solver's (CVXPY with Clarabel).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.peer_process import run_peer
from benchmarks.timing import Goal, Row
from fedviz.aggregation.federated_mean import federated_mean_of_rows
from fedviz.aggregation.memory_map import mapped_tensor
from fedviz.dataset import WeightDataset
from fedviz.signature import Signature
from fedviz.writer import ClientEntry, WeightDatasetWriter

COHORTS = {10: 100_000, 100: 100_000, 300: 50_000, 1000: 50_000}
KINDS = ("near", "equal", "sorted", "random")
ORDERS = 3
SHARDS = (1, 2, 3, 7)


def measure(folder: Path) -> Iterator[Row | Goal]:
    """The mean, then the rules."""
    worst = 0.0
    for num_clients, size in COHORTS.items():
        for kind in KINDS:
            found = largest_error(folder / "numbers.h5", values_of(kind, num_clients, size))
            worst = max(worst, found)
            yield Row(f"mean of {num_clients:,} × {size:,}, {kind}", f"{found:.3f} ulp")
    cases = ORDERS * len(SHARDS) * 2
    yield Goal(
        "mean within 1 float32 ulp of the largest client value at that place, for any order of "
        "clients and number of shards",
        f"{worst:.3f} ulp at most, {cases} orders, shards and weightings of each",
        worst <= 1,
    )
    yield from compared("rules", "Krum, Multi-Krum, Bulyan, median, trimmed mean as Flower's")
    yield from compared("convex", "geometric median as a convex solver's")


def values_of(kind: str, num_clients: int, size: int) -> np.ndarray:
    """Values of all clients, float32 of shape (num_clients, size)."""
    rng = np.random.default_rng(num_clients)
    model = (1 + rng.random(size)).astype("f4")
    if kind == "equal":
        return np.repeat(model[np.newaxis], num_clients, axis=0)
    values = rng.standard_normal((num_clients, size), dtype="f4")
    if kind == "near":
        return model * (1 + np.float32(0.01) * values)
    return np.sort(values, axis=0) if kind == "sorted" else values


def largest_error(path: Path, values: np.ndarray) -> float:
    """Over orders, shards and weights."""
    rng = np.random.default_rng(2)
    largest = np.abs(values).max(axis=0).astype("f8")
    unit = np.exp2(np.floor(np.log2(np.maximum(largest, 2.0**-126))) - 23)
    examples = rng.integers(1, 2000, len(values)).astype("f8")
    worst = 0.0
    for number in range(ORDERS):
        order = rng.permutation(len(values)) if number else np.arange(len(values))
        shuffled = values[order]
        write(path, shuffled)
        with WeightDataset(path) as dataset:
            tensor = mapped_tensor(dataset.round(), dataset.signature["x"])
        for weights in (np.ones(len(values)), examples[order]):
            exact = weights @ shuffled.astype("f8") / weights.sum()
            for shards in SHARDS:
                (mean,) = federated_mean_of_rows([tensor], weights, shards)
                worst = max(worst, float((np.abs(mean - exact) / unit).max()))
    return worst


def write(path: Path, values: np.ndarray) -> None:
    """One tensor of all clients."""
    entries = [ClientEntry(f"c{i}", 1) for i in range(len(values))]
    with (
        WeightDatasetWriter(path, Signature.of({"x": values[0]})) as writer,
        writer.round(entries) as round_,
    ):
        for entry, row in zip(entries, values, strict=True):
            round_.write_client(entry.id, {"x": row})


def compared(module: str, goal: str) -> Iterator[Row | Goal]:
    """What a peer's comparison says."""
    rows = json.loads(run_peer(module, "--json"))
    for row in rows:
        note = "" if row["cells"] is None else f"{row['cells']:.3%} of the cells beyond 1e-6"
        yield Row(f"{row['rule']}, {row['case']}", f"{row['largest']:.1e}", note)
    apart = [row for row in rows if not row["explained"]]
    figure = f"{len(rows) - len(apart)} of {len(rows)} cases"
    yield Goal(goal, f"{figure}, apart at most {max(r['largest'] for r in rows):.1e}", not apart)
