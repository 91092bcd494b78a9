"""Opening a fedviz file, and creating one."""

from __future__ import annotations

from pathlib import Path

import h5py

from fedviz.errors import DatasetFormatError, NewerFormatError, StorageError, storage_errors
from fedviz.hdf5_format.attributes import read_integer_attribute, read_text_attribute
from fedviz.hdf5_format.members import damage_reported
from fedviz.hdf5_format.names import ALIGNMENT, FORMAT, FORMAT_VERSION

__all__ = ["create_file", "open_file"]

_LIBRARY_VERSIONS = ("v108", "v110")


def open_file(path: Path) -> h5py.File:
    """Open a fedviz file for reading.

    Raises
    ------
    StorageError
        The file is absent or may not be read, or is being written by another process.
    DatasetFormatError
        It is not HDF5, not a fedviz file, or cut short.
    NewerFormatError
        Its format version is higher than :data:`FORMAT_VERSION`.
    """
    with storage_errors(path, "read"):
        if path.is_dir():
            raise StorageError(f"cannot read {path.name}: it is a folder; name a file in it.")
        size = path.stat().st_size
        with path.open("rb"):
            pass
    if not h5py.is_hdf5(path):
        found = "an empty file" if size == 0 else "another kind of file"
        raise DatasetFormatError(f"{path.name} is not an HDF5 file: found {found}.")
    file = _open_hdf5(path)
    try:
        _check_format(file, path)
    except BaseException:
        file.close()
        raise
    return file


def _open_hdf5(path: Path) -> h5py.File:
    try:
        with storage_errors(path, "read"):
            return h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        if "truncated file" in str(error):
            raise DatasetFormatError(
                f"{path.name} is shorter than its index says. Copy it again."
            ) from error
        raise DatasetFormatError(
            f"{path.name} is damaged: HDF5 cannot open it ({error})."
        ) from error


def _check_format(file: h5py.File, path: Path) -> None:
    with damage_reported(path, "the format's name and version"):
        name = read_text_attribute(file, "format")
        version = read_integer_attribute(file, "format_version")
        properties = file.id.get_create_plist()
        usual = properties.get_sizes() == (8, 8) and properties.get_userblock() == 0
    if name != FORMAT:
        raise DatasetFormatError(
            f"{path.name} is HDF5, but not a fedviz dataset: expected the attribute "
            f"format = {FORMAT}, found {name!r}."
        )
    if version is None or version < 1:
        raise DatasetFormatError(
            f"{path.name}: expected a number from 1 as format_version, found {version}. "
            "Copy the file again."
        )
    if version > FORMAT_VERSION:
        raise NewerFormatError(
            f"{path.name} has format version {version}; this fedviz reads up to "
            f"{FORMAT_VERSION}. Install a newer fedviz."
        )
    if not usual:
        raise DatasetFormatError(
            f"{path.name}: expected an HDF5 file with 8-byte addresses and no user block. "
            "Repack it with h5repack."
        )


def create_file(path: Path, mode: str) -> h5py.File:
    """Open a temporary file for writing: ``"w"`` a new one, ``"r+"`` a copy that is extended."""
    # The gaps that the alignment leaves are no space to look through for every new object: with
    # many tensors the search takes a time that grows with the square of their number.
    gaps = {"fs_strategy": "fsm", "fs_threshold": ALIGNMENT} if mode == "w" else {}
    with storage_errors(path, "write"):
        return h5py.File(
            path,
            mode,
            libver=_LIBRARY_VERSIONS,
            alignment_threshold=1,
            alignment_interval=ALIGNMENT,
            locking="best-effort",
            **gaps,
        )
