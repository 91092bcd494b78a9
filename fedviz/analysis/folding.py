"""Large cohorts in pictures of bounded size: neighbours of a dendrogram share a cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["FoldedMatrix", "dendrogram", "fold"]


@dataclass(frozen=True)
class FoldedMatrix:
    """A matrix of pairs in the order of a dendrogram, drawn in at most so many cells a side.

    Attributes
    ----------
    values : ndarray of shape (b, b), float64
        Means over the pairs of a cell, a client with itself left out; NaN where no pair is left.
    groups : tuple of ndarray of int
        The clients of each row of cells.
    pairs : ndarray of shape (b, b, 2), int
        The two clients of each cell that stand out most: furthest from the mean of all pairs.
    """

    values: np.ndarray
    groups: tuple[np.ndarray, ...]
    pairs: np.ndarray

    @property
    def is_folded(self) -> bool:
        """Whether a cell shows several clients."""
        return any(len(group) > 1 for group in self.groups)


def fold(matrix: np.ndarray, order: np.ndarray, most: int) -> FoldedMatrix:
    """Fold a symmetric matrix of shape (n, n) along an order of its rows."""
    groups = tuple(np.array_split(order, max(1, min(most, len(order)))))
    off = matrix.astype("f8")
    np.fill_diagonal(off, np.nan)
    middle = float(np.nanmean(off)) if np.isfinite(off).any() else 0.0
    count = len(groups)
    values = np.full((count, count), np.nan)
    pairs = np.zeros((count, count, 2), dtype=int)
    for i, rows in enumerate(groups):
        for j, columns in enumerate(groups):
            block = off[np.ix_(rows, columns)]
            known = np.isfinite(block)
            pairs[i, j] = rows[0], columns[0]
            if known.any():
                values[i, j] = block[known].mean()
                furthest = np.argmax(np.where(known, np.abs(block - middle), -1))
                row, column = np.unravel_index(furthest, block.shape)
                pairs[i, j] = rows[row], columns[column]
    return FoldedMatrix(values, groups, pairs)


def dendrogram(linkage: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The lines of a dendrogram.

    Parameters
    ----------
    linkage : ndarray of shape (n − 1, 4)
        As SciPy has it.
    order : ndarray of shape (n,), int
        Its leaves, from left to right.

    Returns
    -------
    ndarray of shape (n − 1, 4, 2), float64
        For each join four corners, from the left branch up, across and down the right one: the
        place along the leaves (0 to n − 1), and the distance.
    """
    n = len(order)
    places, heights = np.zeros(2 * n), np.zeros(2 * n)
    places[order] = np.arange(n)
    lines = np.zeros((len(linkage), 4, 2))
    for k, (one, other, height, _) in enumerate(linkage):
        left, right = sorted((int(one), int(other)), key=lambda i: places[i])
        lines[k, :, 0] = places[[left, left, right, right]]
        lines[k, :, 1] = heights[left], height, height, heights[right]
        places[n + k] = (places[left] + places[right]) / 2
        heights[n + k] = height
    return lines
