"""NumPy's ``.npz`` files, read without running what is in them and within a stated size."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fedviz.errors import DatasetFormatError, located, storage_errors

__all__ = ["read_npz"]

_MAX_BYTES = 16 * 2**30


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
    with storage_errors(path, "read"), Path(path).open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return {
                    member.filename.removesuffix(".npy"): _read_member(path, archive, member)
                    for member in archive.infolist()
                }
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
            raise DatasetFormatError(
                located(f"expected an .npz file of numpy.savez, found another: {error}", file=path)
            ) from error


def _read_member(
    path: str | os.PathLike[str], archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> NDArray[Any]:
    name = member.filename.removesuffix(".npy")
    if member.file_size > _MAX_BYTES:
        raise DatasetFormatError(
            located(f"expected at most {_MAX_BYTES:,} bytes, found more", file=path, tensor=name)
        )
    with archive.open(member) as stream:
        shape, dtype = _read_header(stream)
    if dtype.hasobject:
        raise DatasetFormatError(
            located(
                "expected numbers, found Python objects, which may run code when they are read; "
                "save each as a plain array (numpy.asarray(x, dtype=numpy.float32))",
                file=path,
                tensor=name,
            )
        )
    if _nbytes(shape, dtype) > member.file_size:
        raise DatasetFormatError(
            located(
                f"expected {_nbytes(shape, dtype):,} bytes as its header says, "
                f"found {member.file_size:,}; copy the file again",
                file=path,
                tensor=name,
            )
        )
    with archive.open(member) as stream:
        return np.asarray(npy.read_array(stream, allow_pickle=False))  # type: ignore[no-untyped-call]


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
