"""Stacked clients' tensors, read a few columns at a time.

A stack is an array of shape (clients, …), in memory or mapped from a file. Rules that compare
clients need all of them at once, but only in the cells at hand: a block holds every client's values
of a few cells, and memory does not grow with the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from fedviz.progress import Progress, ProgressCallback

__all__ = ["BlockReports", "Stacks", "block_width", "column_blocks", "num_columns"]

Stacks = Mapping[str, np.ndarray]
"""Tensor names and their stacks, each of shape (clients, …), C-contiguous."""

_BLOCK_BYTES = 32 * 2**20
_WIDEST = 8192
_NARROWEST = 64
# Reports are for people and cancelling: the smallest unit of work that is worth one.
_REPORT_BYTES = 32 * 2**20


def num_columns(stack: np.ndarray) -> int:
    """Number of values of one client."""
    return math.prod(stack.shape[1:])


def block_width(num_clients: int, widest: int = _WIDEST) -> int:
    """Columns of a block: as many as 32 MiB hold in float64, within bounds.

    The upper bound keeps a block of 100 clients in the processor's cache; the lower one keeps
    reading from a file efficient with very many clients.
    """
    return max(_NARROWEST, min(widest, _BLOCK_BYTES // (8 * max(1, num_clients))))


def column_blocks(
    stack: np.ndarray, rows: np.ndarray, width: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """A stack's rows in blocks of columns.

    Parameters
    ----------
    stack : ndarray of shape (clients, …)
        In memory or mapped.
    rows : ndarray of int
        Which clients, in this order.
    width : int
        Columns of a block.

    Yields
    ------
    columns : slice
        Which of the tensor's values, counted in C order.
    values : ndarray of shape (rows, columns), in the stack's dtype
        A view where all clients are read, else a copy; not to be written to.
    """
    size = num_columns(stack)
    flat = stack.reshape(len(stack), size)
    everyone = np.array_equal(rows, np.arange(len(stack)))
    for first in range(0, size, width):
        columns = slice(first, min(first + width, size))
        yield columns, flat[:, columns] if everyone else flat[rows, columns]


class BlockReports:
    """Progress by bytes of blocks, told at the start, at most once in 32 MiB, and at the end.

    Parameters
    ----------
    total_bytes : int
        Of all blocks together.
    message : str
        What is being done.
    progress : callable
        Who is told. What it raises ends the work.
    """

    def __init__(self, total_bytes: int, message: str, progress: ProgressCallback) -> None:
        self._total = total_bytes
        self._message = message
        self._progress = progress
        self._done = 0
        self._due = 0

    def before(self, nbytes: int) -> None:
        """Tell of what is done, if that is due; a block of so many bytes comes next."""
        if self._done >= self._due:
            self._due = self._done + _REPORT_BYTES
            self._progress(Progress(self._done, self._total, self._message))
        self._done += nbytes

    def end(self) -> None:
        """Tell that all is done."""
        self._progress(Progress(self._total, self._total, self._message))
