"""What was measured, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedviz.dataset import Round, WeightDataset
from fedviz.records import AGGREGATE, SERVER

__all__ = ["MetricCourses", "aggregate_scores", "client_scores", "metric_courses", "metric_of"]

_PREFERRED = ("accuracy", "loss")


@dataclass(frozen=True)
class MetricCourses:
    """One metric of all models over the rounds.

    Attributes
    ----------
    metric : str
        ``accuracy``, or ``loss`` where that is all there is.
    rounds : tuple of int
    clients : ndarray of shape (rounds, clients), float64
        In the order of ``client_ids``; NaN where it was not measured.
    server, aggregate : ndarray of shape (rounds,), float64
        The aggregate is the first one that was measured.
    client_ids : tuple of str
        In the order of their first appearance in these rounds.
    """

    metric: str
    rounds: tuple[int, ...]
    clients: np.ndarray
    server: np.ndarray
    aggregate: np.ndarray
    client_ids: tuple[str, ...]


def metric_of(round_: Round) -> str | None:
    """The metric to show: accuracy, loss without it, None without either."""
    names = {metric.name for metric in round_.metrics}
    return next((name for name in _PREFERRED if name in names), None)


def client_scores(round_: Round, metric: str) -> dict[str, float]:
    """One metric of the round's clients, in their order."""
    found = {m.subject: m.value for m in round_.metrics if (m.role, m.name) == ("client", metric)}
    return {record.id: found.get(record.id, float("nan")) for record in round_.records}


def aggregate_scores(round_: Round, metric: str) -> dict[str, float]:
    """One metric of the round's aggregates, by name."""
    return {m.subject: m.value for m in round_.metrics if (m.role, m.name) == (AGGREGATE, metric)}


def metric_courses(
    dataset: WeightDataset, rounds: Sequence[Round] | None = None
) -> MetricCourses | None:
    """The courses of the preferred metric; None where nothing was measured.

    ``rounds`` are those to look at, where not all can be read.
    """
    rounds = dataset.rounds if rounds is None else rounds
    metric = next((m for m in map(metric_of, rounds) if m), None)
    if metric is None:
        return None
    ids = tuple(dict.fromkeys(record.id for each in rounds for record in each.records))
    nan = float("nan")
    clients, server, aggregate = [], [], []
    for each in rounds:
        scores = client_scores(each, metric)
        clients.append([scores.get(client, nan) for client in ids])
        start = each.metric(SERVER, metric)
        server.append(nan if start is None else start)
        aggregate.append(next(iter(aggregate_scores(each, metric).values()), nan))
    return MetricCourses(
        metric,
        tuple(each.number for each in rounds),
        np.array(clients, dtype="f8").reshape(len(rounds), len(ids)),
        np.array(server, dtype="f8"),
        np.array(aggregate, dtype="f8"),
        ids,
    )
