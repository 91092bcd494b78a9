"""Importing the weights of other programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.timing import Row, seconds
from fedviz.importing import import_clients

CLIENTS, TENSORS, SIZE = 100, 50, 64


def measure(folder: Path) -> Iterator[Row]:
    """One ``.npz`` a client."""
    rng = np.random.default_rng(0)
    files = [folder / f"c{i}.npz" for i in range(CLIENTS)]
    for file in files:
        values = rng.standard_normal((TENSORS, SIZE), dtype="f4")
        np.savez(file, **{f"layer_{i}": tensor for i, tensor in enumerate(values)})
    took = seconds(lambda: import_clients(files, folder / "clients.h5"))
    yield Row(
        f"import {CLIENTS} clients × {TENSORS} tensors from .npz",
        took,
        f"{1000 * took / CLIENTS:.0f} ms a client",
    )
