"""How far each client lies from the aggregate in each tensor, and how alike two clients are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedviz.analysis.client_gram import RoundGram
from fedviz.analysis.gram import cosines

__all__ = ["Divergence", "PairComparison", "compare_pair", "divergence"]


@dataclass(frozen=True)
class Divergence:
    """Clients × tensors, the most unusual client first.

    Attributes
    ----------
    clients : tuple of str
        Clients with a row of their own.
    tensors : tuple of str
        Tensors with a column of their own, in the model's order.
    ratios : ndarray of shape (rows, tensors), float64
        Distance to the aggregate (without one, to the clients' mean) over the median client's;
        NaN where a client is not finite or the median distance is 0. A last row holds the medians
        of the clients that have no row.
    rest : int
        How many clients those are.
    hidden_tensors : int
        How many tensors have no column: those in which the clients differ least.
    """

    clients: tuple[str, ...]
    tensors: tuple[str, ...]
    ratios: np.ndarray
    rest: int
    hidden_tensors: int


def divergence(
    gram: RoundGram, model: str | None, order: np.ndarray, most_rows: int, most_tensors: int
) -> Divergence:
    """How far each client lies from an aggregate.

    Parameters
    ----------
    gram : RoundGram
    model : str or None
        The aggregate; None for the clients' mean.
    order : ndarray of int
        Places of the clients, those to be shown first.
    most_rows, most_tensors : int
        At most so many have a row or a column of their own.
    """
    distances = gram.distances_to(model)[:, order]
    finite = np.where(np.isfinite(distances), distances, np.nan)
    known = np.isfinite(finite).any(axis=1)
    medians = np.full(len(finite), np.nan)
    medians[known] = np.nanmedian(finite[known], axis=1)
    medians[medians == 0] = np.nan
    ratios = (finite / medians[:, None]).T
    widest = np.nan_to_num(ratios, nan=0).max(axis=0, initial=0)
    columns = np.sort(np.argsort(-widest, kind="stable")[:most_tensors])
    rows = len(order) if len(order) <= most_rows else most_rows - 1
    shown, others = ratios[:rows, columns], ratios[rows:, columns]
    if len(others):
        shown = np.vstack([shown, _medians(others)])
    return Divergence(
        tuple(gram.clients[i] for i in order[:rows]),
        tuple(gram.tensors[j] for j in columns),
        shown,
        len(others),
        len(gram.tensors) - len(columns),
    )


def _medians(rows: np.ndarray) -> np.ndarray:
    medians = np.full(rows.shape[1], np.nan)
    known = np.isfinite(rows).any(axis=0)
    medians[known] = np.nanmedian(rows[:, known], axis=0)
    return medians


@dataclass(frozen=True)
class PairComparison:
    """Two clients of a round.

    ``nearest`` and ``furthest`` name a tensor and the cosine of the two updates in it; None where
    tensors were not kept apart or there are not two of them.
    """

    cosine: float
    distance: float
    nearest: tuple[str, float] | None
    furthest: tuple[str, float] | None


def compare_pair(gram: RoundGram, one: str, other: str) -> PairComparison:
    """How alike two clients are, over the whole model and tensor by tensor."""
    places = [gram.clients.index(one), gram.clients.index(other)]
    pair = gram.total[np.ix_(places, places)]
    squared = pair[0, 0] + pair[1, 1] - 2 * pair[0, 1]
    found = {
        tensor: float(cosines(part[np.ix_(places, places)])[0, 1])
        for tensor, part in gram.by_tensor.items()
    }
    known = {tensor: value for tensor, value in found.items() if np.isfinite(value)}
    several = len(known) > 1
    return PairComparison(
        float(cosines(pair)[0, 1]),
        float(np.sqrt(max(0.0, squared))) if np.isfinite(squared) else float("nan"),
        max(known.items(), key=lambda item: item[1]) if several else None,
        min(known.items(), key=lambda item: item[1]) if several else None,
    )
