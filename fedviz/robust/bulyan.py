"""Bulyan: Krum chooses the clients, and every cell's values near their median are averaged.

The order of choosing follows the paper and Flower's ``flwr.server.strategy.aggregate``: Krum is
repeated on those that remain, n − 2f times. (Flower's newer ``flwr.serverapp`` takes the n − 2f
best scores of one run instead, which is not the paper's rule.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedviz.analysis.gram import krum_scores, pairwise_distances
from fedviz.analysis.stacks import Stacks
from fedviz.errors import CohortError
from fedviz.progress import ProgressCallback, silent
from fedviz.robust.clients import Clients, RobustResult, combined, count_nonfinite, require
from fedviz.robust.krum import FAULTY
from fedviz.robust.ordering import ORDERING_WIDTH, ordered

__all__ = ["bulyan", "minimum_cohort_of_bulyan"]


def minimum_cohort_of_bulyan(f: int) -> int:
    """How many clients the rule needs: n ≥ 4f + 3."""
    return 4 * f + 3


def bulyan(
    stacks: Stacks,
    weights: np.ndarray,
    server: Any = None,
    progress: ProgressCallback = silent,
    *,
    f: int = 1,
) -> RobustResult:
    """The mean, in every cell, of the values nearest to the median of centrally placed clients.

    Krum is repeated until θ = n − 2f clients are chosen; θ − 2f of their values are averaged.
    Clients of weight 0 take no part; the others count the same. Where two values lie equally far
    from the median on either side and only one is averaged, it is the smaller. The server model is
    not used.

    Parameters
    ----------
    stacks : mapping of str to ndarray or StoredStack of shape (clients, …)
    weights : ndarray of shape (clients,), float64
    server : mapping of str to ndarray, optional
    progress : callable, optional
    f : int
        How many clients may be faulty.

    Raises
    ------
    CohortError
        n < 4f + 3, or so many clients have values that are not finite that θ cannot be chosen.

    References
    ----------
    El Mhamdi, Guerraoui and Rouault, The Hidden Vulnerability of Distributed Learning in Byzantium,
    ICML 2018.
    """
    clients = Clients.taking_part(stacks, weights, server)
    f = FAULTY.integer(f)
    require("Bulyan", len(clients), minimum_cohort_of_bulyan(f), "n ≥ 4f + 3")
    distances = pairwise_distances(clients.stacks, clients.rows, progress)
    chosen = _chosen(distances.squared, f)
    kept = len(chosen) - 2 * f

    tensors = combined(
        clients,
        lambda block: _mean_near_median(block.values, kept),
        progress,
        "averaging near the median",
        rows=clients.rows[np.sort(chosen)],
        widest=ORDERING_WIDTH // 4,
    )
    measurements = {
        "clients": len(clients),
        "nonfinite_clients": clients.rows[~distances.finite].tolist(),
        "nonfinite_result": count_nonfinite(tensors),
        "chosen": clients.rows[chosen].tolist(),
        "averaged_in_each_cell": kept,
    }
    return RobustResult(tensors, measurements)


def _chosen(squared: np.ndarray, f: int) -> np.ndarray:
    """The clients that repeated Krum chooses, in that order."""
    remaining = np.arange(len(squared))
    chosen: list[int] = []
    for _ in range(len(squared) - 2 * f):
        scores = krum_scores(squared[np.ix_(remaining, remaining)], f)
        best = int(np.argmin(scores))
        if not np.isfinite(scores[best]):
            raise CohortError(
                f"expected {len(squared) - 2 * f} clients that can be chosen, found {len(chosen)}: "
                f"too many clients have values that are not finite for f = {f}."
            )
        chosen.append(int(remaining[best]))
        remaining = np.delete(remaining, best)
    return np.array(chosen, dtype="i8")


def _mean_near_median(values: np.ndarray, kept: int) -> np.ndarray:
    """Mean of the ``kept`` values nearest to the median, cell by cell.

    In order of size they stand side by side: of all such windows it is the one whose further end
    is nearest.
    """
    n = len(values)
    rows = np.stack(ordered(values, range(n))).astype("f8")
    middle = (rows[(n - 1) // 2] + rows[n // 2]) / 2
    windows = n - kept + 1
    reach = np.maximum(middle - rows[:windows], rows[kept - 1 :] - middle)
    first = np.argmin(reach, axis=0)
    window = first + np.arange(kept)[:, None]
    return np.asarray(np.take_along_axis(rows, window, axis=0).mean(axis=0))
