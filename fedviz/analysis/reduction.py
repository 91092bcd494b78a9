"""Fewer cells: blocks of a matrix, each with its mean or with the value furthest from zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedviz.errors import InvalidArgumentError

__all__ = ["ReducedMatrix", "Reduction", "block_steps", "joined", "reduce_by", "reduce_cells"]

Reduction = Literal["mean", "signed-extreme"]


@dataclass(frozen=True, eq=False)
class ReducedMatrix:
    """A matrix with few enough cells to be drawn; each stands for a block of the original's.

    Parameters
    ----------
    values : ndarray of shape (r, c), float32
        Of the finite cells of each block; NaN where there is none.
    nan, positive_infinite, negative_infinite : ndarray of shape (r, c), bool
        Whether the block holds such a value.
    gap : ndarray of shape (r, c), bool
        Whether the block holds no value at all.
    steps : (int, int)
        Rows and columns of one block. The last blocks may be cut off by the edge.
    extent : (int, int)
        Rows and columns of the matrix that was reduced.
    origin : (int, int)
        Where in the whole matrix its first cell lies.
    """

    values: NDArray[np.float32]
    nan: NDArray[np.bool_]
    positive_infinite: NDArray[np.bool_]
    negative_infinite: NDArray[np.bool_]
    gap: NDArray[np.bool_]
    steps: tuple[int, int]
    extent: tuple[int, int]
    origin: tuple[int, int] = (0, 0)

    @property
    def nonfinite(self) -> NDArray[np.bool_]:
        """Whether the block holds a value that is not finite."""
        return self.nan | self.positive_infinite | self.negative_infinite

    @property
    def is_reduced(self) -> bool:
        """Whether any cell stands for more than one value."""
        return self.steps != (1, 1)


def reduce_cells(
    matrix: NDArray[Any],
    limit: int = 512,
    how: Reduction = "mean",
    *,
    gap: NDArray[np.bool_] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> ReducedMatrix:
    """Blocks of a matrix, so that no axis has more than ``limit`` of them.

    Parameters
    ----------
    matrix : ndarray of shape (rows, columns), float
    limit : int
        At least 1. A matrix that is small enough keeps its cells.
    how : {"mean", "signed-extreme"}
        What a block shows: the mean of its finite values, or the one that is furthest from
        zero with its sign, by which a single spike survives. Of two that are equally far the
        positive one.
    gap : ndarray of shape (rows, columns), bool, optional
        Cells that are no values: left out, and not counted as NaN.
    origin : (int, int), optional
        Where in the whole tensor's matrix this one begins, when it is a window of it.

    Returns
    -------
    ReducedMatrix
        Blocks at the edges cover the cells that are there: nothing is padded.

    Raises
    ------
    InvalidArgumentError
        Not a matrix, a limit below 1, or an unknown ``how``.
    """
    values = np.asarray(matrix)
    if values.ndim != 2:
        raise InvalidArgumentError(f"expected a matrix, found shape {list(values.shape)}")
    if limit < 1:
        raise InvalidArgumentError(f"a drawing has at least 1 cell an axis, limit is {limit}")
    if how not in ("mean", "signed-extreme"):
        raise InvalidArgumentError(f"expected mean or signed-extreme, found {how}")
    steps = block_steps((values.shape[0], values.shape[1]), limit)
    return reduce_by(values, steps, how, gap=gap, origin=origin)


def block_steps(extent: tuple[int, int], limit: int) -> tuple[int, int]:
    """Rows and columns of a block, so that no axis has more than ``limit`` of them."""
    return max(1, -(-extent[0] // limit)), max(1, -(-extent[1] // limit))


def reduce_by(
    values: NDArray[Any],
    steps: tuple[int, int],
    how: Reduction,
    *,
    gap: NDArray[np.bool_] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> ReducedMatrix:
    """Blocks of a given size; see :func:`reduce_cells`."""
    finite = np.isfinite(values)
    if gap is None and finite.all():
        none = np.zeros([-(-n // s) for n, s in zip(values.shape, steps, strict=True)], np.bool_)
        reduced = _finite_blocks(values, steps, how)
        nan = positive = negative = absent = none
    else:
        absent = np.zeros(values.shape, bool) if gap is None else gap
        finite &= ~absent
        nan = np.isnan(values) & ~absent
        positive, negative = ((values == end) & ~absent for end in (np.inf, -np.inf))
        if steps == (1, 1):
            reduced = np.where(finite, values, np.nan)
        else:
            block = _block_means if how == "mean" else _block_extremes
            reduced = block(values, finite, steps)
            nan, positive, negative = (
                _blocks(np.logical_or, mask, steps) for mask in (nan, positive, negative)
            )
            absent = _blocks(np.logical_and, absent, steps)
    extent = (values.shape[0], values.shape[1])
    return ReducedMatrix(
        _single_precision(reduced), nan, positive, negative, absent, steps, extent, origin
    )


def joined(bands: list[ReducedMatrix]) -> ReducedMatrix:
    """One matrix of bands that lie below each other, all but the last of whole blocks."""
    first = bands[0]
    if len(bands) == 1:
        return first
    return ReducedMatrix(
        np.concatenate([band.values for band in bands]),
        np.concatenate([band.nan for band in bands]),
        np.concatenate([band.positive_infinite for band in bands]),
        np.concatenate([band.negative_infinite for band in bands]),
        np.concatenate([band.gap for band in bands]),
        first.steps,
        (sum(band.extent[0] for band in bands), first.extent[1]),
        first.origin,
    )


def _finite_blocks(values: NDArray[Any], steps: tuple[int, int], how: Reduction) -> NDArray[Any]:
    if steps == (1, 1):
        return values
    if how == "mean":
        rows, columns = (_lengths(n, s) for n, s in zip(values.shape, steps, strict=True))
        return _blocks(np.add, values, steps, np.float64) / np.outer(rows, columns)
    highest, lowest = _blocks(np.maximum, values, steps), _blocks(np.minimum, values, steps)
    return np.where(highest >= -lowest, highest, lowest)


def _lengths(size: int, step: int) -> NDArray[np.int64]:
    return np.minimum(step, size - np.arange(0, size, step))


def _blocks(
    operation: np.ufunc, matrix: NDArray[Any], steps: tuple[int, int], dtype: Any = None
) -> NDArray[Any]:
    """Down the rows first: whole rows at a time are what the processor does fastest."""
    high, wide = steps
    if not matrix.size:
        return np.empty(
            [-(-n // s) for n, s in zip(matrix.shape, steps, strict=True)], matrix.dtype
        )
    whole = matrix.shape[0] // high * high
    bands = [operation.reduce(matrix[:whole].reshape(-1, high, matrix.shape[1]), 1, dtype)]
    if whole < matrix.shape[0]:
        bands.append(operation.reduce(matrix[whole:], 0, dtype)[np.newaxis])
    lines = np.concatenate(bands)
    return operation.reduceat(lines, np.arange(0, lines.shape[1], wide), axis=1, dtype=dtype)


def _block_means(
    values: NDArray[Any], finite: NDArray[np.bool_], steps: tuple[int, int]
) -> NDArray[np.float64]:
    sums = _blocks(np.add, np.where(finite, values, 0), steps, np.float64)
    counts = _blocks(np.add, finite, steps, np.int64)
    means = np.full(sums.shape, np.nan)
    return np.divide(sums, counts, out=means, where=counts > 0)


def _block_extremes(
    values: NDArray[Any], finite: NDArray[np.bool_], steps: tuple[int, int]
) -> NDArray[Any]:
    highest = _blocks(np.maximum, np.where(finite, values, -np.inf), steps)
    lowest = _blocks(np.minimum, np.where(finite, values, np.inf), steps)
    extremes = np.where(highest >= -lowest, highest, lowest)
    return np.where(np.isfinite(extremes), extremes, np.nan)


def _single_precision(values: NDArray[Any]) -> NDArray[np.float32]:
    """Browsers take float32; what is beyond its range becomes its end, never infinite."""
    most = np.finfo(np.float32).max
    return np.clip(values, -most, most).astype(np.float32)
