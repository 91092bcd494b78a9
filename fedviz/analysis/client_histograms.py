"""How the values of every client lie over one scale, without reading more than a few million.

Of a large tensor evenly spaced rows are counted, and where that is still too much for a large
cohort, evenly spaced clients.
"""

from __future__ import annotations

import numpy as np

from fedviz.analysis.heatmap import MatrixLayout, Window
from fedviz.analysis.models import Models
from fedviz.analysis.scales import ClientHistograms, histogram

__all__ = ["client_histograms"]

_MOST_VALUES = 2**22
_MOST_CELLS, _BANDS = 2**16, 8
_FEWEST_CLIENTS = 8


def client_histograms(models: Models, window: Window, limit: float) -> ClientHistograms | None:
    """Count the values of the conforming clients in even bins from −limit to +limit.

    Parameters
    ----------
    models : Models
    window : Window
        Of the matrix.
    limit : float
        Above 0. Values beyond it are counted in the bin at that end.

    Returns
    -------
    ClientHistograms, or None
        None where no client has the signature, or the window holds no cell.
    """
    cohort = len(models.round_.conforming)
    bands, columns = _bands(models.layout, window), slice(*window[2:])
    cells = sum(rows.stop - rows.start for rows in bands) * (window[3] - window[2])
    if not cohort or not cells:
        return None
    every = _stride(models.layout, cohort, cells)
    bins = histogram(np.zeros(0), limit)
    counts = np.zeros((len(range(0, cohort, every)), len(bins.counts)))
    totals = np.zeros((len(counts), 1))
    for rows in bands:
        gap = models.layout.gap
        present = True if gap is None else ~gap[rows, columns]
        blocks = models.cohort(rows, columns, every)
        for i, values in enumerate(each for block in blocks for each in block):
            found = histogram(values[present], limit)
            counts[i] += found.counts
            totals[i] += found.total
    whole = (window[1] - window[0]) * (window[3] - window[2])
    return ClientHistograms(bins.centres, counts / np.maximum(totals, 1), cohort, cells, whole)


def _bands(layout: MatrixLayout, window: Window) -> list[slice]:
    """The rows that are looked at: all, or a few evenly spaced bands."""
    top, bottom, left, right = window
    if (bottom - top) * (right - left) <= _MOST_CELLS or not _is_boxed(layout):
        return [slice(top, bottom)]
    high = max(1, _MOST_CELLS // (right - left) // _BANDS)
    starts = np.linspace(top, bottom - high, _BANDS).round().astype(int).tolist()
    return [slice(first, first + high) for first in starts]


def _stride(layout: MatrixLayout, cohort: int, cells: int) -> int:
    """Every how many clients one is looked at."""
    values = cells if _is_boxed(layout) else int(np.prod(layout.tensor_shape, dtype="i8"))
    return max(1, min(-(-cohort * values // _MOST_VALUES), cohort // _FEWEST_CLIENTS))


def _is_boxed(layout: MatrixLayout) -> bool:
    """Whether a window of the matrix is read without the rest of the tensor."""
    return layout.region(slice(0, 1), slice(0, 1)) is not None
