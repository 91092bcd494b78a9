"""Statistics of a round: how far clients lie from the server model, the aggregate and each other.

All sums are in float64, over blocks of clients, so that memory does not grow with the cohort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedviz.analysis.blocks import client_blocks
from fedviz.dataset import Aggregate, Round, WeightMap
from fedviz.errors import FedvizError

__all__ = [
    "RoundSummary",
    "TensorSummary",
    "movement_by_round",
    "relative_distance",
    "rms",
    "summarise_round",
    "summarise_tensor",
]


@dataclass(frozen=True)
class TensorSummary:
    """One tensor of one round.

    Attributes
    ----------
    updates : ndarray of shape (conforming clients,), float64
        Norm of client − server; NaN without a server model, or where a value is not finite.
    distances : ndarray of shape (conforming clients,), float64
        Norm of client − aggregate; NaN without an aggregate.
    spread : float
        Standard deviation across the clients (root of its mean square over the cells), over the
        tensor's rms in the aggregate, or in the clients' mean without one.
    moved : float
        ‖aggregate − server‖ / ‖server‖; NaN where one is absent or the server's tensor is 0.
    aggregate_norm : float
        ‖aggregate‖; NaN without one.
    nonfinite : ndarray of shape (conforming clients,), int64
        NaN and infinite values of each client.
    """

    name: str
    updates: np.ndarray
    distances: np.ndarray
    spread: float
    moved: float
    aggregate_norm: float
    nonfinite: np.ndarray

    @property
    def relative_distances(self) -> np.ndarray:
        """‖client − aggregate‖ / ‖aggregate‖, float64 of shape (clients,); NaN where undefined."""
        return self.distances / (self.aggregate_norm or np.nan)


@dataclass(frozen=True)
class RoundSummary:
    """All tensors of one round."""

    tensors: tuple[TensorSummary, ...]

    @property
    def nonfinite(self) -> np.ndarray:
        """NaN and infinite values of each conforming client's model, int64 of shape (clients,)."""
        return np.sum([t.nonfinite for t in self.tensors], axis=0, dtype="i8")

    @property
    def updates(self) -> np.ndarray:
        """Norm of each conforming client's whole update, float64 of shape (clients,)."""
        return _combined([t.updates for t in self.tensors])

    @property
    def distances(self) -> np.ndarray:
        """Distance of each conforming client's whole model to the aggregate, float64 (clients,)."""
        return _combined([t.distances for t in self.tensors])


def _combined(norms: Sequence[np.ndarray]) -> np.ndarray:
    return np.sqrt(np.sum(np.square(norms), axis=0)) if norms else np.zeros(0)


def summarise_round(round_: Round, aggregate: Aggregate | None) -> RoundSummary:
    """Summarise every float tensor of a round: one pass over its weights."""
    specs = [spec for spec in round_.dataset.signature if spec.is_float]
    return RoundSummary(tuple(summarise_tensor(round_, s.name, aggregate) for s in specs))


def summarise_tensor(round_: Round, tensor: str, aggregate: Aggregate | None) -> TensorSummary:
    """Summarise one tensor of a round; see :class:`TensorSummary`."""
    size = round_.dataset.signature[tensor].size
    server = _flat(round_.server, tensor, size)
    mean = _flat(aggregate, tensor, size)
    clients = len(round_.conforming)
    updates, distances = np.empty(clients), np.empty(clients)
    nonfinite = np.zeros(clients, dtype="i8")
    # Sums of x − origin: the squares of the weights themselves would drown the variance.
    origin = np.nan_to_num(server, nan=0.0, posinf=0.0, neginf=0.0)
    total, squares = np.zeros(size), np.zeros(size)
    with np.errstate(invalid="ignore", over="ignore"):
        for rows, block in client_blocks(round_, tensor):
            values = block.astype("f8")
            nonfinite[rows] = (~np.isfinite(values)).sum(axis=1)
            updates[rows] = _norms(values - server)
            distances[rows] = _norms(values - mean)
            values -= origin
            total += values.sum(axis=0)
            squares += np.einsum("ij,ij->j", values, values)
        centre = total / max(1, clients)
        variance = np.maximum(squares / max(1, clients) - centre**2, 0)
        scale = rms(mean) if aggregate is not None else rms(centre + origin)
        spread = float(np.sqrt(variance.mean()) / scale) if size and scale else float("nan")
    return TensorSummary(
        tensor,
        updates,
        distances,
        spread,
        relative_distance(mean, server),
        float(np.linalg.norm(mean)),
        nonfinite,
    )


def _flat(weights: WeightMap | None, tensor: str, size: int) -> np.ndarray:
    if weights is None:
        return np.full(size, np.nan)
    return weights[tensor].astype("f8").reshape(-1)


def _norms(rows: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("ij,ij->i", rows, rows))


def rms(values: np.ndarray) -> float:
    """Root mean square of the finite values; NaN where there is none."""
    finite = np.asarray(values, dtype="f8")
    finite = finite[np.isfinite(finite)]
    return float(np.sqrt(np.mean(finite**2))) if finite.size else float("nan")


def relative_distance(a: np.ndarray, b: np.ndarray) -> float:
    """‖a − b‖ / ‖b‖ over the cells in which both are finite, in float64; NaN where b is 0."""
    a, b = np.asarray(a, dtype="f8"), np.asarray(b, dtype="f8")
    both = np.isfinite(a) & np.isfinite(b)
    norm = float(np.linalg.norm(b[both]))
    return float(np.linalg.norm(a[both] - b[both]) / norm) if norm else float("nan")


def movement_by_round(rounds: Sequence[Round], tensor: str, aggregate: str) -> list[float]:
    """‖aggregate − server‖ of one tensor over the rounds; NaN where one cannot be read."""
    return [_movement(each, tensor, aggregate) for each in rounds]


def _movement(round_: Round, tensor: str, aggregate: str) -> float:
    try:
        if round_.server is None or aggregate not in round_.aggregates:
            return float("nan")
        difference = round_.aggregates[aggregate][tensor].astype("f8") - round_.server[tensor]
    except FedvizError:
        return float("nan")
    return float(np.linalg.norm(difference))
