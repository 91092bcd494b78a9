"""Clients for tests: random ones, and the same flattened."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

SHAPES = {"dense/kernel": (37, 11), "dense/bias": (11,), "scale": ()}


def random_stacks(
    num_clients: int, dtype: str = "float32", seed: int = 0, shapes: Mapping = SHAPES
) -> dict[str, np.ndarray]:
    """Normal values."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal((num_clients, *shape)).astype(dtype)
        for name, shape in shapes.items()
    }


def flat(stacks: Mapping[str, np.ndarray]) -> np.ndarray:
    """All clients' whole models, float64 of shape (clients, values)."""
    return np.concatenate([s.reshape(len(s), -1).astype("f8") for s in stacks.values()], axis=1)


def model(tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """One whole model, float64."""
    return np.concatenate([t.reshape(-1).astype("f8") for t in tensors.values()])


def column(*values: float, dtype: str = "float64") -> dict[str, np.ndarray]:
    """Clients that hold one number each."""
    return {"x": np.array(values, dtype=dtype).reshape(-1, 1)}
