"""Stacked tensors that stay in their file and are read a few columns at a time.

They are read and not mapped: a mapped file that is cut short ends the process that looks at it,
where reading says what happened. With a buffer that is used again it is no slower.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from fedviz.analysis.blocks import client_blocks
from fedviz.dataset import Round, StackedTensor, WeightDataset
from fedviz.errors import StorageError, located, storage_errors
from fedviz.progress import Progress, ProgressCallback, silent

__all__ = ["StackOf", "StoredStack", "cut_short", "stacks_of_round", "stored_stacks"]


class StoredStack:
    """A tensor of all conforming clients that lies in one piece of a file.

    It has the shape and the dtype of the array that it stands for.

    Parameters
    ----------
    descriptor : int
        Its open file.
    place : StackedTensor
        Where it lies there; in one piece, not empty.
    shortened : callable
        Gives the error for a file that ends before the tensor does.
    """

    def __init__(
        self, descriptor: int, place: StackedTensor, shortened: Callable[[], StorageError]
    ) -> None:
        self.shape = place.shape
        self.dtype = place.dtype
        self._descriptor = descriptor
        self._place = place
        self._shortened = shortened

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes, the clients' too."""
        return len(self.shape)

    def row(self, index: int) -> StoredStack:
        """One client's part, of shape (1, …)."""
        place = dataclasses.replace(
            self._place,
            offset=self._offset + index * self._row_bytes,
            shape=(1, *self.shape[1:]),
        )
        return StoredStack(self._descriptor, place, self._shortened)

    def read(self, rows: np.ndarray, columns: slice, out: np.ndarray) -> None:
        """Read some clients' values.

        Parameters
        ----------
        rows : ndarray of int
            Which clients, in this order.
        columns : slice
            Which values of a client, counted in C order; with both ends.
        out : ndarray of shape (rows, columns), in the stack's dtype, C-contiguous

        Raises
        ------
        StorageError
            The file has become too short, or cannot be read.
        """
        start = self._offset + columns.start * self.dtype.itemsize
        with storage_errors(self._place.path, "read"):
            for row, line in zip(rows.tolist(), out.view(np.uint8), strict=True):
                self._fill(line.data, start + row * self._row_bytes)

    @property
    def _offset(self) -> int:
        assert self._place.offset is not None, "it lies in one piece"
        return self._place.offset

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def _fill(self, line: memoryview, position: int) -> None:
        while line.nbytes:
            count = os.preadv(self._descriptor, [line], position)
            if not count:
                raise self._shortened()
            line, position = line[count:], position + count


StackOf = Callable[[Round, str], np.ndarray | StoredStack]
"""Gives a tensor of all conforming clients of a round, of shape (clients, …)."""


def cut_short(round_: Round, tensor: str) -> StorageError:
    """The error for a file that ends before a tensor does."""
    problem = "the file became shorter while it was read; copy it again and open it anew"
    return StorageError(
        located(problem, file=round_.dataset.path, round=round_.number, tensor=tensor)
    )


@contextlib.contextmanager
def stored_stacks(dataset: WeightDataset, progress: ProgressCallback = silent) -> Iterator[StackOf]:
    """The stacks of a dataset, in its file.

    A stack that is compressed or in pieces is copied once, block by block, into a file that is
    gone afterwards: memory stays bounded whatever the file is.

    Raises
    ------
    StorageError
        The file is gone or was replaced, before or meanwhile, or there is no room for a copy.
    """
    dataset.check_unchanged()
    with contextlib.ExitStack() as files:
        folder = files.enter_context(tempfile.TemporaryDirectory(prefix="fedviz-stacks-"))
        descriptors: dict[Path, int] = {}

        def descriptor_of(path: Path) -> int:
            if path not in descriptors:
                with storage_errors(path, "read"):
                    descriptors[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                files.callback(os.close, descriptors[path])
            return descriptors[path]

        def stack_of(round_: Round, tensor: str) -> np.ndarray | StoredStack:
            place = round_.stack(tensor)
            if 0 in place.shape:
                return np.zeros(place.shape, place.dtype)
            if place.offset is None:
                copy = Path(folder, f"{round_.number}-{dataset.signature.index(tensor)}")
                if not copy.exists():
                    _copy(round_, tensor, copy, progress)
                place = dataclasses.replace(place, path=copy, offset=0)
            return StoredStack(descriptor_of(place.path), place, lambda: cut_short(round_, tensor))

        yield stack_of
        dataset.check_unchanged()


@contextlib.contextmanager
def stacks_of_round(
    round_: Round, tensors: Iterable[str], progress: ProgressCallback = silent
) -> Iterator[dict[str, np.ndarray | StoredStack]]:
    """Some tensors of one round, as :func:`stored_stacks` gives them."""
    with stored_stacks(round_.dataset, progress) as stack_of:
        yield {tensor: stack_of(round_, tensor) for tensor in tensors}


def _copy(round_: Round, tensor: str, target: Path, progress: ProgressCallback) -> None:
    total = len(round_.conforming)
    with storage_errors(target, "write"), target.open("wb") as file:
        for rows, block in client_blocks(round_, tensor):
            progress(Progress(rows.start, total, f"copying {tensor} into one piece"))
            file.write(np.ascontiguousarray(block).tobytes())
