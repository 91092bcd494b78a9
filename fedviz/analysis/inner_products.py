"""Inner products of many models at once, block by block, with their sums in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedviz.analysis.stacks import BlockReports, block_width, num_columns

__all__ = ["inner_products", "precision_of", "product_bytes"]

_WIDTH = 4096


def precision_of(pieces: Sequence[np.ndarray]) -> np.dtype:
    """The precision in which blocks are multiplied: float64 where a piece is, float32 elsewhere."""
    return np.dtype("f8" if any(piece.dtype == np.float64 for piece in pieces) else "f4")


def product_bytes(pieces: Sequence[np.ndarray]) -> int:
    """Bytes of all rows in the precision of the products: what :func:`inner_products` reports."""
    rows = sum(len(piece) for piece in pieces)
    return rows * num_columns(pieces[0]) * precision_of(pieces).itemsize


def inner_products(
    pieces: Sequence[np.ndarray], origin: np.ndarray | None, report: BlockReports
) -> np.ndarray:
    """⟨x_i − o, x_j − o⟩ of all rows of the pieces, one after the other.

    The rows need not lie together: all pieces' columns of a block are gathered in one buffer, which
    is used again for the next. Memory is that buffer (32 MiB) and the result.

    Parameters
    ----------
    pieces : sequence of ndarray of shape (rows, …)
        float16, bfloat16, float32 or float64, in memory or mapped; of one shape but for the rows.
    origin : ndarray of shape (…), optional
        Rounded to the precision of the products, which a server model survives unchanged.
    report : BlockReports
        Told of every block.

    Returns
    -------
    ndarray of shape (rows, rows), float64
        A row with a value that is not finite spoils its own row and column only.
    """
    count, size = sum(len(piece) for piece in pieces), num_columns(pieces[0])
    precision = precision_of(pieces)
    flat = [piece.reshape(len(piece), size) for piece in pieces]
    centre = None if origin is None else np.asarray(origin).reshape(-1).astype(precision)
    as_they_lie = len(flat) == 1 and centre is None and flat[0].dtype == precision
    width = min(size, block_width(count, _WIDTH))
    buffer = np.empty(0 if as_they_lie else count * width, precision)
    gram = np.zeros((count, count))
    for first in range(0, size, max(1, width)):
        columns = slice(first, min(first + width, size))
        if as_they_lie:
            values = flat[0][:, columns]
        else:
            values = buffer[: count * (columns.stop - first)].reshape(count, -1)
        report.before(values)
        with np.errstate(over="ignore", invalid="ignore"):
            if not as_they_lie:
                _gather(values, flat, centre, columns)
            gram += _product(values)
    return gram


def _gather(
    values: np.ndarray, flat: Sequence[np.ndarray], centre: np.ndarray | None, columns: slice
) -> None:
    first = 0
    for piece in flat:
        rows = values[first : first + len(piece)]
        if centre is None:
            rows[...] = piece[:, columns]
        else:
            np.subtract(piece[:, columns], centre[columns], out=rows, dtype=values.dtype)
        first += len(piece)


def _product(values: np.ndarray) -> np.ndarray:
    product = values @ values.T
    if np.isfinite(product.diagonal()).all():
        return product
    # Squares leave float32's range from 2e19 on, long before the values do.
    wide = values.astype("f8")
    return wide @ wide.T
