"""A round's stacked tensors as arrays that are mapped and not read."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from fedviz.analysis.blocks import client_blocks
from fedviz.dataset import FileIdentity, Round, WeightDataset
from fedviz.errors import StorageError, located, storage_errors
from fedviz.progress import Progress, ProgressCallback

__all__ = ["Stack", "mapped_stacks"]

Stack = Callable[[Round, str], np.ndarray]
"""Gives a tensor of all conforming clients of a round, of shape (clients, …)."""


@contextlib.contextmanager
def mapped_stacks(dataset: WeightDataset, progress: ProgressCallback) -> Iterator[Stack]:
    """The stacks of a dataset, mapped from its file.

    A stack that is compressed or in pieces is copied once, block by block, into a file that is
    gone afterwards: memory stays bounded whatever the file is.

    Raises
    ------
    StorageError
        The file is gone or was replaced, or there is no room for a copy.
    """
    with storage_errors(dataset.path, "read"):
        unchanged = FileIdentity.of(dataset.path) == dataset.identity
    if not unchanged:
        message = "the file was replaced since it was opened; open it again"
        raise StorageError(located(message, file=dataset.path))
    with tempfile.TemporaryDirectory(prefix="fedviz-map-") as folder:

        def stack(round_: Round, tensor: str) -> np.ndarray:
            place = round_.stack(tensor)
            if 0 in place.shape:
                return np.zeros(place.shape, place.dtype)
            if place.offset is None:
                copy = Path(folder, f"{round_.number}-{dataset.signature.index(tensor)}")
                if not copy.exists():
                    _copy(round_, tensor, copy, progress)
                return np.memmap(copy, place.dtype, "r", 0, place.shape)
            with storage_errors(place.path, "read"):
                return np.memmap(place.path, place.dtype, "r", place.offset, place.shape)

        yield stack


def _copy(round_: Round, tensor: str, target: Path, progress: ProgressCallback) -> None:
    total = len(round_.conforming)
    with storage_errors(target, "write"), target.open("wb") as file:
        for rows, block in client_blocks(round_, tensor):
            progress(Progress(rows.start, total, f"copying {tensor} into one piece"))
            file.write(np.ascontiguousarray(block).tobytes())
