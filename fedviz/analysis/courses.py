"""What was measured, round by round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedviz.dataset import Round, WeightDataset
from fedviz.errors import FedvizError
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
    client_ids : tuple of str
        In the order of their first appearance.
    clients : ndarray of shape (rounds, clients), float64
        NaN where it was not measured.
    server, aggregate : ndarray of shape (rounds,), float64
        The aggregate is the first one that was measured.
    """

    metric: str
    rounds: tuple[int, ...]
    client_ids: tuple[str, ...]
    clients: np.ndarray
    server: np.ndarray
    aggregate: np.ndarray


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


def _is_readable(round_: Round) -> bool:
    try:
        _ = round_.records, round_.metrics
    except FedvizError:
        return False
    return True


def metric_courses(dataset: WeightDataset, name: str | None = None) -> MetricCourses | None:
    """The courses of one metric, by default the preferred one; None where it was not measured.

    A round whose metrics or clients cannot be read is as one in which nothing was measured.
    """
    rounds = [each if _is_readable(each) else None for each in dataset.rounds]
    readable = [each for each in rounds if each is not None]
    metric = next((m for m in map(metric_of, readable) if m), None) if name is None else name
    if metric is None or not any(m.name == metric for each in readable for m in each.metrics):
        return None
    ids = tuple(dict.fromkeys(record.id for each in readable for record in each.records))
    nan = float("nan")
    clients, server, aggregate = [], [], []
    for each in rounds:
        if each is None:
            clients.append([nan] * len(ids))
            server.append(nan)
            aggregate.append(nan)
            continue
        scores = client_scores(each, metric)
        clients.append([scores.get(client, nan) for client in ids])
        start = each.metric(SERVER, metric)
        server.append(nan if start is None else start)
        aggregate.append(next(iter(aggregate_scores(each, metric).values()), nan))
    return MetricCourses(
        metric,
        tuple(each.number for each in dataset.rounds),
        ids,
        np.array(clients, dtype="f8").reshape(len(dataset.rounds), len(ids)),
        np.array(server, dtype="f8"),
        np.array(aggregate, dtype="f8"),
    )
