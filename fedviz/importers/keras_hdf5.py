"""Keras's older HDF5 files: whole models and weights alone, of Keras 1, 2 and 3.

Every layer is a group; ``layer_names`` and each group's ``weight_names`` give the order. HDF5
itself lists groups alphabetically, which puts ``dense_10`` before ``dense_2``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py

from fedviz import hdf5_format as layout
from fedviz.errors import DatasetFormatError, located
from fedviz.importers.content import FileKind
from fedviz.importers.hdf5 import find_tensor, hdf5_reading, names_in, open_hdf5, own_member
from fedviz.importers.imported import (
    FoundTensor,
    ImportedWeights,
    LeftOut,
    check_count,
    collect_weights,
)

__all__ = ["open_keras_hdf5"]

_MODEL = "model_weights"
_OPTIMIZER = "optimizer_weights"
_TOP_LEVEL = "top_level_model_weights"


@contextlib.contextmanager
def open_keras_hdf5(path: Path) -> Iterator[ImportedWeights]:
    """The weights in a ``.h5`` file of Keras, in Keras's own order.

    Raises
    ------
    StorageError
        The file cannot be read.
    DatasetFormatError
        It is damaged, links out of itself, or something in it cannot be a weight.
    """
    with open_hdf5(path) as file:
        with hdf5_reading(path, "the names of layers and weights"):
            root = own_member(path, file, _MODEL) if layout.has_member(file, _MODEL) else file
            found = list(_found_in(path, root))
            left_out = list(_optimizer(path, file))
        yield collect_weights(path, FileKind.KERAS_HDF5, found, left_out)


def _found_in(path: Path, root: h5py.Group) -> Iterator[FoundTensor]:
    layers = names_in(path, root, "layer_names")
    # Weights of the model itself, which belong to none of its layers.
    if layout.has_member(root, _TOP_LEVEL) and _TOP_LEVEL not in layers:
        layers.append(_TOP_LEVEL)
    count = 0
    for layer in layers:
        group = own_member(path, root, layer)
        if not isinstance(group, h5py.Group):
            raise DatasetFormatError(
                located("expected a layer's group, found values", file=path, tensor=layer)
            )
        weights = names_in(path, group, "weight_names")
        count += len(weights)
        check_count(path, count)
        for weight in weights:
            source = f"{layer}/{weight}"
            name = _name(layer, weight)
            yield find_tensor(
                path, own_member(path, group, weight), source, name, source.removesuffix(":0")
            )


def _name(layer: str, weight: str) -> str:
    """What a weight of a layer is called.

    Keras 1 writes ``dense_1_W``, Keras 2 ``dense_1/kernel:0`` (and another layer's name in it
    where the layer is a model of its own), Keras 3 ``kernel`` or ``sequential/dense_1/kernel``.
    """
    name = weight.removesuffix(":0")
    if layer == _TOP_LEVEL or name.startswith((f"{layer}/", f"{layer}_")):
        return name
    before, inside, rest = name.partition(f"/{layer}/")
    if inside and before:
        return f"{layer}/{rest}"
    return name if "/" in name else f"{layer}/{name}"


def _optimizer(path: Path, file: h5py.File) -> Iterator[LeftOut]:
    if not layout.has_member(file, _OPTIMIZER):
        return
    group = own_member(path, file, _OPTIMIZER)
    if isinstance(group, h5py.Group):
        for name in names_in(path, group, "weight_names") or [""]:
            yield LeftOut(f"{_OPTIMIZER}/{name}".rstrip("/"), "optimizer state")
