"""The range of a heatmap's colours, and how many values lie where in it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedviz.errors import InvalidArgumentError

__all__ = [
    "TINY_LIMIT",
    "ClientHistograms",
    "Histogram",
    "clipped_share",
    "histogram",
    "magnification",
    "magnification_for",
    "shared_limit",
]

TINY_LIMIT = 1e-6
"""The limit of a scale on which every value is zero."""

_MOST_CURVES = 40


def shared_limit(arrays: Iterable[NDArray[Any]], percentile: float = 99.5) -> float:
    """One zero-centred limit for the colours of all arrays that are compared.

    Parameters
    ----------
    arrays : iterable of ndarray
        Any shapes. NaN and infinite values are left out.
    percentile : float
        Of the absolute values, all arrays together; 100 for the full range.

    Returns
    -------
    float
        Above 0. Where the percentile is 0 (nearly all values are), the largest value; where
        that is 0 too, or nothing is finite, :data:`TINY_LIMIT`.

    Raises
    ------
    InvalidArgumentError
        The percentile is not above 0 and at most 100.
    """
    if not 0 < percentile <= 100:
        raise InvalidArgumentError(f"expected a percentile in (0, 100], found {percentile}")
    magnitudes = [np.abs(a[np.isfinite(a)]) for a in map(_as_float, arrays)]
    together = np.concatenate([m.ravel() for m in magnitudes]) if magnitudes else np.empty(0)
    if not together.size:
        return TINY_LIMIT
    limit = float(np.percentile(together, percentile)) or float(together.max())
    return limit or TINY_LIMIT


def _as_float(array: NDArray[Any]) -> NDArray[Any]:
    values = np.asarray(array)
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)


def clipped_share(values: NDArray[Any], limit: float) -> float:
    """Share of the finite values that lie beyond ±``limit``; 0 where none is finite."""
    finite = values[np.isfinite(values)]
    return float(np.mean(np.abs(finite) > limit)) if finite.size else 0.0


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many values lie where between −limit and +limit.

    Parameters
    ----------
    counts : ndarray of shape (bins,), int64
        Finite values. Those beyond a limit are counted in the bin at that end.
    edges : ndarray of shape (bins + 1,), float64
    below, above : int
        Values beyond the limits.
    nan, positive_infinite, negative_infinite : int
    finite : int, optional
        Finite values in all, where only some of them were counted into the bins; the numbers
        beyond the limits, of NaN and of infinite values are exact all the same.
    """

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]
    below: int
    above: int
    nan: int
    positive_infinite: int
    negative_infinite: int
    finite: int | None = None

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middle of each bin."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    @property
    def nonfinite(self) -> int:
        """Values that are NaN or infinite."""
        return self.nan + self.positive_infinite + self.negative_infinite

    @property
    def total(self) -> int:
        """All values, those that are not finite included."""
        return self._finite + self.nonfinite

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of all values that lie in each bin; of a sample, as it is in the sample."""
        return self.counts / max(1, self.counts.sum()) * (self._finite / max(1, self.total))

    @property
    def _finite(self) -> int:
        return int(self.counts.sum()) if self.finite is None else self.finite

    @property
    def clipped(self) -> float:
        """Share of the finite values beyond the limits."""
        return (self.below + self.above) / self._finite if self._finite else 0.0


def histogram(
    values: NDArray[Any],
    limit: float,
    bins: int = 41,
    *,
    gap: NDArray[np.bool_] | None = None,
) -> Histogram:
    """Counts of values in even bins from −limit to +limit; an odd number has zero in the middle.

    Parameters
    ----------
    values : ndarray of any shape, float
    limit : float
        Above 0.
    bins : int
    gap : ndarray of the shape of ``values``, bool, optional
        Cells that are no values.

    Raises
    ------
    InvalidArgumentError
        The limit is not above 0, or there is no bin.
    """
    if not limit > 0 or bins < 1:
        raise InvalidArgumentError(
            f"expected a limit above 0 and at least 1 bin, found {limit} and {bins}"
        )
    present = values.ravel() if gap is None else values[~gap]
    finite = present[np.isfinite(present)]
    counts, edges = np.histogram(np.clip(finite, -limit, limit), bins, range=(-limit, limit))
    return Histogram(
        counts.astype(np.int64),
        edges.astype(np.float64),
        below=int((finite < -limit).sum()),
        above=int((finite > limit).sum()),
        nan=int(np.isnan(present).sum()),
        positive_infinite=int((present == np.inf).sum()),
        negative_infinite=int((present == -np.inf).sum()),
    )


def magnification(limit: float, differences: Iterable[NDArray[Any]]) -> int:
    """The power of two that differences are multiplied by to be seen on the weights' scale.

    Parameters
    ----------
    limit : float
        Of the weights' scale.
    differences : iterable of ndarray
        Those that share the factor.

    Returns
    -------
    int
        The largest power of two that keeps their 99.5th percentile within the limit, from 1
        to 2²⁰; 1 where all differences are zero.
    """
    return magnification_for(limit, shared_limit(differences))


def magnification_for(limit: float, reach: float) -> int:
    """The largest power of two, up to 2²⁰, that keeps ``reach`` within the limit; at least 1."""
    if reach == TINY_LIMIT or reach >= limit:
        return 1
    return 1 << min(20, math.floor(math.log2(limit / reach)))


@dataclass(frozen=True, eq=False)
class ClientHistograms:
    """The histograms of the clients that were looked at.

    Parameters
    ----------
    centres : ndarray of shape (bins,), float64
        Middle of each bin; the same bins as those of the panels' histograms.
    shares : ndarray of shape (clients, bins), float64
        Share of each client's values that lie in each bin.
    cohort : int
        Clients of the round that could have been looked at.
    cells, window_cells : int
        Cells of each client that were looked at, and that there are.
    """

    centres: NDArray[np.float64]
    shares: NDArray[np.float64]
    cohort: int
    cells: int
    window_cells: int

    @property
    def curves(self) -> NDArray[np.float64]:
        """The shares where they are few enough to be drawn one by one; none of more than 40."""
        return self.shares if len(self.shares) <= _MOST_CURVES else self.shares[:0]

    @property
    def bands(self) -> NDArray[np.float64]:
        """What stands for more than 40 clients.

        Returns
        -------
        ndarray of shape (2, 2, bins), float64, or (0, 2, bins)
            In each bin the least and the largest share; then the tenth and the ninetieth
            percentile.
        """
        if len(self.curves) == len(self.shares):
            return np.zeros((0, 2, len(self.centres)))
        found = np.quantile(self.shares, [0, 1, 0.1, 0.9], axis=0)
        return found.reshape(2, 2, -1)
