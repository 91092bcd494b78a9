"""Norm-bounded mean: no client moves the server model further than a bound."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedviz.analysis.stacks import Stacks
from fedviz.errors import CohortError
from fedviz.parameters import Parameter
from fedviz.progress import ProgressCallback, silent
from fedviz.robust.clients import (
    Block,
    Clients,
    RobustResult,
    blocks,
    by_row,
    combined,
    count_nonfinite,
    shares_of,
)

__all__ = ["BOUND", "norm_bounded_mean"]

BOUND = Parameter(
    "bound",
    "number",
    "median",
    "a number above 0, or median",
    "largest norm of an update; median bounds all by the median of the clients' norms",
    minimum=0,
    open_ends=True,
    words=("median",),
)


def norm_bounded_mean(
    stacks: Stacks,
    weights: np.ndarray,
    server: Any,
    progress: ProgressCallback = silent,
    *,
    bound: float | str = "median",
) -> RobustResult:
    """Σ w_i min(1, B / ‖u_i‖) u_i / Σ w_i on top of the server model; u_i = x_i − server.

    The norm is that of the whole update. A client whose update has no finite norm cannot be scaled
    to the bound: it is left out of both sums, and the measurements name it.

    Parameters
    ----------
    stacks : mapping of str to ndarray or StoredStack of shape (clients, …)
    weights : ndarray of shape (clients,), float64
        Clients of weight 0 take no part, in the median of norms neither.
    server : mapping of str to ndarray
    progress : callable, optional
    bound : float or "median"
        B.

    Raises
    ------
    CohortError
        There is no server model, or no client whose update has a finite norm.

    References
    ----------
    Sun, Kairouz, Suresh and McMahan, Can You Really Backdoor Federated Learning?, 2019
    (arXiv:1911.07963).
    """
    clients = Clients.taking_part(stacks, weights, server)
    clients.required_server("the norm-bounded mean")
    limit = None if bound == "median" else BOUND.number(bound)
    norms = _update_norms(clients, progress)
    fit = np.isfinite(norms)
    if not fit.any():
        raise CohortError("expected a client whose update has a finite norm, found none.")
    limit = float(np.median(norms[fit])) if limit is None else limit
    factors = np.ones(len(clients))
    np.divide(limit, norms, out=factors, where=norms > limit)
    shares = shares_of(np.where(fit, clients.weights, 0.0))
    tensors = _moved_server(clients, shares * factors, progress)
    measurements = {
        "clients": len(clients),
        "nonfinite_clients": clients.rows[~fit].tolist(),
        "nonfinite_result": count_nonfinite(tensors),
        "bound": limit,
        "clipped": clients.rows[fit & (factors < 1)].tolist(),
        "norms": by_row(clients.rows, norms),
        "factors": by_row(clients.rows, np.where(fit, factors, np.nan)),
    }
    return RobustResult(tensors, measurements)


def _update_norms(clients: Clients, progress: ProgressCallback) -> np.ndarray:
    squares = np.zeros(len(clients))
    for block in blocks(clients, progress, "measuring the updates"):
        with np.errstate(over="ignore", invalid="ignore"):
            updates = _updates(block)
            squares += np.einsum("ij,ij->i", updates, updates)
    return np.sqrt(squares)


def _moved_server(
    clients: Clients, coefficients: np.ndarray, progress: ProgressCallback
) -> dict[str, np.ndarray]:
    used = np.flatnonzero(coefficients)

    def moved(block: Block) -> np.ndarray:
        return np.asarray(coefficients[used] @ _updates(block) + block.server)

    message = "adding the bounded updates"
    return combined(clients, moved, progress, message, rows=clients.rows[used])


def _updates(block: Block) -> np.ndarray:
    assert block.server is not None
    return np.asarray(block.values.astype("f8") - block.server.astype("f8"))
