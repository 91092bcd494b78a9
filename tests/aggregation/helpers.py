"""What the tests of averaging share: datasets, and the mean by another way than TFF."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np

from fedviz.signature import Signature
from fedviz.writer import ClientEntry, WeightDatasetWriter

Weights = Mapping[str, np.ndarray]


def f32(*values):
    return np.array(values, np.float32)


def write_round(
    path: Path,
    clients: Sequence[Weights],
    num_examples: Sequence[int | None] | None = None,
    server: Weights | None = None,
    divergent: Mapping[str, Weights] | None = None,
) -> Path:
    """One round of clients c00, c01, ... and of divergent ones by their ids."""
    divergent = divergent or {}
    examples = num_examples or [1] * len(clients)
    entries = [ClientEntry(f"c{i:02}", n) for i, n in enumerate(examples)]
    entries += [ClientEntry(c, 1, Signature.of(w)) for c, w in divergent.items()]
    reference = server or clients[0]
    with (
        WeightDatasetWriter(path, Signature.of(reference)) as writer,
        writer.round(entries, server) as round_,
    ):
        for entry, weights in zip(entries, [*clients, *divergent.values()], strict=True):
            round_.write_client(entry.id, weights)
    return path


def random_clients(n: int, seed: int = 0) -> list[Weights]:
    """Clients with tensors of every float dtype and many shapes, near a common model."""
    rng = np.random.default_rng(seed)
    shapes = {
        "dense/kernel": ((130, 127), "float32"),
        "dense/bias": ((127,), "float32"),
        "scale": ((), "float32"),
        "empty": ((0, 3), "float32"),
        "half/kernel": ((3, 5, 7), "float16"),
        "brain/kernel": ((11, 3), ml_dtypes.bfloat16),
        "double/kernel": ((9, 2), "float64"),
    }
    common = {name: rng.standard_normal(shape) for name, (shape, _) in shapes.items()}
    return [
        {
            name: np.asarray(common[name] + 0.1 * rng.standard_normal(shape)).astype(dtype)
            for name, (shape, dtype) in shapes.items()
        }
        for _ in range(n)
    ]


def numpy_mean(arrays: Sequence[np.ndarray], weights: Sequence[int]) -> np.ndarray:
    """Float64, client after client."""
    pairs = zip(arrays, weights, strict=True)
    return np.asarray(sum(w * a.astype(np.float64) for a, w in pairs) / sum(weights))


def ulps(found: np.ndarray, expected: np.ndarray, clients: Sequence[np.ndarray]) -> float:
    """Largest error, in units in the last place of the largest client value at that place."""
    if not found.size:
        return 0.0
    info = ml_dtypes.finfo(found.dtype)
    largest = np.max([np.abs(c).astype(np.float64) for c in clients], axis=0)
    exponent = np.floor(np.log2(np.maximum(largest, float(info.smallest_normal))))
    error = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    return float(np.max(error / np.exp2(exponent - info.nmant)))


def rounding_bound(dtype: np.dtype) -> float:
    """How many ulps a mean may be off: one rounding, of a sum that is itself float64's."""
    return 4 if dtype == np.float64 else 0.501
