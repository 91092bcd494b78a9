"""Ordering the clients' values cell by cell.

NumPy partitions one cell after another. Here two clients' rows are compared at a time, for all
cells of a block at once, by a fixed list of comparisons (a sorting network): each is a minimum and
a maximum of two arrays, which processors do many at a time. The median of 100 clients takes half
of ``np.median``'s time so; ``benchmarks/robust_rules.py`` measures it. The list grows faster than
linearly with the clients, and its calls cost more than they save for a few cells: there NumPy's
partition is used.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

__all__ = ["ORDERING_WIDTH", "ordered"]

ORDERING_WIDTH = 16384
"""Columns of a block to be ordered: enough that the calls' own cost does not count."""

_MOST_CLIENTS = 512
_FEWEST_COLUMNS = 512


def ordered(block: np.ndarray, ranks: Sequence[int]) -> Sequence[np.ndarray]:
    """The values of some ranks in every column.

    Parameters
    ----------
    block : ndarray of shape (clients, columns)
        NaN counts as plus infinity.
    ranks : sequence of int
        0 is the smallest.

    Returns
    -------
    sequence of ndarray of shape (columns,), one a client
        Of these, those at the ranks hold what their index says, the others anything. float32 for
        narrower floats, which it holds exactly.
    """
    values = np.array(block, dtype="f8" if block.dtype == np.float64 else "f4", order="C")
    values[np.isnan(values)] = np.inf
    if len(values) > _MOST_CLIENTS or values.shape[1] < _FEWEST_COLUMNS:
        return _partitioned(values, ranks)
    rows, spare = list(values), np.empty(values.shape[1], values.dtype)
    for i, j in _comparisons(len(rows), frozenset(ranks)):
        np.minimum(rows[i], rows[j], out=spare)
        np.maximum(rows[i], rows[j], out=rows[j])
        rows[i], spare = spare, rows[i]
    return rows


def _partitioned(values: np.ndarray, ranks: Sequence[int]) -> Sequence[np.ndarray]:
    # Partition is quick along contiguous values only.
    turned = np.ascontiguousarray(values.T)
    turned.partition(list(ranks), axis=1)
    return list(turned.T)


@functools.lru_cache(maxsize=32)
def _comparisons(count: int, ranks: frozenset[int]) -> tuple[tuple[int, int], ...]:
    """Which rows to compare, in this order, for the ranks to be in their places.

    A comparison that leads to none of them is left out.
    """
    wanted, kept = set(ranks), []
    for i, j in reversed(list(_merge_exchange(count))):
        if i in wanted or j in wanted:
            wanted |= {i, j}
            kept.append((i, j))
    return tuple(reversed(kept))


def _merge_exchange(count: int) -> Iterator[tuple[int, int]]:
    """Batcher's odd–even merge sort (Knuth, The Art of Computer Programming 3, 5.2.2, M)."""
    top = 1 << max(0, (count - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while d > 0:
            yield from ((i, i + d) for i in range(count - d) if i & p == r)
            d, q, r = q - p, q >> 1, p
        p >>= 1
