"""HDF5 files of other programs, read without following what leads out of them."""

from __future__ import annotations

import contextlib
import functools
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from fedviz import hdf5_format as layout
from fedviz.errors import DatasetFormatError, located, storage_errors
from fedviz.importers.imported import FoundTensor, pickle_refusal, weight_dtype

__all__ = ["find_tensor", "hdf5_reading", "names_in", "open_hdf5", "own_member"]

# Deflate reaches 1,032 declared bytes for each stored one.
_LARGEST_RATIO = 1100

_HEAP_MARK = b"GCOL\x01"
_HEAP_HEAD = struct.Struct("<8xQ")
_SMALLEST_HEAP = 4096
_SEARCHED_BYTES = 2**22


@contextlib.contextmanager
def open_hdf5(path: Path, content: Path | None = None) -> Iterator[h5py.File]:
    """An HDF5 file, opened for reading.

    Parameters
    ----------
    path : Path
        What messages name.
    content : Path, optional
        Where the bytes are, if not there: they came out of an archive.

    Raises
    ------
    StorageError
        The file cannot be read.
    DatasetFormatError
        It is no HDF5 file, or damaged, wherever in the block that shows.
    """
    with (
        storage_errors(path, "read"),
        hdf5_reading(path, "HDF5's head"),
        h5py.File(content or path, "r", locking="best-effort") as file,
    ):
        _refuse_broken_heaps(path, file)
        yield file


def hdf5_reading(path: Path, what: str) -> contextlib.AbstractContextManager[None]:
    """Context in which a failure of HDF5 is reported with the file and what was to be read."""
    return layout.damage_reported(path, what)


def own_member(path: Path, group: h5py.Group, name: str) -> Any:
    """An item of the file itself; links to other files or places are not followed.

    ``name`` may have several steps (``dense/kernel:0``); each is looked at before it is taken.
    """
    item: Any = group
    for step in filter(None, name.split("/")):
        found = isinstance(item, h5py.Group) and layout.has_member(item, step)
        if not found or item.id.links.get_info(step.encode()).type != h5py.h5l.TYPE_HARD:
            problem = "a link to another place" if found else "no such item"
            raise DatasetFormatError(
                located(
                    f"expected it in the file, found {problem}; save the model anew into one file",
                    file=path,
                    tensor=name,
                )
            )
        item = item[step]
    return item


def names_in(path: Path, group: h5py.Group, attribute: str) -> list[str]:
    """A list of names; HDF5 holds one above 64 kB as attribute0, attribute1, and so on."""
    keys = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(keys)}" in group.attrs:
        keys.append(f"{attribute}{len(keys)}")
    values = [value for key in keys for value in np.asarray(group.attrs[key]).ravel()]
    if not all(isinstance(value, bytes | str) for value in values):
        raise DatasetFormatError(
            located(f"expected texts in {attribute}, found {values[0]!r}"[:300], file=path)
        )
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _refuse_broken_heaps(path: Path, file: h5py.File) -> None:
    """Refuse a file whose texts of variable length HDF5 would look for without an end.

    They lie in global heaps, which have no checksum: one wrong byte makes the library loop.
    """
    descriptor = file.id.get_vfd_handle()
    for at in _heap_marks(descriptor):
        if not _is_sound_heap(descriptor, at):
            raise DatasetFormatError(
                located(f"damaged: the texts at byte {at:,}; copy the file again", file=path)
            )


def _heap_marks(descriptor: int) -> Iterator[int]:
    """Bytes at which a heap may begin."""
    # Read and not mapped: a mapped file that is cut short meanwhile ends the process.
    start, overlap = 0, len(_HEAP_MARK) - 1
    while len(content := os.pread(descriptor, _SEARCHED_BYTES, start)) > overlap:
        at = content.find(_HEAP_MARK)
        while at >= 0:
            yield start + at
            at = content.find(_HEAP_MARK, at + 1)
        start += len(content) - overlap


def _is_sound_heap(descriptor: int, start: int) -> bool:
    """Whether the objects of a global heap fill it; true too for what HDF5 takes for no heap."""
    head = os.pread(descriptor, _HEAP_HEAD.size, start)
    if len(head) < _HEAP_HEAD.size:
        return True
    (size,) = _HEAP_HEAD.unpack(head)
    if not _SMALLEST_HEAP <= size <= os.fstat(descriptor).st_size - start:
        return True
    # No model's texts are as long as that, and they are held in memory here.
    if size > layout.LARGEST_HEAP:
        return False
    return layout.heap_objects(os.pread(descriptor, size, start)) is not None


def find_tensor(
    path: Path, item: Any, source: str, name: str, full_name: str, trainable: bool | None = None
) -> FoundTensor:
    """A dataset of the file as a tensor, after all that it claims has been checked.

    Raises
    ------
    DatasetFormatError
        It is no dataset, keeps its values elsewhere, or declares more than the file has.
    """
    if not isinstance(item, h5py.Dataset):
        raise DatasetFormatError(
            located(
                "expected a dataset, found a group; copy the file again", file=path, tensor=name
            )
        )
    dtype = _dtype_of(path, item, name)
    _refuse_foreign_storage(path, item, name)
    _refuse_overstated_size(path, item, name)
    read = functools.partial(_read, path, item, name, dtype)
    return FoundTensor(source, name, full_name, item.shape, dtype, read, trainable)


def _dtype_of(path: Path, item: h5py.Dataset, name: str) -> np.dtype[Any]:
    dtype = item.dtype
    if h5py.check_string_dtype(dtype) is not None:
        weight_dtype(path, name, np.dtype("U1"))
    if dtype.hasobject:
        raise pickle_refusal(path, name)
    if item.shape is None:
        raise DatasetFormatError(
            located("expected values, found an empty dataset", file=path, tensor=name)
        )
    # HDF5 has no name for bfloat16: Keras 3 stores two bytes each, and says so beside them.
    if dtype.itemsize == 2 and dtype.kind == "V" and item.attrs.get("dtype") == "bfloat16":
        return np.dtype(ml_dtypes.bfloat16)
    weight_dtype(path, name, dtype)
    return dtype


def _refuse_foreign_storage(path: Path, item: h5py.Dataset, name: str) -> None:
    if item.is_virtual or item.external:
        raise DatasetFormatError(
            located(
                "its values lie in another file, which is not followed; save the model anew into "
                "one file",
                file=path,
                tensor=name,
            )
        )


def _refuse_overstated_size(path: Path, item: h5py.Dataset, name: str) -> None:
    stored, size = item.id.get_storage_size(), os.fstat(item.file.id.get_vfd_handle()).st_size
    offset = item.id.get_offset()
    beyond = offset is not None and offset + stored > size
    if beyond or stored > size or item.nbytes > _LARGEST_RATIO * stored:
        raise DatasetFormatError(
            located(
                f"declares {item.nbytes:,} bytes, of which {stored:,} are stored in a file of "
                f"{size:,}; copy the file again",
                file=path,
                tensor=name,
            )
        )


def _read(path: Path, item: h5py.Dataset, name: str, dtype: np.dtype[Any]) -> np.ndarray:
    with storage_errors(path, "read"), hdf5_reading(path, f"tensor {name}"):
        values = np.asarray(item[()])
    return values.view(dtype) if dtype == ml_dtypes.bfloat16 else values
