"""Coordinate-wise median and trimmed mean.

NaN counts as plus infinity: an attacker could have sent a huge value as well, so a rule's promise
covers it. A result is NaN or infinite only where too many clients' values are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedviz.analysis.stacks import Stacks
from fedviz.parameters import Parameter
from fedviz.progress import ProgressCallback, silent
from fedviz.robust.clients import Block, Clients, RobustResult, combined, count_nonfinite, require
from fedviz.robust.ordering import ORDERING_WIDTH, ordered

__all__ = ["TRIM", "median", "trimmed_count", "trimmed_mean"]

TRIM = Parameter(
    "trim",
    "number",
    0.1,
    "a share of the clients from 0 to below 0.5, or their number from 1",
    "how many clients' values are left out at each end: a share, or a number of clients",
    minimum=0,
)


def median(
    stacks: Stacks,
    weights: np.ndarray,
    server: Any = None,
    progress: ProgressCallback = silent,
) -> RobustResult:
    """The middle value of every cell; the mean of the two middle ones of an even number.

    Clients of weight 0 take no part; the others count the same. The server model is not used.

    Parameters
    ----------
    stacks : mapping of str to ndarray or StoredStack of shape (clients, …)
        float16, bfloat16, float32 or float64; in memory or in a file.
    weights : ndarray of shape (clients,), float64
    server : mapping of str to ndarray, optional
    progress : callable, optional

    References
    ----------
    Yin et al., Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, ICML 2018.
    """
    clients = Clients.taking_part(stacks, weights, server)
    lower, upper = (len(clients) - 1) // 2, len(clients) // 2
    counter = _NonfiniteCounter(len(clients))

    def middle(block: Block) -> np.ndarray:
        counter.count(block.values)
        rows = ordered(block.values, (lower, upper))
        return (rows[lower].astype("f8") + rows[upper]) / 2

    tensors = combined(clients, middle, progress, "computing the median", widest=ORDERING_WIDTH)
    return RobustResult(tensors, counter.measurements(clients, tensors))


def trimmed_mean(
    stacks: Stacks,
    weights: np.ndarray,
    server: Any = None,
    progress: ProgressCallback = silent,
    *,
    trim: float = 0.1,
) -> RobustResult:
    """The mean of every cell's values without the k smallest and the k largest.

    Clients of weight 0 take no part; the others count the same. The server model is not used.

    Parameters
    ----------
    stacks : mapping of str to ndarray or StoredStack of shape (clients, …)
    weights : ndarray of shape (clients,), float64
    server : mapping of str to ndarray, optional
    progress : callable, optional
    trim : float
        Below 0.5 a share: k is the integer part of ``trim * n``, as in SciPy and Flower. From 1
        on k itself.

    Raises
    ------
    CohortError
        n < 2 k + 1.

    References
    ----------
    Yin et al., Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, ICML 2018.
    """
    clients = Clients.taking_part(stacks, weights, server)
    count = trimmed_count(trim, len(clients))
    require("trimmed mean", len(clients), 2 * count + 1, "n ≥ 2k + 1")
    last = len(clients) - count
    counter = _NonfiniteCounter(len(clients))

    def inner_mean(block: Block) -> np.ndarray:
        counter.count(block.values)
        rows = ordered(block.values, range(count, last))
        total = np.zeros(block.values.shape[1])
        for row in rows[count:last]:
            total += row
        return total / (last - count)

    tensors = combined(
        clients, inner_mean, progress, "computing the trimmed mean", widest=ORDERING_WIDTH
    )
    measurements = counter.measurements(clients, tensors)
    return RobustResult(tensors, {**measurements, "trimmed_at_each_end": count})


def trimmed_count(trim: Any, num_clients: int) -> int:
    """How many values are left out at each end.

    Raises
    ------
    InvalidArgumentError
        A share of 0.5 or more, or a number of clients that is not whole.
    """
    value = TRIM.number(trim)
    if value < 0.5:
        return int(value * num_clients)
    if value < 1 or not value.is_integer():
        raise TRIM.refusal(trim)
    return int(value)


class _NonfiniteCounter:
    """Counts NaN and infinite values of each client as the blocks pass by."""

    def __init__(self, num_clients: int) -> None:
        self._counts = np.zeros(num_clients, dtype="i8")

    def count(self, block: np.ndarray) -> None:
        finite = np.isfinite(block)
        if not finite.all():
            self._counts += (~finite).sum(axis=1)

    def measurements(self, clients: Clients, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
        return {
            "clients": len(clients),
            "nonfinite_clients": clients.rows[self._counts > 0].tolist(),
            "nonfinite_client_values": int(self._counts.sum()),
            "nonfinite_result": count_nonfinite(tensors),
        }
