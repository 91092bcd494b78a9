"""NumPy's ``.npz`` and ``.npy`` files, read without running what is in them."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fedviz.errors import DatasetFormatError, located, storage_errors
from fedviz.importers.archives import archive_members, archive_reading, open_archive
from fedviz.importers.content import FileKind, file_kind
from fedviz.importers.imported import (
    FoundTensor,
    ImportedWeights,
    collect_weights,
    pickle_refusal,
)
from fedviz.importers.natural_order import natural_key
from fedviz.signature import Signature

__all__ = ["is_numbered", "open_npy", "open_npz", "read_npz"]

# What numpy.savez() calls arrays that are given without a name, as Flower's examples do.
_NUMBERED = re.compile(r"arr_[0-9]+")


def read_npz(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file, in the order in which they were written.

    Parameters
    ----------
    path : path
        As :func:`numpy.savez` and :func:`numpy.savez_compressed` write it.

    Raises
    ------
    StorageError
        The file cannot be read.
    DatasetFormatError
        It is no such file, an array holds Python objects (pickles are never read), or declares
        more values than the file has bytes for.
    """
    file = Path(path)
    kind = file_kind(file)
    if kind is not FileKind.NPZ:
        raise DatasetFormatError(
            located(f"expected an .npz file of numpy.savez, found {kind}", file=file)
        )
    with open_archive(file) as archive:
        return {tensor.name: tensor.read() for tensor in _found_in(file, archive)}


@contextlib.contextmanager
def open_npz(path: Path) -> Iterator[ImportedWeights]:
    """The weights in an ``.npz`` file; ``arr_0``, ``arr_1``, ... in the order of their numbers.

    Raises
    ------
    StorageError, DatasetFormatError
        See :func:`read_npz`; or something in it cannot be a weight.
    """
    with open_archive(path) as archive:
        found = _found_in(path, archive)
        notes = []
        if all(_NUMBERED.fullmatch(tensor.name) for tensor in found):
            found.sort(key=lambda tensor: natural_key(tensor.name))
            notes.append("the file gives its arrays numbers instead of names")
        yield collect_weights(path, FileKind.NPZ, found, notes=notes)


@contextlib.contextmanager
def open_npy(path: Path) -> Iterator[ImportedWeights]:
    """The one array of an ``.npy`` file, as the tensor ``arr_0``.

    Raises
    ------
    StorageError, DatasetFormatError
        See :func:`read_npz`; or it cannot be a weight.
    """
    size = path.stat().st_size
    with storage_errors(path, "read"), _npy_reading(path, "arr_0"):
        with path.open("rb") as file:
            shape, dtype = _checked_header(path, "arr_0", file, size)
        found = FoundTensor(
            path.name, "arr_0", "arr_0", shape, dtype, functools.partial(_read_npy, path)
        )
        notes = ["an .npy file is one array; a model's are saved with numpy.savez(path, *arrays)"]
        yield collect_weights(path, FileKind.NPY, [found], notes=notes)


def is_numbered(signature: Signature) -> bool:
    """Whether the tensors have no names but those that :func:`numpy.savez` makes up."""
    return all(_NUMBERED.fullmatch(name) for name in signature.names)


def _read_npy(path: Path) -> NDArray[Any]:
    with path.open("rb") as file:
        return _read_array(file)


def _found_in(path: Path, archive: zipfile.ZipFile) -> list[FoundTensor]:
    return [_found(path, archive, member) for member in archive_members(path, archive)]


def _found(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> FoundTensor:
    name = member.filename.removesuffix(".npy")
    with _npy_reading(path, name), archive.open(member) as stream:
        shape, dtype = _checked_header(path, name, stream, member.file_size)
    read = functools.partial(_read_member, path, archive, member, name)
    return FoundTensor(member.filename, name, name, shape, dtype, read)


def _read_member(
    path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str
) -> NDArray[Any]:
    with _npy_reading(path, name), archive.open(member) as stream:
        return _read_array(stream)


def _read_array(stream: IO[bytes]) -> NDArray[Any]:
    return np.asarray(npy.read_array(stream, allow_pickle=False))  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _npy_reading(path: Path, name: str) -> Iterator[None]:
    with archive_reading(path, f"tensor {name[:120]}"):
        yield


def _checked_header(
    path: Path, name: str, stream: IO[bytes], size: int
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype, if there are no objects in it and the file has the bytes for them."""
    shape, dtype = _read_header(stream)
    if dtype.hasobject:
        raise pickle_refusal(path, name)
    if _nbytes(shape, dtype) > size:
        raise DatasetFormatError(
            located(
                f"expected {_nbytes(shape, dtype):,} bytes as its header says, found {size:,}; "
                "copy the file again",
                file=path,
                tensor=name,
            )
        )
    return shape, dtype


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(stream)  # type: ignore[no-untyped-call]
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)  # type: ignore[no-untyped-call]
    return shape, dtype


def _nbytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    # Python's integers do not overflow where NumPy's would.
    total = dtype.itemsize
    for size in shape:
        total *= size
    return total
