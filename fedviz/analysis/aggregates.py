"""Aggregates of a round, next to its clients: what the averaging page shows, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedviz.analysis.courses import aggregate_scores, client_scores, metric_of
from fedviz.analysis.statistics import RoundSummary, summarise_round
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
        At most :data:`MOST_TENSORS`, in the signature's order.
    distances : ndarray of shape (clients, tensors), float64
        ‖client − aggregate‖ / ‖aggregate‖.
    medians, moved : ndarray of shape (tensors,), float64
        Of the distances; ‖aggregate − server‖ / ‖server‖.
    """

    rows: tuple[AggregateRow, ...]
    name: str | None
    metric: str | None
    client_ids: tuple[str, ...]
    clients: np.ndarray
    server: float | None
    tensors: tuple[str, ...]
    distances: np.ndarray
    medians: np.ndarray
    moved: np.ndarray


def compare_aggregates(
    round_: Round, looked_at: Aggregate | None, fresh: Aggregate | None
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
    """
    metric = metric_of(round_) or (metric_of(fresh.owner) if fresh else None)
    records = round_.conforming
    scores = client_scores(round_, metric) if metric else {}
    summary = summarise_round(round_, looked_at)
    kept = _widest(summary)
    distances = np.array([summary.tensors[i].relative_distances for i in kept]).reshape(
        len(kept), len(records)
    )
    return AggregateComparison(
        rows=tuple(_rows(round_, fresh, metric)),
        name=looked_at.name if looked_at else None,
        metric=metric,
        client_ids=tuple(record.id for record in records),
        clients=np.array([scores.get(r.id, np.nan) for r in records], dtype="f8"),
        server=round_.metric(SERVER, metric) if metric else None,
        tensors=tuple(summary.tensors[i].name for i in kept),
        distances=distances.T,
        medians=np.array([_median(row) for row in distances]),
        moved=np.array([summary.tensors[i].moved for i in kept], dtype="f8"),
    )


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


def _widest(summary: RoundSummary) -> list[int]:
    medians = [_median(tensor.relative_distances) for tensor in summary.tensors]
    order = np.argsort(-np.nan_to_num(medians, nan=-1.0), kind="stable")
    return sorted(int(i) for i in order[:MOST_TENSORS])


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")
