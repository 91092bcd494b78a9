"""The geometric median next to a convex solver's: CVXPY with Clarabel, an interior-point method.

Says how far the two models lie apart, over the clients' median distance to the solver's, and
whether the solver found a smaller sum of distances: that decides. Where the median is one of the
clients (the first case), Weiszfeld's steps become short before they arrive; the sum is then right
to 1e-8, the point to 1e-3.
"""

from __future__ import annotations

import json
import sys
import warnings

import cvxpy
import numpy as np

from fedviz.robust import aggregate

# Clients, values, and how many of the clients are far away.
CASES = ((5, 20, 0), (20, 50, 0), (20, 50, 6), (40, 100, 10))
EXPLAINED = 1e-7
EXACT = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-12)


def solved(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The point with the least weighted sum of distances."""
    point = cvxpy.Variable(values.shape[1])
    distances = cvxpy.norm(values - cvxpy.reshape(point, (1, -1), order="C"), axis=1)
    cvxpy.Problem(cvxpy.Minimize(weights @ distances)).solve(solver=cvxpy.CLARABEL, **EXACT)
    return np.asarray(point.value)


def objective(point: np.ndarray, values: np.ndarray, weights: np.ndarray) -> float:
    """Weighted mean of the distances to the clients."""
    return float(weights @ np.linalg.norm(values - point, axis=1) / weights.sum())


def main() -> None:
    """Compare and print."""
    # The solver warns where it cannot reach a tolerance that is tighter than its own.
    warnings.filterwarnings("ignore", "Solution may be inaccurate")
    rows = []
    for num_clients, size, num_far in CASES:
        rng = np.random.default_rng(num_clients + num_far)
        values = rng.standard_normal(size) + 0.1 * rng.standard_normal((num_clients, size))
        values[:num_far] += 10
        weights = rng.integers(1, 100, num_clients).astype("f8")
        # Clients that weigh less than half together can move the median only so far.
        weights[:num_far] = 1
        ours = aggregate("geometric-median", {"x": values}, weights).tensors["x"]
        exact = solved(values, weights / weights.sum())
        scale = np.median(np.linalg.norm(values - exact, axis=1))
        ratio = objective(ours, values, weights) / objective(exact, values, weights)
        apart = float(np.linalg.norm(ours - exact) / scale)
        rows.append(
            {
                "rule": "Geometric median",
                "case": f"{num_clients} × {size}, {num_far} far away, objective {ratio - 1:+.0e}",
                "largest": apart,
                "cells": None,
                "explained": ratio - 1 <= EXPLAINED,
            }
        )
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
