"""What a round tells people who do not know the field: a few facts in plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedviz.analysis.courses import aggregate_scores, client_scores, metric_of
from fedviz.dataset import Round
from fedviz.records import SERVER
from fedviz.signature import TensorSpec

__all__ = ["RoundStory", "labels_by_skew", "most_telling_tensor", "ranked_clients", "round_story"]

_MOST_VALUES = 2**20


@dataclass(frozen=True)
class RoundStory:
    """Facts of one round; None where something is not known.

    Attributes
    ----------
    clients : tuple of str
        Who took part and has the dataset's signature.
    left_out : int
        Clients with another signature.
    examples : int or None
        Of all clients together.
    parameters, bytes : int
        What one client sends.
    rounds : int
        So far, this one included.
    metric : str or None
        What is measured on held-out data; ``accuracy`` is a share that is recognised.
    best, worst, before, together : float or None
        The clients alone, the server model before the round, the aggregate.
    """

    clients: tuple[str, ...]
    left_out: int
    examples: int | None
    parameters: int
    bytes: int
    rounds: int
    metric: str | None
    best: float | None
    worst: float | None
    before: float | None
    together: float | None

    @property
    def is_share(self) -> bool:
        """Whether scores are shares of examples that are recognised."""
        return self.metric == "accuracy"

    @property
    def beats_all(self) -> bool:
        """Whether the aggregate does better than every client alone."""
        if self.together is None or self.best is None:
            return False
        return self.together > self.best if self.is_share else self.together < self.best


def round_story(round_: Round, aggregate: str | None) -> RoundStory:
    """The facts of a round and of one of its aggregates; reads no weights."""
    metric = metric_of(round_)
    ids = tuple(record.id for record in round_.conforming)
    scores = client_scores(round_, metric) if metric else {}
    known = [scores[c] for c in ids if np.isfinite(scores.get(c, np.nan))]
    best, worst = (max(known), min(known)) if known else (None, None)
    if metric != "accuracy":
        best, worst = worst, best
    examples = [r.num_examples for r in round_.records if r.num_examples is not None]
    dataset = round_.dataset
    return RoundStory(
        clients=ids,
        left_out=len(round_.divergent),
        examples=sum(examples) if examples else None,
        parameters=dataset.num_parameters,
        bytes=dataset.signature.nbytes,
        rounds=sum(each.number <= round_.number for each in dataset.rounds),
        metric=metric,
        best=best,
        worst=worst,
        before=round_.metric(SERVER, metric) if metric else None,
        together=aggregate_scores(round_, metric).get(aggregate or "") if metric else None,
    )


def ranked_clients(story: RoundStory, scores: Mapping[str, float]) -> list[str]:
    """The clients that were measured, the best first."""
    known = [client for client in story.clients if np.isfinite(scores.get(client, np.nan))]
    return sorted(known, key=lambda client: scores[client], reverse=story.is_share)


def most_telling_tensor(round_: Round) -> str | None:
    """The largest matrix or kernel that is quick to draw; else the largest float tensor."""
    floats = [spec for spec in round_.dataset.signature if spec.is_float and spec.size]

    def rank(spec: TensorSpec) -> tuple[bool, bool, int]:
        return spec.size <= _MOST_VALUES, len(spec.shape) > 1, spec.size

    return max(floats, key=rank).name if floats else None


def labels_by_skew(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clients ordered by how much their two most frequent labels make up.

    Parameters
    ----------
    counts : ndarray of shape (clients, classes), int

    Returns
    -------
    order : ndarray of shape (clients,), int
        The most skewed client first.
    top : ndarray of shape (clients, 2), int
        Each client's two most frequent labels, in the counts' own order of clients.
    share : ndarray of shape (clients,), float64
        What they make up of its examples; 0 for a client without examples.
    """
    top = np.argsort(-counts, axis=1, kind="stable")[:, :2]
    totals = counts.sum(axis=1)
    share = np.take_along_axis(counts, top, axis=1).sum(axis=1) / np.maximum(1, totals)
    return np.argsort(-share, kind="stable"), top, share
