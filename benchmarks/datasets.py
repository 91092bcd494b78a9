"""Datasets to measure on, written into a folder that goes away afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter

__all__ = ["model_of", "write_dataset"]


def model_of(num_tensors: int, size: int) -> Signature:
    """A model of that many float32 vectors of one size."""
    specs = [TensorSpec(f"layer_{i}/kernel", (size,), "float32", True) for i in range(num_tensors)]
    return Signature(tuple(specs))


def write_dataset(
    path: Path, model: Signature, num_clients: int, *, num_divergent: int = 0, num_rounds: int = 1
) -> None:
    """Write random clients near a random server model; divergent ones have a float64 tensor."""
    rng = np.random.default_rng(0)
    last = model.tensors[-1]
    divergent = Signature((*model.tensors[:-1], TensorSpec(last.name, last.shape, "float64")))
    entries = [
        ClientEntry(f"c{i}", 10, divergent if i < num_divergent else None)
        for i in range(num_clients)
    ]
    server = rng.standard_normal((len(model), last.size), dtype="f4")
    with WeightDatasetWriter(path, model) as writer:
        for _ in range(num_rounds):
            with writer.round(entries, list(server)) as round_:
                for entry in entries:
                    noise = rng.standard_normal(server.shape, dtype="f4")
                    weights = list(server + np.float32(0.01) * noise)
                    if entry.signature is not None:
                        weights[-1] = weights[-1].astype("f8")
                    round_.write_client(entry.id, weights)
