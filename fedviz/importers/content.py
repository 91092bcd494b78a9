"""What a file or folder is, by its content; its name only helps to say what is wrong with it."""

from __future__ import annotations

import contextlib
import json
from enum import StrEnum
from pathlib import Path

import h5py

from fedviz import hdf5_format as layout
from fedviz.errors import DatasetFormatError, StorageError, located, storage_errors
from fedviz.importers.archives import open_archive
from fedviz.importers.imported import pickle_refusal

__all__ = [
    "PICKLE_ENDINGS",
    "TENSORFLOW_KINDS",
    "FileKind",
    "file_kind",
    "may_hold_weights",
    "recognise",
]


class FileKind(StrEnum):
    """The kinds of files that hold weights; the values are what a person reads."""

    FEDVIZ = "fedviz dataset"
    KERAS_HDF5 = "Keras HDF5"
    KERAS_STORE = "Keras .weights.h5"
    KERAS_ARCHIVE = "Keras .keras"
    NPZ = "NumPy .npz"
    NPY = "NumPy .npy"
    SAFETENSORS = "safetensors"
    SAFETENSORS_INDEX = "safetensors in shards"
    CHECKPOINT = "TensorFlow checkpoint"
    SAVED_MODEL = "TensorFlow SavedModel"
    ARCHIVE = "zip of files"
    PICKLE = "pickle"


TENSORFLOW_KINDS = frozenset({FileKind.CHECKPOINT, FileKind.SAVED_MODEL})
"""The kinds that only TensorFlow reads."""

PICKLE_ENDINGS = frozenset({".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".ckpt"})
"""Endings that usually mean a pickle; where the content says otherwise, that counts."""

_HDF5_START = b"\x89HDF\r\n\x1a\n"
_NPY_START = b"\x93NUMPY"
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
# Protocols 2 to 5 of Python's pickle.
_PICKLE_STARTS = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
# The last eight bytes of a TensorFlow checkpoint's index (LevelDB's table format).
_INDEX_END = bytes.fromhex("57fb808b247547db")
_STATE_START = b"model_checkpoint_path"
_MAX_SAFETENSORS_HEADER = 100_000_000
_MAX_JSON = 64 * 2**20

_OTHERS = (
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"BZh", "a bzip2 file; unpack it first"),
    (b"\xfd7zXZ", "an xz file; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"<", "a web page or XML; download the file itself"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
)
_EXPECTED = {
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".keras": "a .keras archive of Keras",
    ".npz": "an .npz file of numpy.savez",
    ".safetensors": "a .safetensors file",
}


def file_kind(path: Path) -> FileKind:
    """What a file or folder is, if weights can be read from it.

    Raises
    ------
    StorageError
        It is absent or cannot be read.
    DatasetFormatError
        It is a pickle, or none of the known kinds; the message says what was found.
    """
    kind = recognise(path)
    if kind is FileKind.PICKLE or (kind is None and path.suffix.lower() in PICKLE_ENDINGS):
        raise pickle_refusal(path)
    if kind is None:
        ending = path.name.lower()
        expected = next((v for k, v in _EXPECTED.items() if ending.endswith(k)), "weights")
        raise DatasetFormatError(located(f"expected {expected}, found {_found(path)}", file=path))
    return kind


def recognise(path: Path) -> FileKind | None:
    """What a file or folder is; None where it is none of the known kinds.

    Raises
    ------
    StorageError
        It is absent or cannot be read.
    DatasetFormatError
        It begins like a known kind, but is damaged.
    """
    with storage_errors(path, "read"):
        if path.is_dir():
            return FileKind.SAVED_MODEL if (path / "saved_model.pb").is_file() else None
        if not path.is_file():
            raise StorageError(f"cannot read {path.name}: there is no {path}.")
        with path.open("rb") as file:
            start = file.read(4096)
            file.seek(max(0, path.stat().st_size - 8))
            end = file.read(8)
    if start.startswith(_ZIP_STARTS):
        return _zip_kind(path)
    if start.startswith(_HDF5_START) or h5py.is_hdf5(path):
        return _hdf5_kind(path)
    return _kind_by_start(path, start, end)


def _kind_by_start(path: Path, start: bytes, end: bytes) -> FileKind | None:
    if start.startswith(_NPY_START):
        return FileKind.NPY
    if start.startswith(_PICKLE_STARTS):
        return FileKind.PICKLE
    if end == _INDEX_END or start.startswith(_STATE_START):
        return FileKind.CHECKPOINT
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and length <= _MAX_SAFETENSORS_HEADER:
        return FileKind.SAFETENSORS
    if start.lstrip()[:1] == b"{" and _has_weight_map(path):
        return FileKind.SAFETENSORS_INDEX
    return None


def may_hold_weights(name: str, start: bytes) -> bool:
    """Whether a file may be weights, by its name and its first bytes alone.

    A pickle is not, as it is never opened. :func:`recognise` looks at the whole file.
    """
    if start.startswith(_PICKLE_STARTS):
        return False
    return (
        start.startswith((_HDF5_START, _NPY_START, *_ZIP_STARTS))
        or start[8:9] == b"{"
        or name.lower().endswith((*_EXPECTED, ".npy", ".index", ".index.json"))
    )


def _has_weight_map(path: Path) -> bool:
    if path.stat().st_size > _MAX_JSON:
        return False
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(path.read_bytes())
        return isinstance(content, dict) and "weight_map" in content
    return False


def _zip_kind(path: Path) -> FileKind:
    with open_archive(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return FileKind.PICKLE
    if {"config.json", "metadata.json"} <= set(names):
        return FileKind.KERAS_ARCHIVE
    # numpy.savez() of nothing at all is an archive of nothing.
    if all(name.endswith(".npy") for name in names):
        return FileKind.NPZ
    return FileKind.ARCHIVE


def _hdf5_kind(path: Path) -> FileKind:
    with (
        storage_errors(path, "read"),
        layout.damage_reported(path, "HDF5's head"),
        h5py.File(path, "r", locking="best-effort") as file,
    ):
        if "format" in file.attrs and "format_version" in file.attrs:
            return FileKind.FEDVIZ
        if _has_layer_names(file) or layout.has_member(file, "model_weights"):
            return FileKind.KERAS_HDF5
        return FileKind.KERAS_STORE


def _has_layer_names(file: h5py.File) -> bool:
    # More names than an attribute holds are kept in layer_names0, layer_names1, ...
    return "layer_names" in file.attrs or "layer_names0" in file.attrs


def _found(path: Path) -> str:
    if path.is_dir():
        return "a folder without weights"
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "an empty file"
    for magic, name in _OTHERS:
        if start.startswith(magic):
            return name
    if path.name.startswith("variables.data-") or ".data-000" in path.name:
        return "a part of a TensorFlow checkpoint; name its folder or its .index"
    readable = all(32 <= byte < 127 or byte in b"\r\n\t" for byte in start)
    return "a text" if readable else "another kind of file, or a damaged one; copy it again"
