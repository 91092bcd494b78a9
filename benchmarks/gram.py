"""Comparing clients: the Gram matrix of a round against NumPy's product of an array in memory.

Ours is read from the file, minus the server model, with sums in float64; NumPy's is float32
throughout.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.datasets import model_of, write_dataset
from benchmarks.timing import Row, median_seconds, seconds
from fedviz.analysis.client_gram import path_of_round, round_gram
from fedviz.analysis.clustering import similarity
from fedviz.analysis.divergence import divergence
from fedviz.analysis.folding import dendrogram, fold
from fedviz.analysis.gram_cache import keep_round_gram, kept_round_gram
from fedviz.analysis.outliers import outlier_scores
from fedviz.analysis.projection import project
from fedviz.dataset import Round, WeightDataset

CLIENTS, TENSORS, SIZE = 100, 8, 207_500
MANY_CLIENTS = 1000


def measure(folder: Path) -> Iterator[Row]:
    """100 clients × 1.66 M parameters; the views of 1,000 clients; 1,000 × 1.66 M."""
    path = folder / "hundred.h5"
    write_dataset(path, model_of(TENSORS, SIZE), CLIENTS)
    with WeightDataset(path) as dataset:
        round_ = dataset.round()
        whole = np.concatenate([round_.read_stack(t) for t in dataset.signature.names], axis=1)
        times = median_seconds(
            {"numpy": lambda: whole @ whole.T, "fedviz": lambda: round_gram(round_)}
        )
    path.unlink()
    name = f"{CLIENTS} × {TENSORS * SIZE / 1e6:.2f} M float32"
    yield Row(f"{name}: NumPy's X @ X.T, in memory", times["numpy"])
    speed = times["numpy"] / times["fedviz"]
    note = f"{speed:.0%} of NumPy's speed; goal: 50 %"
    yield Row(f"{name}: Gram matrices of the updates, from the file", times["fedviz"], note)
    yield from _many(folder)


def _many(folder: Path) -> Iterator[Row]:
    path = folder / "thousand.h5"
    write_dataset(path, model_of(TENSORS, SIZE), MANY_CLIENTS)
    name = f"{MANY_CLIENTS:,} × {TENSORS * SIZE / 1e6:.2f} M float32"
    with WeightDataset(path) as dataset:
        round_ = dataset.round()
        taken = seconds(lambda: keep_round_gram(folder, round_, round_gram(round_)))
        # Watching memory takes as long again, so the time is another run's.
        tracemalloc.start()
        round_gram(round_)
        most = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        note = f"NumPy holds at most {most:.0f} MiB"
        yield Row(f"{name}: Gram matrices, computed and kept", taken, note)
        yield from _views(folder, round_)


def _views(folder: Path, round_: Round) -> Iterator[Row]:
    """What the page computes of a Gram matrix that is kept."""
    gram = kept_round_gram(folder, round_)
    assert gram is not None
    alike = similarity(gram.of_clients())
    order = alike.clusters.order
    times = median_seconds(
        {
            "read from the cache": lambda: kept_round_gram(folder, round_),
            "clusters and silhouettes": lambda: similarity(gram.of_clients()),
            "folded matrix": lambda: fold(alike.cosines, order, 60),
            "dendrogram": lambda: dendrogram(alike.clusters.linkage, order),
            "outlier scores": lambda: outlier_scores(gram, alike),
            "projection": lambda: project(path_of_round(gram, 0).gram),
            "divergence": lambda: divergence(gram, None, order, 20, 24),
        }
    )
    for view, taken in times.items():
        yield Row(f"{MANY_CLIENTS:,} clients: {view}", taken, "goal: 0.5 s")
