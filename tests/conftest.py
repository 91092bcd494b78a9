"""Datasets that many tests read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter

# How long an example takes says more of the machine than of the code.
settings.register_profile("fedviz", deadline=None)
settings.load_profile("fedviz")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: at the end they would keep one processor busy."""
    items.sort(
        key=lambda item: (not item.get_closest_marker("browser"), "aggregation" not in item.nodeid)
    )


SIGNATURE = Signature(
    (
        TensorSpec("dense/kernel", (5, 10), "float32", True),
        TensorSpec("dense/bias", (10,), "float32", True),
        TensorSpec("dense_1/kernel", (10, 2), "float32", True),
        TensorSpec("dense_1/bias", (2,), "float32", True),
    )
)


def random_weights(signature: Signature, rng: np.random.Generator) -> list[np.ndarray]:
    """Weights of a signature: normal floats, small integers, random bools."""
    arrays = []
    for spec in signature:
        if spec.is_float:
            values = rng.standard_normal(spec.shape)
        elif spec.dtype == "bool":
            values = rng.integers(0, 2, spec.shape)
        else:
            values = rng.integers(0, 100, spec.shape)
        arrays.append(np.asarray(values).astype(spec.numpy_dtype))
    return arrays


@pytest.fixture
def signature() -> Signature:
    return SIGNATURE


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write one round of given clients; returns the file."""

    def write(
        clients: Mapping[str, Sequence[np.ndarray] | Mapping[str, np.ndarray]],
        *,
        signature: Signature = SIGNATURE,
        server: Sequence[np.ndarray] | None = None,
        num_examples: Mapping[str, int | None] | None = None,
        name: str = "clients.h5",
        rounds: int = 1,
    ) -> Path:
        path = tmp_path / name
        entries = [
            ClientEntry(c, (num_examples or {}).get(c, 10), _own_signature(w))
            for c, w in clients.items()
        ]
        with WeightDatasetWriter(path, signature) as writer:
            for _ in range(rounds):
                with writer.round(entries, server) as round_:
                    for client, weights in clients.items():
                        round_.write_client(client, weights)
        return path

    return write


def _own_signature(weights: Sequence[np.ndarray] | Mapping[str, np.ndarray]) -> Signature | None:
    return Signature.of(weights) if isinstance(weights, Mapping) else None
