"""What the file calls its things, and the columns of its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

__all__ = ["ALIGNMENT", "FORMAT", "FORMAT_VERSION", "TABLES", "TEXT", "round_key", "tensor_key"]

FORMAT = "fedviz-weights"
FORMAT_VERSION = 1
ALIGNMENT = 4096
"""Every object begins at a multiple of this many bytes, so that tensors can be memory-mapped."""

TEXT = h5py.string_dtype()
TABLES: Mapping[str, np.dtype[Any]] = {
    "signature": np.dtype(
        [
            ("index", "u4"),
            ("name", TEXT),
            ("shape", h5py.vlen_dtype("u8")),
            ("dtype", TEXT),
            ("trainable", "i1"),
        ]
    ),
    "clients": np.dtype(
        [
            ("id", TEXT),
            ("num_examples", "i8"),
            ("digest", TEXT),
            ("conforming", "u1"),
            ("row", "i8"),
        ]
    ),
    "metrics": np.dtype([("role", TEXT), ("subject", TEXT), ("name", TEXT), ("value", "f8")]),
    "ground_truth": np.dtype(
        [("client", TEXT), ("kind", TEXT), ("argument", TEXT), ("tensors", TEXT)]
    ),
}
"""The columns of the file's tables. Later versions may add columns; none leaves."""


def round_key(number: int) -> str:
    """Name of a round's group: six digits."""
    return f"{number:06d}"


def tensor_key(index: int) -> str:
    """Name of a tensor's dataset: three digits, more where there are more tensors."""
    return f"{index:03d}"
