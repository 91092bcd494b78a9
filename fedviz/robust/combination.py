"""Weighted combinations of clients, streamed."""

from __future__ import annotations

import numpy as np

from fedviz.progress import ProgressCallback
from fedviz.robust.clients import Block, Clients, RobustResult, combined, count_nonfinite

__all__ = ["weighted_combination"]


def weighted_combination(
    clients: Clients,
    coefficients: np.ndarray,
    progress: ProgressCallback,
    *,
    of_server: float = 0.0,
) -> RobustResult:
    """Σ c_i x_i + c_server · server, summed in float64.

    Parameters
    ----------
    clients : Clients
    coefficients : ndarray of shape (n,), float64
        A client with coefficient 0 is not read: 0 × NaN would poison the sum.
    progress : callable
    of_server : float
        The server model's coefficient.

    Returns
    -------
    RobustResult
        A single client with coefficient 1 comes back exactly. ``measurements`` are those that
        every rule has; ``nonfinite_clients`` is empty where the model is finite.
    """
    used = np.flatnonzero(coefficients)
    factors = coefficients[used]
    spoilt = np.zeros(len(used), dtype=bool)

    def weighted_sum(block: Block) -> np.ndarray:
        total = factors @ block.values.astype("f8")
        if of_server and block.server is not None:
            total = total + of_server * block.server.astype("f8")
        if not np.isfinite(total).all():
            spoilt[:] |= ~np.isfinite(block.values).all(axis=1)
        return np.asarray(total)

    tensors = combined(
        clients, weighted_sum, progress, "combining the clients", rows=clients.rows[used]
    )
    return RobustResult(
        tensors,
        {
            "clients": len(clients),
            "nonfinite_clients": clients.rows[used[spoilt]].tolist(),
            "nonfinite_result": count_nonfinite(tensors),
        },
    )
