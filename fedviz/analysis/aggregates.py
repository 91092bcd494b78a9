"""Aggregates of a round, next to its clients: what the averaging page shows, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedviz.analysis.courses import aggregate_scores, client_scores, metric_of
from fedviz.analysis.statistics import RoundSummary, relative_distance
from fedviz.dataset import Aggregate, Round
from fedviz.records import SERVER

__all__ = ["AggregateComparison", "AggregateRow", "compare_aggregates"]

MOST_TENSORS = 20
"""Tensors that are shown: those from which the clients lie furthest."""


@dataclass(frozen=True)
class AggregateRow:
    """One aggregate: how it was made, how well it does, how far it lies from the server model."""

    name: str
    weighting: str
    score: float | None
    moved: float
    saved: bool


@dataclass(frozen=True, eq=False)
class AggregateComparison:
    """The aggregates of a round.

    Attributes
    ----------
    rows : tuple of AggregateRow
    name : str or None
        Of the one that is looked at.
    metric : str or None
        Of the scores.
    client_ids : tuple of str
        Conforming clients.
    clients : ndarray of shape (clients,), float64
        Their scores, NaN where not measured.
    server : float or None
    tensors : tuple of str
        At most :data:`MOST_TENSORS`, in the signature's order: those from which the clients lie
        furthest, or, where the clients were not read, those that the aggregate moved most.
    distances : ndarray of shape (clients, tensors), float64, or None
        ‖client − aggregate‖ / ‖aggregate‖; None where the clients were not read.
    medians : ndarray of shape (tensors,), float64, or None
        Of the distances.
    moved : ndarray of shape (tensors,), float64
        ‖aggregate − server‖ / ‖server‖, NaN without a server model.
    """

    rows: tuple[AggregateRow, ...]
    name: str | None
    metric: str | None
    client_ids: tuple[str, ...]
    clients: np.ndarray
    server: float | None
    tensors: tuple[str, ...]
    distances: np.ndarray | None
    medians: np.ndarray | None
    moved: np.ndarray


def compare_aggregates(
    round_: Round,
    looked_at: Aggregate | None,
    fresh: Aggregate | None,
    summary: RoundSummary | None,
) -> AggregateComparison:
    """Compare the aggregates of a round.

    Parameters
    ----------
    round_ : Round
        With its clients.
    looked_at : Aggregate, optional
        Of this round, or ``fresh``.
    fresh : Aggregate, optional
        One that is not saved yet, of a dataset of its own.
    summary : RoundSummary, optional
        Of the round against the one that is looked at. Without it no client is read.
    """
    metric = metric_of(round_) or (metric_of(fresh.owner) if fresh else None)
    records = round_.conforming
    scores = client_scores(round_, metric) if metric else {}
    by_tensor = _by_tensor(round_, looked_at, summary)
    return AggregateComparison(
        rows=tuple(_rows(round_, fresh, metric)),
        name=looked_at.name if looked_at else None,
        metric=metric,
        client_ids=tuple(record.id for record in records),
        clients=np.array([scores.get(r.id, np.nan) for r in records], dtype="f8"),
        server=round_.metric(SERVER, metric) if metric else None,
        tensors=by_tensor.names,
        distances=by_tensor.distances,
        medians=by_tensor.medians,
        moved=by_tensor.moved,
    )


@dataclass(frozen=True, eq=False)
class _ByTensor:
    """As in :class:`AggregateComparison`."""

    names: tuple[str, ...]
    moved: np.ndarray
    distances: np.ndarray | None = None
    medians: np.ndarray | None = None


def _by_tensor(
    round_: Round, looked_at: Aggregate | None, summary: RoundSummary | None
) -> _ByTensor:
    if looked_at is None:
        return _ByTensor((), np.zeros(0))
    if summary is None:
        names = [spec.name for spec in looked_at.signature if spec.is_float]
        moved = np.array([_tensor_moved(looked_at, round_, name) for name in names])
        kept = _highest(moved)
        return _ByTensor(tuple(names[i] for i in kept), moved[kept])
    medians = np.array([_median(tensor.relative_distances) for tensor in summary.tensors])
    kept = _highest(medians)
    tensors = [summary.tensors[i] for i in kept]
    distances = np.array([tensor.relative_distances for tensor in tensors])
    return _ByTensor(
        tuple(tensor.name for tensor in tensors),
        np.array([tensor.moved for tensor in tensors], dtype="f8"),
        distances.reshape(len(tensors), len(round_.conforming)).T,
        medians[kept],
    )


def _tensor_moved(aggregate: Aggregate, round_: Round, tensor: str) -> float:
    if round_.server is None:
        return float("nan")
    return relative_distance(aggregate[tensor], round_.server[tensor])


def _rows(round_: Round, fresh: Aggregate | None, metric: str | None) -> list[AggregateRow]:
    saved = aggregate_scores(round_, metric) if metric else {}
    rows = [
        AggregateRow(name, each.weighting, saved.get(name), _moved(each, round_), True)
        for name, each in round_.aggregates.items()
        if fresh is None or name != fresh.name
    ]
    if fresh is not None:
        score = aggregate_scores(fresh.owner, metric).get(fresh.name) if metric else None
        moved = _moved(fresh, round_)
        rows.append(AggregateRow(fresh.name, fresh.weighting, score, moved, False))
    return rows


def _moved(aggregate: Aggregate, round_: Round) -> float:
    """‖aggregate − server‖ / ‖server‖ over all float tensors; NaN without a server model."""
    if round_.server is None:
        return float("nan")
    difference = norm = 0.0
    for spec in aggregate.signature:
        if spec.is_float:
            start = round_.server[spec.name].astype("f8")
            difference += float(np.sum((aggregate[spec.name].astype("f8") - start) ** 2))
            norm += float(np.sum(start**2))
    return float(np.sqrt(difference / norm)) if norm else float("nan")


def _highest(values: np.ndarray) -> list[int]:
    order = np.argsort(-np.nan_to_num(values, nan=-1.0), kind="stable")
    return sorted(int(i) for i in order[:MOST_TENSORS])


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")
