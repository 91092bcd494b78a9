"""Stacked clients' tensors, read a few columns at a time.

A stack is an array of shape (clients, …), in memory or still in its file. Rules that compare
clients need all of them at once, but only in the cells at hand: a block holds every client's values
of a few cells, and memory does not grow with the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from fedviz.analysis.stored import StoredStack
from fedviz.progress import Progress, ProgressCallback

__all__ = [
    "BlockReports",
    "Stack",
    "Stacks",
    "block_width",
    "client_bytes",
    "column_blocks",
    "copy_columns",
    "num_columns",
    "one_client",
    "values_of_client",
]

Stack = np.ndarray | StoredStack
"""A tensor of all clients, of shape (clients, …), C-contiguous."""

Stacks = Mapping[str, Stack]
"""Tensor names and their stacks."""

_BLOCK_BYTES = 32 * 2**20
_WIDEST = 8192
_NARROWEST = 64
# Reports are for people and cancelling: the smallest unit of work that is worth one.
_REPORT_BYTES = 32 * 2**20


def num_columns(stack: Stack) -> int:
    """Number of values of one client."""
    return math.prod(stack.shape[1:])


def client_bytes(stack: Stack) -> int:
    """Bytes of one client."""
    return num_columns(stack) * stack.dtype.itemsize


def block_width(num_clients: int, widest: int = _WIDEST, itemsize: int = 8) -> int:
    """Columns of a block: as many as 32 MiB hold, of float64 by default, within bounds.

    The upper bound keeps a block of 100 clients in the processor's cache; the lower one keeps
    reading from a file efficient with very many clients.
    """
    return max(_NARROWEST, min(widest, _BLOCK_BYTES // (itemsize * max(1, num_clients))))


def one_client(stack: Stack, row: int) -> Stack:
    """One client's part of a stack, of shape (1, …), where it lies."""
    return stack.row(row) if isinstance(stack, StoredStack) else stack[row : row + 1]


def values_of_client(stack: Stack, row: int) -> np.ndarray:
    """One client's values, of shape (…)."""
    if not isinstance(stack, StoredStack):
        return np.asarray(stack[row])
    values = np.empty((1, num_columns(stack)), stack.dtype)
    stack.read(np.array([row]), slice(0, num_columns(stack)), values)
    return values.reshape(stack.shape[1:])


def copy_columns(stack: Stack, columns: slice, values: np.ndarray) -> None:
    """Write some columns of all clients into values of shape (clients, columns), any float dtype.

    Raises
    ------
    StorageError
        The stack's file has become too short, or cannot be read.
    """
    if not isinstance(stack, StoredStack):
        values[...] = stack.reshape(len(stack), num_columns(stack))[:, columns]
        return
    is_same = stack.dtype == values.dtype
    read = values if is_same else np.empty(values.shape, stack.dtype)
    stack.read(np.arange(len(stack)), columns, read)
    if not is_same:
        values[...] = read


def column_blocks(stack: Stack, rows: np.ndarray, width: int) -> Iterator[tuple[slice, np.ndarray]]:
    """A stack's rows in blocks of columns.

    Parameters
    ----------
    stack : ndarray or StoredStack of shape (clients, …)
    rows : ndarray of int
        Which clients, in this order.
    width : int
        Columns of a block.

    Yields
    ------
    columns : slice
        Which of the tensor's values, counted in C order.
    values : ndarray of shape (rows, columns), in the stack's dtype
        Not to be written to, and good until the next is asked for: it may be a view of the stack,
        or a buffer that is used again.
    """
    if isinstance(stack, StoredStack):
        yield from _blocks_from_file(stack, rows, width)
        return
    flat = stack.reshape(len(stack), num_columns(stack))
    everyone = np.array_equal(rows, np.arange(len(stack)))
    for columns in _columns(num_columns(stack), width):
        yield columns, flat[:, columns] if everyone else flat[rows, columns]


def _blocks_from_file(
    stack: StoredStack, rows: np.ndarray, width: int
) -> Iterator[tuple[slice, np.ndarray]]:
    buffer = np.empty(len(rows) * min(width, num_columns(stack)), stack.dtype)
    for columns in _columns(num_columns(stack), width):
        shape = len(rows), columns.stop - columns.start
        values = buffer[: math.prod(shape)].reshape(shape)
        stack.read(rows, columns, values)
        yield columns, values


def _columns(size: int, width: int) -> Iterator[slice]:
    for first in range(0, size, width):
        yield slice(first, min(first + width, size))


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
