"""Whether a round is fit to be averaged, and what stands in the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedviz.analysis.statistics import RoundSummary
from fedviz.dataset import Round

__all__ = ["RoundHealth", "round_health", "skewed_clients"]

SKEWED_SHARE = 0.7
"""A client is skewed where its two most frequent labels make up more than this share."""


@dataclass(frozen=True)
class RoundHealth:
    """What is known of a round's fitness.

    Attributes
    ----------
    clients : int
        All that took part.
    divergent, nonfinite, unweighted : tuple of str
        Clients with another signature; with NaN or infinite values; without a positive
        ``num_examples``.
    dtypes : tuple of str
        Of the signature, most frequent first.
    skewed : tuple of str or None
        Clients with skewed labels; None where labels are not known.
    looked_at_values : bool
        Without it nothing is known of values that are not finite.
    """

    clients: int
    divergent: tuple[str, ...]
    nonfinite: tuple[str, ...]
    unweighted: tuple[str, ...]
    dtypes: tuple[str, ...]
    skewed: tuple[str, ...] | None
    looked_at_values: bool = True

    @property
    def fit(self) -> bool:
        """Whether TFF averages the round, and the mean is finite, as far as is known."""
        return self.clients > 0 and not (self.divergent or self.nonfinite)

    @property
    def unfit(self) -> tuple[str, ...]:
        """Clients that stand in the way of a mean."""
        return tuple(dict.fromkeys([*self.divergent, *self.nonfinite]))


def round_health(round_: Round, summary: RoundSummary | None) -> RoundHealth:
    """Judge a round by its table of clients and, where there is one, the summary of its weights."""
    ids = [record.id for record in round_.conforming]
    counts = summary.nonfinite if summary and summary.tensors else np.zeros(len(ids))
    dtypes = [spec.dtype for spec in round_.dataset.signature]
    return RoundHealth(
        clients=len(round_.records),
        divergent=tuple(record.id for record in round_.divergent),
        nonfinite=tuple(c for c, count in zip(ids, counts, strict=True) if count),
        unweighted=tuple(r.id for r in round_.records if not r.num_examples),
        dtypes=tuple(sorted(set(dtypes), key=dtypes.count, reverse=True)),
        skewed=skewed_clients(round_),
        looked_at_values=summary is not None,
    )


def skewed_clients(round_: Round) -> tuple[str, ...] | None:
    """Clients whose two most frequent labels make up more than :data:`SKEWED_SHARE`."""
    counts = round_.label_counts
    if counts is None or counts.shape[1] < 3:
        return None
    top = np.sort(counts, axis=1)[:, -2:].sum(axis=1)
    skewed = top > SKEWED_SHARE * np.maximum(1, counts.sum(axis=1))
    return tuple(r.id for r, flag in zip(round_.records, skewed, strict=True) if flag)
