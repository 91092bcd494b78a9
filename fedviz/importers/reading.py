"""Weights from a file of any kind that needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from fedviz.errors import DatasetFormatError, located
from fedviz.importers.content import TENSORFLOW_KINDS, FileKind, file_kind
from fedviz.importers.fedviz_file import open_fedviz_file
from fedviz.importers.imported import ImportedWeights
from fedviz.importers.keras_hdf5 import open_keras_hdf5
from fedviz.importers.keras_store import open_keras_archive, open_keras_store
from fedviz.importers.npz import open_npy, open_npz
from fedviz.importers.safetensors import open_safetensors, open_sharded_safetensors

__all__ = ["READERS", "open_weights"]

READERS: Mapping[FileKind, Callable[[Path], AbstractContextManager[ImportedWeights]]] = {
    FileKind.FEDVIZ: open_fedviz_file,
    FileKind.KERAS_HDF5: open_keras_hdf5,
    FileKind.KERAS_STORE: open_keras_store,
    FileKind.KERAS_ARCHIVE: open_keras_archive,
    FileKind.NPZ: open_npz,
    FileKind.NPY: open_npy,
    FileKind.SAFETENSORS: open_safetensors,
    FileKind.SAFETENSORS_INDEX: open_sharded_safetensors,
}
"""How each kind of file is read."""


def open_weights(path: Path) -> AbstractContextManager[ImportedWeights]:
    """The weights in a file, whatever its name ends in; tensors are read while it is open.

    Raises
    ------
    StorageError
        The file cannot be read.
    DatasetFormatError
        It is a pickle, of an unknown kind, of a kind that only TensorFlow reads, several files
        in one, damaged, or something in it cannot be a weight.
    """
    kind = file_kind(path)
    reader = READERS.get(kind)
    if reader is None:
        raise DatasetFormatError(located(_refusal(kind), file=path))
    return reader(path)


def _refusal(kind: FileKind) -> str:
    if kind in TENSORFLOW_KINDS:
        return f"a {kind} cannot be read here; make a dataset of it with `fedviz import` first"
    return "expected the weights of one model, found a zip of files; unpack it and name one"
