"""Files in the layouts that Keras 1, 2 and 3 document, written with h5py."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

Layers = Mapping[str, Mapping[str, np.ndarray]]

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)
BIAS = np.array([1.0, 2.0, 3.0], np.float32)


def write_keras_hdf5(path: Path, layers: Layers, root: str = "", optimizer: bool = False) -> Path:
    """What ``save_weights_to_hdf5_group`` writes; ``root`` is "model_weights" in a whole model."""
    with h5py.File(path, "w") as file:
        group = file.require_group(root) if root else file
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, weights in layers.items():
            own = group.create_group(layer)
            own.attrs["weight_names"] = [name.encode() for name in weights]
            for name, array in weights.items():
                own[name] = array
        if optimizer:
            state = file.create_group("optimizer_weights")
            state.attrs["weight_names"] = [b"Adam/m/dense/kernel:0"]
            state["Adam/m/dense/kernel:0"] = KERNEL
    return path


def write_store(
    file: str | Path | io.BytesIO,
    groups: Mapping[str, Sequence[np.ndarray]],
    names: Mapping[str, str] | None = None,
) -> None:
    """What ``H5IOStore`` writes: ``GROUP/vars/0``; from Keras 3.6 on with the layer's name."""
    with h5py.File(file, "w") as store:
        for group, arrays in groups.items():
            own = store.require_group(f"{group}/vars")
            for i, array in enumerate(arrays):
                own[str(i)] = array
            if names and group in names:
                own.attrs["name"] = names[group]


def layer(class_name: str, name: str, **config: object) -> dict[str, object]:
    """A layer as a model's config lists it."""
    return {"class_name": class_name, "config": {"name": name, "trainable": True, **config}}


def write_keras_archive(
    path: Path,
    layers: Sequence[Mapping[str, object]],
    groups: Mapping[str, Sequence[np.ndarray]],
) -> Path:
    """What ``saving_lib.save_model`` of Keras 3 writes."""
    store = io.BytesIO()
    write_store(store, groups)
    config = {"class_name": "Functional", "config": {"name": "model", "layers": list(layers)}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.4.1"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", store.getvalue())
    return path
