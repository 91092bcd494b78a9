"""Many models in a picture: their two directions of largest variance, from inner products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import eigsh

__all__ = ["Projection", "principal_components", "project"]

# Below it all eigenvalues are found; above it the largest alone, which is faster.
_FEW = 300


@dataclass(frozen=True)
class Projection:
    """Places of models in the plane.

    Attributes
    ----------
    places : ndarray of shape (n, 2), float64
        NaN for a model that is not finite. Distances in the plane are at most the real ones.
    shares : tuple of 2 float
        Share of the variance along each direction; NaN where all models are the same.
    """

    places: np.ndarray
    shares: tuple[float, float]


def principal_components(gram: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Principal components of n points from their inner products.

    This is PCA of the points, and the same as classical multidimensional scaling of their
    distances: the centred Gram matrix has the same eigenvalues as the covariance, times n.

    Parameters
    ----------
    gram : ndarray of shape (n, n), float64
        Finite; from any origin.
    count : int
        How many, at most n.

    Returns
    -------
    scores : ndarray of shape (n, count), float64
        Coordinates of the points, centred.
    variances : ndarray of shape (count,), float64
        Sums of their squares, falling.
    total : float
        Sum of the squared distances to the mean.

    References
    ----------
    Torgerson, Multidimensional scaling: I. Theory and method, Psychometrika, 1952.
    """
    n = len(gram)
    along = gram.mean(axis=1)
    centred = gram - along[:, None] - along[None, :] + along.mean()
    total = max(0.0, float(np.trace(centred)))
    scores, values = np.zeros((n, count)), np.zeros(count)
    k = min(count, n)
    if k and total > 0:
        if n <= _FEW:
            found, vectors = linalg.eigh(centred, subset_by_index=(n - k, n - 1))
        else:
            # A fixed start, so that the same file gives the same picture.
            found, vectors = eigsh(centred, k=k, which="LA", v0=centred.diagonal())
        order = np.argsort(found)[::-1]
        values[:k] = np.maximum(found[order], 0)
        scores[:, :k] = vectors[:, order] * np.sqrt(values[:k])
    return scores, values, total


def project(gram: np.ndarray, start: int | None = None, end: int | None = None) -> Projection:
    """Models in their two directions of largest variance.

    Parameters
    ----------
    gram : ndarray of shape (n, n), float64
        Inner products, as seen from any one place.
    start, end : int, optional
        The first direction points from the one model to the other; a picture of rounds then
        runs from left to right.
    """
    finite = np.flatnonzero(np.isfinite(gram.diagonal()))
    places = np.full((len(gram), 2), np.nan)
    part = gram[np.ix_(finite, finite)]
    if not len(finite):
        return Projection(places, (float("nan"), float("nan")))
    scores, values, total = principal_components(part, 2)
    signs = [1.0 if s[np.argmax(np.abs(s))] >= 0 else -1.0 for s in scores.T]
    places[finite] = scores * signs
    if start is not None and end is not None and places[end, 0] < places[start, 0]:
        places[:, 0] *= -1
    first, second = values / total if total > 0 else (float("nan"), float("nan"))
    return Projection(places, (float(first), float(second)))
