"""Geometric median by the smoothed Weiszfeld algorithm, on inner products alone.

Every iterate is a weighted mean of the clients, so its distances to them follow from the clients'
inner products: the iterations touch n × n numbers, and the weights are read once more at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fedviz.analysis.gram import pairwise_distances
from fedviz.analysis.stacks import Stacks
from fedviz.errors import CohortError
from fedviz.parameters import Parameter
from fedviz.progress import ProgressCallback, silent
from fedviz.robust.clients import Clients, RobustResult, by_row, shares_of
from fedviz.robust.combination import weighted_combination

__all__ = ["MAX_ITERATIONS", "SMOOTHING", "TOLERANCE", "Weiszfeld", "geometric_median", "weiszfeld"]

SMOOTHING = Parameter(
    "smoothing",
    "number",
    1e-6,
    "a number above 0",
    "distances below it count as this much, so that no client's weight becomes infinite",
    minimum=0,
    open_ends=True,
)
TOLERANCE = Parameter(
    "tolerance",
    "number",
    1e-9,
    "a number from 0 to 1",
    "the iterations end with a step below this share of the clients' median distance",
    minimum=0,
    maximum=1,
)
MAX_ITERATIONS = Parameter(
    "max_iterations",
    "integer",
    1000,
    "an integer from 1",
    "the iterations end at this many, converged or not",
    minimum=1,
)


def geometric_median(
    stacks: Stacks,
    weights: np.ndarray,
    server: Any = None,
    progress: ProgressCallback = silent,
    *,
    smoothing: float = 1e-6,
    tolerance: float = 1e-9,
    max_iterations: int = 1000,
) -> RobustResult:
    """The model with the smallest weighted sum of distances to the clients' whole models.

    A client with a value that is not finite is infinitely far from everything and is left out. The
    server model is not used: moving all clients moves the geometric median alike.

    Parameters
    ----------
    stacks : mapping of str to ndarray or StoredStack of shape (clients, …)
    weights : ndarray of shape (clients,), float64
        Clients of weight 0 take no part.
    server : mapping of str to ndarray, optional
    progress : callable, optional
    smoothing, tolerance : float
    max_iterations : int
        See :func:`weiszfeld`.

    Raises
    ------
    CohortError
        No client's values are all finite.

    References
    ----------
    Pillutla, Kakade and Harchaoui, Robust Aggregation for Federated Learning, IEEE Transactions on
    Signal Processing 70, 2022.
    """
    clients = Clients.taking_part(stacks, weights, server)
    smoothing, tolerance = SMOOTHING.number(smoothing), TOLERANCE.number(tolerance)
    max_iterations = MAX_ITERATIONS.integer(max_iterations)
    distances = pairwise_distances(clients.stacks, clients.rows, progress)
    fit = np.flatnonzero(distances.finite)
    if not len(fit):
        raise CohortError("expected a client whose values are all finite, found none.")
    gram = distances.gram[np.ix_(fit, fit)]
    found = weiszfeld(
        gram,
        shares_of(clients.weights[fit]),
        smoothing=smoothing,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
    coefficients = np.zeros(len(clients))
    coefficients[fit] = found.coefficients
    result = weighted_combination(clients, coefficients, progress)
    return RobustResult(
        result.tensors,
        {
            **result.measurements,
            "nonfinite_clients": clients.rows[~distances.finite].tolist(),
            "iterations": found.iterations,
            "converged": found.converged,
            "sum_of_distances": found.objective,
            "coefficients": by_row(clients.rows, coefficients),
        },
    )


@dataclass(frozen=True)
class Weiszfeld:
    """Where the iterations ended.

    Attributes
    ----------
    coefficients : ndarray of shape (n,), float64
        The geometric median is this weighted mean of the clients; together 1.
    objective : float
        Weighted mean of the smoothed distances there: Σ s_i ‖z − x_i‖.
    iterations : int
    converged : bool
        Whether the last step was small enough.
    """

    coefficients: np.ndarray
    objective: float
    iterations: int
    converged: bool


def weiszfeld(
    gram: np.ndarray,
    shares: np.ndarray,
    *,
    smoothing: float,
    tolerance: float,
    max_iterations: int,
) -> Weiszfeld:
    """Minimise Σ s_i ‖z − x_i‖, starting at the weighted mean.

    Each step makes z the mean weighted by s_i / max(ν, ‖z − x_i‖).

    Parameters
    ----------
    gram : ndarray of shape (n, n), float64
        Inner products of the clients, seen from a point among most of them: from there a client
        that is far away costs the others' distances no digits, as its weight is small.
    shares : ndarray of shape (n,), float64
        s, together 1.
    smoothing : float
        ν, in the weights' own unit. Within ν of a client its distance counts as
        ‖z − x_i‖² / 2ν + ν / 2.
    tolerance : float
        The iterations end with a step of no more than this share of the clients' median distance.
        (The sum of distances would not do: one huge client hides what the others add to it.)
    max_iterations : int
    """
    coefficients, iterations, converged = shares, 0, False
    while not converged and iterations < max_iterations:
        lengths = _distances_from(gram, coefficients)
        before, coefficients = coefficients, shares_of(shares / np.maximum(lengths, smoothing))
        change = coefficients - before
        step = np.sqrt(max(change @ gram @ change, 0.0))
        converged = bool(step <= tolerance * max(np.median(lengths), smoothing))
        iterations += 1
    lengths = _distances_from(gram, coefficients)
    near = lengths**2 / (2 * smoothing) + smoothing / 2
    objective = float(shares @ np.where(lengths > smoothing, lengths, near))
    return Weiszfeld(coefficients, objective, iterations, converged)


def _distances_from(gram: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Distances of the clients from a weighted mean of them, for coefficients that sum to 1."""
    along = gram @ coefficients
    return np.sqrt(np.maximum(gram.diagonal() - 2 * along + coefficients @ along, 0.0))
