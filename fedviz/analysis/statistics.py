"""Statistics of a round: how far clients lie from the server model, the aggregate and each other.

All sums are in float64, over blocks of clients, so that memory does not grow with the cohort.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fedviz.analysis.blocks import client_blocks
from fedviz.analysis.stacks import BlockReports
from fedviz.dataset import Aggregate, Round, WeightMap
from fedviz.errors import FedvizError
from fedviz.progress import ProgressCallback, silent

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
    server_norm : float
        ‖server‖; NaN without one.
    norm, zeros : float
        Norm of the tensor, and the share of its values that are exactly 0: in the aggregate, in
        the server model without one, in the clients' mean without either.
    """

    name: str
    updates: np.ndarray
    distances: np.ndarray
    spread: float
    moved: float
    aggregate_norm: float
    nonfinite: np.ndarray
    server_norm: float
    norm: float
    zeros: float

    @property
    def drift(self) -> float:
        """Median of ‖client − server‖ / ‖server‖; NaN where not known, or where that is 0."""
        known = self.updates[np.isfinite(self.updates)]
        if not known.size or not self.server_norm:
            return float("nan")
        return float(np.median(known) / self.server_norm)

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


def summarise_round(
    round_: Round, aggregate: Aggregate | None, progress: ProgressCallback = silent
) -> RoundSummary:
    """Summarise every float tensor of a round: one pass over its weights.

    ``progress`` is told of every block that is read; what it raises ends the work.
    """
    specs = [spec for spec in round_.dataset.signature if spec.is_float]
    clients = len(round_.conforming)
    report = BlockReports(
        clients * sum(spec.nbytes for spec in specs), "reading the weights", progress
    )
    found = tuple(
        summarise_tensor(round_, s.name, aggregate, lambda block: report.before(block.nbytes))
        for s in specs
    )
    report.end()
    return RoundSummary(found)


def summarise_tensor(
    round_: Round,
    tensor: str,
    aggregate: Aggregate | None,
    before_block: Callable[[np.ndarray], None] | None = None,
) -> TensorSummary:
    """Summarise one tensor of a round; see :class:`TensorSummary`.

    ``before_block`` is called with every block of clients before it is looked at.
    """
    size = round_.dataset.signature[tensor].size
    server = _flat(round_.server, tensor, size)
    mean = _flat(aggregate, tensor, size)
    clients = len(round_.conforming)
    updates, distances = np.empty(clients), np.empty(clients)
    nonfinite = np.zeros(clients, dtype="i8")
    sums = _Sums(server, mean)
    with np.errstate(invalid="ignore", over="ignore"):
        for rows, block in client_blocks(round_, tensor):
            if before_block is not None:
                before_block(block)
            updates[rows], distances[rows] = sums.add(block)
            doubtful = ~np.isfinite(sums.last_sizes)
            nonfinite[rows][doubtful] = (~np.isfinite(block[doubtful])).sum(axis=1)
        centre = sums.total / max(1, clients)
        variance = np.maximum(sums.squares / max(1, clients) - centre**2, 0)
        middle = centre + sums.origin
        shown = mean if aggregate is not None else middle
        scale = rms(shown)
        spread = float(np.sqrt(variance.mean()) / scale) if size and scale else float("nan")
    if aggregate is None and round_.server is not None:
        shown = server
    return TensorSummary(
        tensor,
        updates,
        distances,
        spread,
        relative_distance(mean, server),
        float(np.linalg.norm(mean)),
        nonfinite,
        server_norm=float(np.linalg.norm(server)),
        norm=float(np.linalg.norm(shown)),
        zeros=float(np.mean(shown == 0)) if size else float("nan"),
    )


_CELLS, _NARROWEST = 2**16, 1024
"""Cells of a block that are looked at together, so that what they need stays in the cache."""


class _Sums:
    """Running sums over clients, in float64, some columns at a time.

    Sums are of x − origin, the server model: the squares of the weights themselves would drown
    the variance.
    """

    def __init__(self, server: np.ndarray, mean: np.ndarray) -> None:
        self.origin = np.nan_to_num(server, nan=0.0, posinf=0.0, neginf=0.0)
        self.total = np.zeros(len(server))
        self.squares = np.zeros(len(server))
        self.last_sizes = np.zeros(0)
        # Where the server model is finite, x − server is x − origin: it is computed already.
        self._is_shared = bool(np.isfinite(server).all())
        self._server = server
        self._mean = mean - self.origin

    def add(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add clients, one a row; returns the norms of x − server and of x − mean."""
        rows, size = block.shape
        sizes, updates, distances = np.zeros(rows), np.zeros(rows), np.zeros(rows)
        width = max(_NARROWEST, _CELLS // max(1, rows))
        for first in range(0, size, width):
            part = slice(first, first + width)
            values = block[:, part].astype("f8")
            if not self._is_shared:
                updates += _squares(values - self._server[part])
            values -= self.origin[part]
            self.total[part] += values.sum(axis=0)
            squares = np.square(values)
            self.squares[part] += squares.sum(axis=0)
            sizes += squares.sum(axis=1)
            values -= self._mean[part]
            distances += _squares(values)
        self.last_sizes = sizes
        return np.sqrt(sizes if self._is_shared else updates), np.sqrt(distances)


def _flat(weights: WeightMap | None, tensor: str, size: int) -> np.ndarray:
    if weights is None:
        return np.full(size, np.nan)
    return weights[tensor].astype("f8").reshape(-1)


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


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
