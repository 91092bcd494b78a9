"""The values around one cell of a tensor, such as the first that is NaN or infinite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedviz.errors import InvalidArgumentError

__all__ = ["ValueWindow", "values_around"]

WINDOW_ROWS, WINDOW_COLUMNS = 5, 7


@dataclass(frozen=True)
class ValueWindow:
    """A small part of a tensor's last two axes.

    Parameters
    ----------
    leading : tuple of int
        Indices along the axes before the last two: which slice of the tensor this is.
    rows, columns : tuple of int
        Indices along the last two axes. A vector is one row, without an index.
    values : ndarray of shape (max(1, len(rows)), len(columns)), float64
    """

    leading: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    values: np.ndarray

    @property
    def is_finite(self) -> np.ndarray:
        """Which values are numbers: bool, in the shape of the values."""
        return np.isfinite(self.values)


def values_around(
    values: np.ndarray,
    index: tuple[int, ...],
    num_rows: int = WINDOW_ROWS,
    num_columns: int = WINDOW_COLUMNS,
) -> ValueWindow:
    """The values around a cell, which is in the middle unless it lies near an edge.

    Parameters
    ----------
    values : ndarray of any shape, numbers
    index : tuple of int
        The cell; ``()`` in a scalar.
    num_rows, num_columns : int
        Size of the window; less where the tensor is smaller.

    Raises
    ------
    InvalidArgumentError
        There is no such cell.
    """
    if len(index) != values.ndim or not all(
        0 <= i < size for i, size in zip(index, values.shape, strict=True)
    ):
        raise InvalidArgumentError(
            f"expected an index into a tensor of shape {list(values.shape)}, found {list(index)}."
        )
    leading = index[:-2]
    rows = _span(index[-2], values.shape[-2], num_rows) if values.ndim > 1 else range(0)
    columns = _span(index[-1], values.shape[-1], num_columns) if values.ndim else range(0)
    plane = np.atleast_2d(values[leading])
    shown = plane[
        rows.start : rows.stop if rows else 1,
        columns.start : columns.stop if columns else 1,
    ]
    return ValueWindow(leading, tuple(rows), tuple(columns), shown.astype(np.float64))


def _span(centre: int, size: int, length: int) -> range:
    """Up to ``length`` places around the centre, none of them outside."""
    length = min(length, size)
    first = min(max(0, centre - length // 2), size - length)
    return range(first, first + length)
