"""Krum and Multi-Krum: the clients with the closest neighbours.

A client with a value that is not finite is infinitely far from every other and is never chosen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedviz.analysis.gram import krum_scores, pairwise_distances
from fedviz.analysis.stacks import Stacks
from fedviz.errors import CohortError
from fedviz.parameters import Parameter
from fedviz.progress import ProgressCallback, silent
from fedviz.robust.clients import Clients, RobustResult, by_row, require, shares_of
from fedviz.robust.combination import weighted_combination

__all__ = ["CHOSEN", "FAULTY", "krum", "minimum_cohort_of_krum", "multi_krum"]

FAULTY = Parameter(
    "f",
    "integer",
    1,
    "an integer from 0",
    "how many clients may be faulty",
    minimum=0,
)
CHOSEN = Parameter(
    "m",
    "integer",
    "n-f",
    "an integer from 1, or n-f",
    "how many clients are chosen; n-f chooses all but as many as may be faulty",
    minimum=1,
    words=("n-f",),
)


def minimum_cohort_of_krum(f: int, m: int = 1) -> int:
    """How many clients the rule needs: n ≥ 2f + 3, and as many as are chosen."""
    return max(2 * f + 3, m)


def krum(
    stacks: Stacks,
    weights: np.ndarray,
    server: Any = None,
    progress: ProgressCallback = silent,
    *,
    f: int = 1,
) -> RobustResult:
    """The client whose n − f − 2 nearest neighbours are nearest, unchanged.

    Clients of weight 0 take no part; the others count the same. Distances are between whole models.
    Of clients with equal scores the first is chosen. The server model is not used: distances
    between updates are those between models.

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
        n < 2f + 3, or so many clients have values that are not finite that none can be chosen.

    References
    ----------
    Blanchard et al., Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent,
    NeurIPS 2017.
    """
    clients = Clients.taking_part(stacks, weights, server)
    f = FAULTY.integer(f)
    require("Krum", len(clients), minimum_cohort_of_krum(f), "n ≥ 2f + 3")
    return _most_central(clients, f, 1, progress)


def multi_krum(
    stacks: Stacks,
    weights: np.ndarray,
    server: Any = None,
    progress: ProgressCallback = silent,
    *,
    f: int = 1,
    m: int | str = "n-f",
) -> RobustResult:
    """The mean of the m clients with the best Krum scores, weighted as Flower does.

    The scores ignore the weights. In the mean of the chosen the weights count, as in Flower; the
    paper's plain mean is that with equal weights.

    Parameters
    ----------
    stacks : mapping of str to ndarray or StoredStack of shape (clients, …)
    weights : ndarray of shape (clients,), float64
    server : mapping of str to ndarray, optional
    progress : callable, optional
    f : int
        How many clients may be faulty.
    m : int or "n-f"
        How many clients are chosen: 1 is Krum, n the mean.

    Raises
    ------
    CohortError
        n < 2f + 3, n < m, or fewer than m clients can be chosen for values that are not finite.

    References
    ----------
    Blanchard et al., Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent,
    NeurIPS 2017.
    """
    clients = Clients.taking_part(stacks, weights, server)
    f = FAULTY.integer(f)
    chosen = len(clients) - f if m == "n-f" else CHOSEN.integer(m)
    minimum = minimum_cohort_of_krum(f, chosen)
    require("Multi-Krum", len(clients), minimum, "n ≥ 2f + 3 and n ≥ m")
    return _most_central(clients, f, chosen, progress)


def _most_central(clients: Clients, f: int, m: int, progress: ProgressCallback) -> RobustResult:
    distances = pairwise_distances(clients.stacks, clients.rows, progress)
    scores = krum_scores(distances.squared, f)
    order = np.argsort(scores, kind="stable")
    fit = order[np.isfinite(scores[order])]
    if len(fit) < m:
        raise CohortError(
            f"expected {m} clients that can be chosen, found {len(fit)}: "
            f"{int((~distances.finite).sum())} of {len(clients)} clients have values that are not "
            f"finite, too many for f = {f} and m = {m}. Leave them out."
        )
    chosen = np.sort(fit[:m])
    coefficients = np.zeros(len(clients))
    coefficients[chosen] = shares_of(clients.weights[chosen])
    result = weighted_combination(clients, coefficients, progress)
    return RobustResult(
        result.tensors,
        {
            **result.measurements,
            "nonfinite_clients": clients.rows[~distances.finite].tolist(),
            "chosen": clients.rows[chosen].tolist(),
            "scores": by_row(clients.rows, scores),
        },
    )
