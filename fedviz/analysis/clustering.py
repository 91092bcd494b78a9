"""Which clients belong together, from their Gram matrix alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from fedviz.analysis.gram import cosines

__all__ = ["Clustering", "Similarity", "cluster", "cosine_distances", "similarity"]

MOST_CLUSTERS = 8
# Ordering the leaves optimally takes a time that grows with the cube of the clients.
_MOST_ORDERED = 200


@dataclass(frozen=True)
class Clustering:
    """Clients in the order of a dendrogram, and the clusters that it is cut into.

    Attributes
    ----------
    order : ndarray of shape (n,), int
        Places of the clients, neighbours in the dendrogram side by side.
    linkage : ndarray of shape (n − 1, 4), float64
        As SciPy has it: the two that are joined, at which distance, how many clients.
    labels : ndarray of shape (n,), int
        Cluster of each client, numbered along ``order``.
    silhouettes : ndarray of shape (n,), float64
        Of each client, from −1 (it belongs elsewhere) to 1; 0 where it is a cluster alone or there
        is one cluster.
    score : float
        Mean silhouette; NaN where there are fewer than three clients.
    """

    order: np.ndarray
    linkage: np.ndarray
    labels: np.ndarray
    silhouettes: np.ndarray
    score: float

    @property
    def count(self) -> int:
        """Number of clusters."""
        return int(self.labels.max()) + 1 if len(self.labels) else 0


def cluster(distances: np.ndarray) -> Clustering:
    """Average linkage, cut where the mean silhouette is largest.

    Parameters
    ----------
    distances : ndarray of shape (n, n), float64
        Symmetric, finite, 0 on the diagonal.

    References
    ----------
    Sokal and Michener, A statistical method for evaluating systematic relationships, 1958.
    Rousseeuw, Silhouettes: a graphical aid to the interpretation and validation of cluster
    analysis, 1987.
    """
    n = len(distances)
    if n < 2:
        return Clustering(
            np.arange(n), np.zeros((0, 4)), np.zeros(n, int), np.zeros(n), float("nan")
        )
    linkage = hierarchy.linkage(
        squareform(distances, checks=False),
        method="average",
        optimal_ordering=n <= _MOST_ORDERED,
    )
    order = np.asarray(hierarchy.leaves_list(linkage))
    labels, silhouettes = _best_cut(linkage, distances)
    labels = _numbered_along(labels, order)
    score = float(silhouettes.mean()) if n > 2 else float("nan")
    return Clustering(order, linkage, labels, silhouettes, score)


def _best_cut(linkage: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels with the largest mean silhouette, and the silhouettes."""
    # Not at the top: it takes a second, and only pages that cluster need it.
    from sklearn.metrics import silhouette_samples

    n = len(distances)
    best = np.ones(n, int), np.zeros(n)
    highest = -np.inf
    counts = list(range(2, min(MOST_CLUSTERS, n - 1) + 1))
    for labels in hierarchy.cut_tree(linkage, counts).T if counts else ():
        found = silhouette_samples(distances, labels, metric="precomputed")
        if found.mean() > highest:
            best, highest = (labels, found), float(found.mean())
    return best


def _numbered_along(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    _, first = np.unique(labels[order], return_index=True)
    rank = np.argsort(np.argsort(first))
    return np.asarray(rank[np.searchsorted(np.unique(labels), labels)])


@dataclass(frozen=True)
class Similarity:
    """Cosines of updates, and the clusters that they make.

    Attributes
    ----------
    rows : ndarray of shape (k,), int
        Which clients are compared: those whose values are all finite.
    cosines : ndarray of shape (k, k), float64
        NaN for an update that is zero.
    distances : ndarray of shape (k, k), float64
        Euclidean, between updates.
    clusters : Clustering
        By 1 − cosine.
    """

    rows: np.ndarray
    cosines: np.ndarray
    distances: np.ndarray
    clusters: Clustering

    @property
    def mean_cosine(self) -> float:
        """Mean over the pairs of clients; NaN where there is none."""
        pairs = self.cosines[~np.eye(len(self.rows), dtype=bool)]
        known = pairs[np.isfinite(pairs)]
        return float(known.mean()) if known.size else float("nan")


def similarity(gram: np.ndarray) -> Similarity:
    """Compare the clients of a Gram matrix of shape (n, n)."""
    rows = np.flatnonzero(np.isfinite(gram.diagonal()))
    part = gram[np.ix_(rows, rows)]
    cosine = cosines(part)
    squares = part.diagonal()
    squared = squares[:, None] + squares[None, :] - 2 * part
    distances = np.sqrt(np.maximum(squared, 0))
    np.fill_diagonal(distances, 0)
    return Similarity(rows, cosine, distances, cluster(cosine_distances(cosine)))


def cosine_distances(cosine: np.ndarray) -> np.ndarray:
    """1 − cosine, symmetric and with 0 on the diagonal; 1 where an update is zero."""
    apart = 1 - np.nan_to_num((cosine + cosine.T) / 2, nan=0.0)
    np.fill_diagonal(apart, 0)
    return np.asarray(np.maximum(apart, 0))
