"""A comparison of aggregators, as the page lays it out. This module knows no Streamlit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedviz.analysis.courses import client_scores, metric_of
from fedviz.comparison import Comparison, Contender
from fedviz.dataset import Round
from fedviz.figures.averaging import AggregateScore
from fedviz.records import SERVER

__all__ = ["ALL_TENSORS", "Ranked", "distances_between", "distances_from", "ranked"]

ALL_TENSORS = "all tensors"
MOST_TENSORS = 8
"""Columns for single tensors: those in which the models lie furthest apart."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """The contenders of a comparison, the best first.

    Attributes
    ----------
    metric : str or None
        What they are ranked by: accuracy, or loss without it. Without either they stay in the
        order in which they were asked for.
    contenders : tuple of Contender
        Those that could be applied.
    failed : tuple of Contender
    client_ids : tuple of str
    clients : ndarray of shape (clients,), float64
        Their scores alone, NaN where not measured.
    server : float or None
    """

    metric: str | None
    contenders: tuple[Contender, ...]
    failed: tuple[Contender, ...]
    client_ids: tuple[str, ...]
    clients: np.ndarray
    server: float | None

    @property
    def names(self) -> tuple[str, ...]:
        """Of those that could be applied, in their order."""
        return tuple(each.name for each in self.contenders)

    @property
    def spoilt(self) -> tuple[str, ...]:
        """Names of those whose model has values that are not finite."""
        return tuple(
            each.name
            for each in self.contenders
            if each.result and each.result.measurements.get("nonfinite_values")
        )

    @property
    def reference(self) -> str:
        """What distances are measured from unless another is chosen: the mean, where it is fit."""
        fit = [name for name in self.names if name not in self.spoilt] or list(self.names)
        return "mean" if "mean" in fit else fit[0]

    def score(self, contender: Contender) -> float:
        """Its score; NaN where it was not measured."""
        return contender.scores.get(self.metric or "", float("nan"))

    def scores(self, chosen: str) -> list[AggregateScore]:
        """Those that were measured, for the strip."""
        return [
            AggregateScore(each.name, self.score(each), each.name == chosen)
            for each in self.contenders
            if np.isfinite(self.score(each))
        ]


def ranked(found: Comparison, round_: Round) -> Ranked:
    """Rank what was compared, next to the clients of its round."""
    measured = {name for each in found.applied for name in each.scores}
    metric = next((name for name in ("accuracy", "loss") if name in measured), None)
    sign = -1.0 if metric == "accuracy" else 1.0
    contenders = sorted(
        found.applied, key=lambda each: sign * each.scores.get(metric or "", sign * np.inf)
    )
    known = client_scores(round_, metric) if metric and metric_of(round_) else {}
    return Ranked(
        metric=metric,
        contenders=tuple(contenders if metric else found.applied),
        failed=tuple(each for each in found.contenders if each.result is None),
        client_ids=found.clients,
        clients=np.array([known.get(client, np.nan) for client in found.clients], dtype="f8"),
        server=round_.metric(SERVER, metric) if metric else None,
    )


def distances_between(found: Comparison, names: Sequence[str], tensor: str) -> np.ndarray:
    """‖a − b‖ of the models with these names, in one tensor or all: float64 of shape (k, k)."""
    places = _places(found, names)
    values = found.distances if tensor == ALL_TENSORS else found.by_tensor[tensor]
    return values[np.ix_(places, places)]


def distances_from(
    found: Comparison, names: Sequence[str], reference: str
) -> tuple[np.ndarray, list[str]]:
    """‖a − reference‖ tensor by tensor.

    Returns
    -------
    values : ndarray of shape (k, columns), float64
        In the order of ``names``.
    columns : list of str
        :data:`ALL_TENSORS`, then at most :data:`MOST_TENSORS` tensors in the signature's order.
    """
    places, (at,) = _places(found, names), _places(found, [reference])
    tensors = list(found.by_tensor)
    furthest = [np.nan_to_num(found.by_tensor[name][at]).max(initial=0.0) for name in tensors]
    kept = sorted(np.argsort(-np.array(furthest), kind="stable")[:MOST_TENSORS])
    columns = [ALL_TENSORS, *(tensors[i] for i in kept)]
    rows = [found.distances[at], *(found.by_tensor[tensors[i]][at] for i in kept)]
    return np.array(rows).T[places], columns


def _places(found: Comparison, names: Sequence[str]) -> list[int]:
    order = [each.name for each in found.applied]
    return [order.index(name) for name in names]
