"""The weighted mean pulled towards the server model, in the style of FedProx."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedviz.analysis.stacks import Stacks
from fedviz.parameters import Parameter
from fedviz.progress import ProgressCallback, silent
from fedviz.robust.clients import Clients, RobustResult
from fedviz.robust.combination import weighted_combination

__all__ = ["PULL", "proximal_mean"]

PULL = Parameter(
    "mu",
    "number",
    0.1,
    "a number from 0",
    "how strongly the mean is pulled towards the server model; 0 is the mean itself",
    minimum=0,
)


def proximal_mean(
    stacks: Stacks,
    weights: np.ndarray,
    server: Any,
    progress: ProgressCallback = silent,
    *,
    mu: float = 0.1,
) -> RobustResult:
    """argmin_x ½ Σ w_i ‖x − x_i‖² + ½ μ ‖x − server‖² = (mean + μ · server) / (1 + μ).

    FedProx itself puts its proximal term into the clients' training and aggregates by the weighted
    mean: of clients that were trained so, FedProx's aggregate is ``mean``. This rule puts the same
    term into the aggregation. It does not resist faulty clients, and a value that is not finite
    makes the model's not finite.

    Parameters
    ----------
    stacks : mapping of str to ndarray or StoredStack of shape (clients, …)
    weights : ndarray of shape (clients,), float64
        Clients of weight 0 take no part.
    server : mapping of str to ndarray
    progress : callable, optional
    mu : float
        μ.

    Raises
    ------
    CohortError
        There is no server model.

    References
    ----------
    Li, Sahu, Zaheer, Sanjabi, Talwalkar and Smith, Federated Optimization in Heterogeneous
    Networks, MLSys 2020.
    """
    clients = Clients.taking_part(stacks, weights, server)
    clients.required_server("the proximal mean")
    pull = PULL.number(mu)
    coefficients = clients.shares / (1 + pull)
    return weighted_combination(clients, coefficients, progress, of_server=pull / (1 + pull))
