"""Keras's newer files, ``.weights.h5`` and ``.keras``: numbered variables in named groups.

A layer's group is named by its class and a counter (``dense``, ``dense_1``), its variables are
``vars/0``, ``vars/1``, and so on. What the layers are called, and their order, is in the config
that a ``.keras`` archive has beside the weights. It is read as data; nothing is built from it.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from fedviz.errors import DatasetFormatError, located
from fedviz.importers.archives import (
    archive_members,
    archive_reading,
    copy_member,
    open_archive,
)
from fedviz.importers.content import FileKind
from fedviz.importers.hdf5 import find_tensor, hdf5_reading, open_hdf5, own_member
from fedviz.importers.imported import (
    FoundTensor,
    ImportedWeights,
    LeftOut,
    check_count,
    collect_weights,
)
from fedviz.importers.keras_layers import (
    KINDS_WITH_VARIABLES,
    LayerConfig,
    child_layers,
    layer_configs,
    variable_names,
)
from fedviz.importers.natural_order import natural_key

__all__ = ["open_keras_archive", "open_keras_store"]

_VARS = "vars"
# Keras 3 says "layers"; Keras 2.12 to 2.14 had another name for the same list.
_KERAS_3 = "layers"
_CONTAINERS = (_KERAS_3, "_layer_checkpoint_dependencies")
_NOT_WEIGHTS: Mapping[str, str] = {
    "optimizer": "optimizer state",
    "metrics": "a metric",
    "_metrics": "a metric",
    "compile_metrics": "a metric",
    "_compile_metrics": "a metric",
    "_loss_tracker": "a metric",
    "loss": "state of the loss",
    "_compile_loss": "state of the loss",
}
_RANDOM = "seed_generator"
_FORWARD = "forward_layer"
# For values that lie in chunks, or that are too few to be written at all.
_NOT_WHOLE = -1
_NOT_TRAINED = frozenset({"moving_mean", "moving_variance"})
_WEIGHTS = "model.weights.h5"
_MAX_CONFIG = 64 * 2**20
_MAX_DEPTH = 32


@contextlib.contextmanager
def open_keras_store(path: Path) -> Iterator[ImportedWeights]:
    """The weights in a ``.weights.h5`` file.

    The file names no layers before Keras 3.6: they then have the names of their groups. It lists
    them by name; their values lie in it as Keras wrote them, in the model's order.

    Raises
    ------
    StorageError
        The file cannot be read.
    DatasetFormatError
        It is damaged, links out of itself, or something in it cannot be a weight.
    """
    with open_hdf5(path) as file:
        yield _collected(path, file, {}, FileKind.KERAS_STORE)


@contextlib.contextmanager
def open_keras_archive(path: Path) -> Iterator[ImportedWeights]:
    """The weights in a ``.keras`` archive, under its config's names and in its order.

    Raises
    ------
    StorageError
        The file cannot be read.
    DatasetFormatError
        It is damaged, keeps its weights as pickles, or something in it cannot be a weight.
    """
    with tempfile.TemporaryDirectory(prefix="fedviz-") as folder:
        store = Path(folder) / _WEIGHTS
        with open_archive(path) as archive:
            members = {m.filename: m for m in archive_members(path, archive)}
            if _WEIGHTS not in members:
                raise DatasetFormatError(
                    located(
                        f"expected {_WEIGHTS} in the archive, found {', '.join(members)[:200]}; "
                        "save the weights with model.save_weights('client.weights.h5')",
                        file=path,
                    )
                )
            config = _config(path, archive, members)
            copy_member(path, archive, members[_WEIGHTS], store)
        with open_hdf5(path, store) as file:
            yield _collected(path, file, config, FileKind.KERAS_ARCHIVE)


def _config(
    path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]
) -> Mapping[str, Any]:
    member = members["config.json"]
    if member.file_size > _MAX_CONFIG:
        raise DatasetFormatError(
            located(
                f"expected a config.json of at most {_MAX_CONFIG:,} bytes, found "
                f"{member.file_size:,}",
                file=path,
            )
        )
    with archive_reading(path, "config.json"):
        try:
            config = json.loads(archive.read(member))
        except RecursionError:
            config = {}
    return config if isinstance(config, dict) else {}


def _collected(
    path: Path, file: h5py.File, config: Mapping[str, Any], kind: FileKind
) -> ImportedWeights:
    walk = _Walk(path, full_paths=_KERAS_3 in file)
    root = LayerConfig("", "", config.get("config") or {})
    with hdf5_reading(path, "the layers' groups"):
        walk.visit(file, _Place("", root, (), ()))
    notes = []
    if walk.numbered:
        named = ", ".join(walk.numbered[:6]) + (" …" if len(walk.numbered) > 6 else "")
        notes.append(f"the file does not name the variables of {named}: they are numbered")
    if not config:
        notes.append("the file keeps no order of layers: they are as they were written")
    return collect_weights(path, kind, walk.found, walk.left_out, notes)


@dataclass(frozen=True)
class _Place:
    """Where a group is: its path in the file, the layer it holds, and what leads to its name.

    ``inner`` names the layer within its model, ``outer`` the models around that.
    """

    source: str
    layer: LayerConfig
    outer: tuple[str, ...]
    inner: tuple[str, ...]
    trainable: bool | None = None

    def inside(self, key: str, layer: LayerConfig, *, own_model: bool = False) -> _Place:
        """The place of a group in this one."""
        outer, inner = (self.outer + self.inner, ()) if own_model else (self.outer, self.inner)
        known = [t for t in (self.trainable, layer.trainable) if t is not None]
        return _Place(
            f"{self.source}/{key}".lstrip("/"),
            layer,
            outer,
            (*inner, *filter(None, [layer.name])),
            all(known) if known else None,
        )


@dataclass
class _Walk:
    """Goes through the groups of a store once, gathering tensors.

    ``full_paths``: Keras 3 names a variable by all that it is in, Keras 2 by its own layer.
    """

    path: Path
    full_paths: bool
    found: list[FoundTensor] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    numbered: list[str] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)
    _offsets: dict[str, int] = field(default_factory=dict)

    def visit(self, group: h5py.Group, place: _Place, depth: int = 0) -> None:
        """Take the variables of a group, then those of the groups in it."""
        self._enter(group, depth)
        keys = sorted(group, key=natural_key)
        if _VARS in keys:
            self._take(own_member(self.path, group, _VARS), place)
        for container in _CONTAINERS:
            if container in keys:
                self._visit_layers(group, container, place, depth)
        children = child_layers(place.layer, self.full_paths)
        known = [key for key in dict.fromkeys((*children, _FORWARD)) if key in keys]
        for key in known + [k for k in keys if k not in (_VARS, *_CONTAINERS, *known)]:
            item = own_member(self.path, group, key)
            reason = _NOT_WEIGHTS.get(key) if depth == 0 else None
            if key.startswith(_RANDOM):
                reason = "state of a random generator"
            if reason:
                self._leave_out(item, f"{place.source}/{key}".lstrip("/"), reason, depth)
            elif isinstance(item, h5py.Group):
                layer = children.get(key) or _layer_of_group(item, key)
                self.visit(item, place.inside(key, layer), depth + 1)

    def _visit_layers(self, model: h5py.Group, container: str, place: _Place, depth: int) -> None:
        group = own_member(self.path, model, container)
        if not isinstance(group, h5py.Group):
            return
        self._enter(group, depth)
        described = _layers_by_group(place.layer)
        keys = [key for key in described if key in group]
        for key in keys:
            self._visit_layer(group, key, described[key], place, depth)
        others = sorted((key for key in group if key not in described), key=natural_key)
        runs = [self._visit_layer(group, key, None, place, depth) for key in others]
        if runs:
            self._order_as_written(runs)

    def _visit_layer(
        self, group: h5py.Group, key: str, layer: LayerConfig | None, model: _Place, depth: int
    ) -> slice:
        """Take what a layer has; returns where that is in ``found``."""
        start = len(self.found)
        item = own_member(self.path, group, key)
        if isinstance(item, h5py.Group):
            source = f"{group.name.rpartition('/')[2]}/{key}"
            layer = layer or _layer_of_group(item, key)
            inside = model.inside(source, layer, own_model=not self.full_paths)
            self.visit(item, inside, depth + 1)
        return slice(start, len(self.found))

    def _order_as_written(self, runs: Sequence[slice]) -> None:
        """Put the tensors of layers, found one after another, in the order of their values.

        HDF5 appends values that are stored whole, so their places tell what was written first.
        """
        layers = [self.found[run] for run in runs if self.found[run]]
        starts = [[self._offsets[tensor.source] for tensor in layer] for layer in layers]
        if any(_NOT_WHOLE in layer for layer in starts):
            return
        order = sorted(range(len(layers)), key=lambda i: min(starts[i]))
        self.found[runs[0].start :] = [tensor for i in order for tensor in layers[i]]

    def _enter(self, group: h5py.Group, depth: int) -> None:
        address = h5py.h5o.get_info(group.id).addr
        if address in self._seen or depth > _MAX_DEPTH:
            raise DatasetFormatError(
                located(
                    f"its groups contain one another ({group.name[:120]}); save the model anew",
                    file=self.path,
                )
            )
        self._seen.add(address)

    def _take(self, variables: Any, place: _Place) -> None:
        if not isinstance(variables, h5py.Group):
            return
        keys = sorted(variables, key=natural_key)
        check_count(self.path, len(self.found) + len(keys))
        names = variable_names(place.layer, len(keys))
        if names[:1] == ["0"]:
            self.numbered.append("/".join(place.inner) or "the model itself")
        for key, variable in zip(keys, names, strict=True):
            short = "/".join((*place.inner, variable))
            full = "/".join((*place.outer, *place.inner, variable))
            trainable = False if variable in _NOT_TRAINED else place.trainable
            item = own_member(self.path, variables, key)
            source = f"{place.source}/{_VARS}/{key}".lstrip("/")
            self.found.append(find_tensor(self.path, item, source, short, full, trainable))
            offset = item.id.get_offset()
            self._offsets[source] = _NOT_WHOLE if offset is None else offset

    def _leave_out(self, item: Any, source: str, reason: str, depth: int) -> None:
        if not isinstance(item, h5py.Group):
            self.left_out.append(LeftOut(source, reason))
            return
        self._enter(item, depth)
        check_count(self.path, len(self.left_out) + len(item))
        for key in sorted(item, key=natural_key):
            inside = own_member(self.path, item, key)
            self._leave_out(inside, f"{source}/{key}", reason, depth + 1)


def _layers_by_group(model: LayerConfig) -> dict[str, LayerConfig]:
    """The layers of a model by the names that Keras gives their groups, in the config's order."""
    counts: Counter[str] = Counter()
    layers = {}
    for layer in layer_configs(model.config):
        number = counts[layer.kind]
        layers[f"{layer.kind}_{number}" if number else layer.kind] = layer
        counts[layer.kind] += 1
    return layers


def _layer_of_group(group: h5py.Group, key: str) -> LayerConfig:
    """What a group's own name, and from Keras 3.6 on its attribute, say of a layer."""
    hard = isinstance(group.get(_VARS, getlink=True), h5py.HardLink)
    name = group[_VARS].attrs.get("name") if hard else None
    name = name if isinstance(name, str) and name else key
    # A layer inside a layer has a group of its role, such as "cell" or "forward_layer".
    kinds = (_without_number(key), _without_number(re.sub("^(forward|backward)_", "", name)))
    kind = next((kind for kind in kinds if kind in KINDS_WITH_VARIABLES), kinds[0])
    return LayerConfig(kind, name, {})


def _without_number(name: str) -> str:
    kind, _, number = name.rpartition("_")
    return kind if kind and number.isdigit() else name
