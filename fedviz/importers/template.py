"""A weights file as the template of a dataset: its tensors and their signature."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fedviz.dataset import WeightDataset
from fedviz.errors import DatasetFormatError, located, storage_errors
from fedviz.importers.npz import read_npz
from fedviz.signature import DTYPES, Signature

__all__ = ["read_template"]

Named = dict[str, NDArray[Any]]

_PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".ckpt"})


def read_template(path: str | os.PathLike[str]) -> tuple[list[NDArray[Any]], Signature]:
    """The weights in a file, and their signature.

    Parameters
    ----------
    path : path
        A fedviz dataset (the server model of its first round), ``.npz``, ``.safetensors``, or
        Keras weights in HDF5: Keras 2's ``.h5`` (tensors in the order of ``layer_names`` and
        ``weight_names``), or ``.weights.h5`` (the file keeps no names of variables: they are
        called ``LAYER/0``, ``LAYER/1``, in the file's alphabetical order of layers).

    Returns
    -------
    weights : list of ndarray
        In the file's order.
    signature : Signature
        Whether a tensor is trainable is known for a fedviz dataset only.

    Raises
    ------
    StorageError
        The file cannot be read.
    DatasetFormatError
        It is of another kind, holds pickles or Python objects, or no weights.
    """
    suffix = Path(path).suffix.lower()
    if suffix in _PICKLES:
        raise DatasetFormatError(
            located(
                f"a {suffix} file is a pickle, which may run code when it is read; save the "
                "weights as .safetensors (safetensors.torch.save_file) or .npz (numpy.savez)",
                file=path,
            )
        )
    reader = _READERS.get(suffix)
    if reader is None:
        raise DatasetFormatError(
            located(f"expected one of {', '.join(_READERS)}, found {suffix or 'none'}", file=path)
        )
    return reader(path)


def _read_npz(path: str | os.PathLike[str]) -> tuple[list[NDArray[Any]], Signature]:
    return _weights(path, read_npz(path))


def _read_safetensors(path: str | os.PathLike[str]) -> tuple[list[NDArray[Any]], Signature]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        with storage_errors(path, "read"):
            named = load_file(path)
    except (SafetensorError, KeyError) as error:
        raise DatasetFormatError(
            located(f"expected a .safetensors file, found another: {error}", file=path)
        ) from error
    return _weights(path, named)


def _read_hdf5(path: str | os.PathLike[str]) -> tuple[list[NDArray[Any]], Signature]:
    with storage_errors(path, "read"), _open_hdf5(path) as file:
        if "format" not in file.attrs:
            named = _keras_weights(path, file)
            return _weights(path, named)
    return _read_server_model(path)


def _open_hdf5(path: str | os.PathLike[str]) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if Path(path).is_file() and error.errno is None:
            raise DatasetFormatError(
                located("expected an HDF5 file, found another kind or a damaged one", file=path)
            ) from error
        raise


def _read_server_model(path: str | os.PathLike[str]) -> tuple[list[NDArray[Any]], Signature]:
    with WeightDataset.open(Path(path)) as dataset:
        if not dataset.rounds or dataset.rounds[0].server is None:
            raise DatasetFormatError(
                located("expected a server model in its first round, found none", file=path)
            )
        server = dataset.rounds[0].server
        return [np.asarray(server[name]) for name in dataset.signature.names], dataset.signature


def _keras_weights(path: str | os.PathLike[str], file: h5py.File) -> Named:
    # A whole saved model keeps its weights one level down.
    root = file.get("model_weights", file)
    if "layer_names" in root.attrs:
        return _keras_2_weights(path, root)
    return _keras_3_weights(path, file)


def _keras_2_weights(path: str | os.PathLike[str], root: h5py.Group) -> Named:
    named: Named = {}
    for layer in _texts(root, "layer_names"):
        for weight in _texts(_own(path, root, layer), "weight_names"):
            name = weight.removesuffix(":0")
            named[name] = _read(path, _own(path, root[layer], weight), name)
    return named


def _keras_3_weights(path: str | os.PathLike[str], file: h5py.File) -> Named:
    named: Named = {}
    roots = [n for n in ("layers", "_layer_checkpoint_dependencies") if n in file]
    for root in roots[:1]:
        _collect(path, file[root], "", named)
    return named


def _collect(path: str | os.PathLike[str], group: h5py.Group, prefix: str, named: Named) -> None:
    for key in group:
        item = _own(path, group, key)
        name = prefix if key == "vars" else f"{prefix}/{key}".lstrip("/")
        if isinstance(item, h5py.Group):
            _collect(path, item, name, named)
        else:
            named[name] = _read(path, item, name)


def _texts(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names; HDF5 splits one above 64 kB into attribute0, attribute1, ..."""
    chunks = [group.attrs[attribute]] if attribute in group.attrs else []
    while f"{attribute}{len(chunks)}" in group.attrs:
        chunks.append(group.attrs[f"{attribute}{len(chunks)}"])
    values = [value for chunk in chunks for value in np.asarray(chunk).ravel()]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _own(path: str | os.PathLike[str], group: h5py.Group, name: str) -> Any:
    """An item of the file itself: links to other files are not followed."""
    if isinstance(group.get(name, getlink=True), h5py.ExternalLink) or name not in group:
        raise DatasetFormatError(
            located("expected it in the file, found no such item or a link", file=path, tensor=name)
        )
    return group[name]


def _read(path: str | os.PathLike[str], dataset: h5py.Dataset, name: str) -> NDArray[Any]:
    if dataset.is_virtual or dataset.external:
        raise DatasetFormatError(
            located("expected its values in the file, found a reference", file=path, tensor=name)
        )
    if dataset.nbytes and dataset.chunks is None and dataset.id.get_storage_size() == 0:
        raise DatasetFormatError(
            located("expected its values in the file, found none", file=path, tensor=name)
        )
    return np.asarray(dataset[()])


def _weights(
    path: str | os.PathLike[str], named: Mapping[str, NDArray[Any]]
) -> tuple[list[NDArray[Any]], Signature]:
    if not named:
        raise DatasetFormatError(located("expected weights, found no tensors", file=path))
    for name, array in named.items():
        if array.dtype.name not in DTYPES:
            raise DatasetFormatError(
                located(
                    f"dtype {array.dtype} cannot be a weight; expected one of {', '.join(DTYPES)}",
                    file=path,
                    tensor=name,
                )
            )
    return list(named.values()), Signature.of(named)


_Reader = Callable[[str | os.PathLike[str]], tuple[list[NDArray[Any]], Signature]]
_READERS: Mapping[str, _Reader] = {
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
}
