"""Inner products of many models at once, block by block, with their sums in float64."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import ThreadpoolController

from fedviz.analysis.stacks import BlockReports, Stack, block_width, copy_columns, num_columns

__all__ = ["inner_products", "precision_of", "product_bytes"]

_WIDTH = 4096
# With more rows a product takes so long that BLAS's own threads share it as well, and each thread's
# sum would take memory. Of 100 rows, two threads that gather and multiply took 0.21 s where one
# that gathers, and BLAS in two, took 0.31 s.
_MOST_SHARED = 1024
_limited = threading.Lock()


def precision_of(pieces: Sequence[Stack]) -> np.dtype:
    """The precision in which blocks are multiplied: float64 where a piece is, float32 elsewhere."""
    return np.dtype("f8" if any(piece.dtype == np.float64 for piece in pieces) else "f4")


def product_bytes(pieces: Sequence[Stack]) -> int:
    """Bytes of all rows in the precision of the products: what :func:`inner_products` reports."""
    rows = sum(len(piece) for piece in pieces)
    return rows * num_columns(pieces[0]) * precision_of(pieces).itemsize


def inner_products(
    pieces: Sequence[Stack], origin: np.ndarray | None, report: BlockReports
) -> np.ndarray:
    """⟨x_i − o, x_j − o⟩ of all rows of the pieces, one after the other.

    The rows need not lie together: all pieces' columns of a block are gathered in a buffer, which
    is used again for another. Blocks are gathered and multiplied side by side, one for each
    processor, and their sums are added in the same order each time. Memory is the buffers (32 MiB
    together) and a result for each.

    Parameters
    ----------
    pieces : sequence of ndarray or StoredStack of shape (rows, …)
        float16, bfloat16, float32 or float64; of one shape but for the rows.
    origin : ndarray of shape (…), optional
        Rounded to the precision of the products, which a server model survives unchanged.
    report : BlockReports
        Told of every block.

    Returns
    -------
    ndarray of shape (rows, rows), float64
        A row with a value that is not finite spoils its own row and column only.
    """
    rows = _Rows(pieces, origin)
    with _hands(rows.most_hands) as hands:
        sums = [_Sum(rows, rows.width_for(hands)) for _ in range(hands)]
        _add_all(rows, sums, report)
    gram: np.ndarray = functools.reduce(np.add, [each.total for each in sums])
    return gram


@contextlib.contextmanager
def _hands(most: int) -> Iterator[int]:
    """How many threads may multiply blocks side by side, each without further threads of BLAS.

    BLAS is limited for the whole process: one where another thread has done so already.
    """
    if most == 1 or not _limited.acquire(blocking=False):
        yield 1
        return
    try:
        with _blas().limit(limits=1):
            yield most
    finally:
        _limited.release()


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


class _Rows:
    """All rows that are multiplied with each other, and how their columns are cut."""

    def __init__(self, pieces: Sequence[Stack], origin: np.ndarray | None) -> None:
        self.count, self.size = sum(len(piece) for piece in pieces), num_columns(pieces[0])
        self.precision = precision_of(pieces)
        self.pieces = pieces
        self.centre = (
            None if origin is None else np.asarray(origin).reshape(-1).astype(self.precision)
        )

    @property
    def in_place(self) -> np.ndarray | None:
        """All rows, where they can be multiplied as they are."""
        first = self.pieces[0]
        is_one = len(self.pieces) == 1 and self.centre is None and first.dtype == self.precision
        if not is_one or not isinstance(first, np.ndarray):
            return None
        return first.reshape(self.count, self.size)

    @property
    def most_hands(self) -> int:
        """How many blocks are worth being multiplied at once."""
        if self.count > _MOST_SHARED:
            return 1
        blocks = -(-self.size // self.width_for(1))
        return max(1, min(blocks, len(os.sched_getaffinity(0))))

    def width_for(self, hands: int) -> int:
        """Columns of a block, so that all hands' buffers are bounded."""
        width = block_width(self.count * hands, _WIDTH, self.precision.itemsize)
        return max(1, min(self.size, width))

    def blocks(self, hands: int) -> Iterator[slice]:
        """The columns of each block, where so many are multiplied at once."""
        width = self.width_for(hands)
        for first in range(0, self.size, width):
            yield slice(first, min(first + width, self.size))

    def nbytes(self, columns: slice) -> int:
        """Bytes of some columns in the precision of the products."""
        return self.count * (columns.stop - columns.start) * self.precision.itemsize


def _add_all(rows: _Rows, sums: Sequence[_Sum], report: BlockReports) -> None:
    """Add the products of all blocks, to each sum in a thread of its own.

    This thread has the first sum, and reports for all: what it raises ends the others' work too.
    """
    blocks, hands, over = list(rows.blocks(len(sums))), len(sums), threading.Event()

    def add_some(hand: int) -> None:
        for i in range(hand, len(blocks), hands):
            if over.is_set():
                return
            if not hand:
                report.before(sum(rows.nbytes(columns) for columns in blocks[i : i + hands]))
            sums[hand].add(blocks[i])

    with ThreadPoolExecutor(hands) as pool:
        others = [pool.submit(add_some, hand) for hand in range(1, hands)]
        try:
            add_some(0)
        except BaseException:
            over.set()
            raise
        for other in others:
            other.result()


class _Sum:
    """The sum of some blocks' products, float64, with a buffer of its own."""

    def __init__(self, rows: _Rows, width: int) -> None:
        self._rows = rows
        is_copied = rows.in_place is None
        self._buffer = np.empty(rows.count * width if is_copied else 0, rows.precision)
        self.total = np.zeros((rows.count, rows.count))

    def add(self, columns: slice) -> None:
        """Add the product of a block."""
        # The state of errors belongs to the thread.
        with np.errstate(over="ignore", invalid="ignore"):
            self.total += _product(self._gathered(columns))

    def _gathered(self, columns: slice) -> np.ndarray:
        rows = self._rows
        if rows.in_place is not None:
            return rows.in_place[:, columns]
        shape = rows.count, columns.stop - columns.start
        values = self._buffer[: math.prod(shape)].reshape(shape)
        first = 0
        for piece in rows.pieces:
            copy_columns(piece, columns, values[first : first + len(piece)])
            first += len(piece)
        if rows.centre is not None:
            values -= rows.centre[columns]
        return values


def _product(values: np.ndarray) -> np.ndarray:
    product = values @ values.T
    if np.isfinite(product.diagonal()).all():
        return product
    # Squares leave float32's range from 2e19 on, long before the values do.
    wide = values.astype("f8")
    return wide @ wide.T
