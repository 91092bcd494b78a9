"""Weights in TensorFlow's own formats: checkpoints, and the variables of a SavedModel.

Only values are read. A SavedModel's program is never loaded.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from fedviz.errors import DatasetFormatError, FedvizError, located, storage_errors
from fedviz.importers.content import FileKind
from fedviz.importers.imported import (
    FoundTensor,
    ImportedWeights,
    LeftOut,
    check_count,
    collect_weights,
)
from fedviz.importers.natural_order import natural_key

__all__ = ["open_checkpoint", "open_saved_model"]

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_OPTIMIZER_STATE = "optimizer state"
# What the steps of a variable's path say of it, whichever comes first.
_NOT_WEIGHTS: Mapping[str, str] = {
    ".OPTIMIZER_SLOT": "an optimizer's slot",
    "optimizer": _OPTIMIZER_STATE,
    "_optimizer": _OPTIMIZER_STATE,
    "keras_api": "a metric",
    "metrics": "a metric",
    "_metrics": "a metric",
    "compiled_metrics": "a metric",
    "save_counter": "a counter",
    "global_step": "a counter",
    "beta1_power": _OPTIMIZER_STATE,
    "beta2_power": _OPTIMIZER_STATE,
    "_random_generator": "state of a random generator",
    "_generator": "state of a random generator",
}


@contextlib.contextmanager
def open_checkpoint(path: Path) -> Iterator[ImportedWeights]:
    """The weights in a checkpoint, of TensorFlow 2 (by objects) or 1 (by names).

    Parameters
    ----------
    path : Path
        Its ``.index``, or the file ``checkpoint`` beside it, which names the latest.

    Raises
    ------
    StorageError
        The file cannot be read.
    DatasetFormatError
        It is damaged, a part of it is missing, or something in it cannot be a weight.
    """
    index = path if path.suffix == ".index" else _latest(path)
    yield _weights(path, index.with_suffix(""), FileKind.CHECKPOINT)


@contextlib.contextmanager
def open_saved_model(path: Path) -> Iterator[ImportedWeights]:
    """The weights among the variables of a SavedModel; ``path`` is its folder.

    Raises
    ------
    StorageError
        The folder cannot be read.
    DatasetFormatError
        It has no variables, is damaged, or something in it cannot be a weight.
    """
    prefix = path / "variables" / "variables"
    if not prefix.with_suffix(".index").is_file():
        raise DatasetFormatError(
            located(
                "expected variables/variables.index in the SavedModel, found none; copy the whole "
                "folder",
                file=path,
            )
        )
    yield _weights(path, prefix, FileKind.SAVED_MODEL)


def _latest(state: Path) -> Path:
    """The index that a file ``checkpoint`` names, which must lie beside it."""
    with storage_errors(state, "read"):
        text = state.read_text("utf-8", "replace")[:65_536]
    found = re.match(r'model_checkpoint_path: "([^"\n]+)"', text)
    name = Path(found[1]).name if found else ""
    index = state.with_name(f"{name}.index")
    if not name or not index.is_file():
        raise DatasetFormatError(
            located(
                f"expected {index.name} beside it, found no such file; copy the whole folder",
                file=state,
            )
        )
    return index


@dataclass(frozen=True)
class _Variable:
    """A variable of a checkpoint: its key, and the name that the program gave it."""

    key: str
    name: str
    reason: str = ""


def _weights(path: Path, prefix: Path, kind: FileKind) -> ImportedWeights:
    with _reading(path):
        reader = tf.train.load_checkpoint(str(prefix))
        shapes = reader.get_variable_to_shape_map()
        dtypes = reader.get_variable_to_dtype_map()
        check_count(path, len(shapes))
        variables = _variables(reader, shapes)
    found, left_out = [], []
    for variable in variables:
        reason = variable.reason or _reason(variable, shapes, dtypes)
        if reason:
            left_out.append(LeftOut(variable.key, reason))
            continue
        full = variable.key.removesuffix(_VALUE)
        found.append(
            FoundTensor(
                variable.key,
                variable.name or full,
                full,
                tuple(shapes[variable.key]),
                np.dtype(dtypes[variable.key].as_numpy_dtype),
                functools.partial(_read, path, reader, variable.key),
            )
        )
    _refuse_overstated_size(path, prefix, found)
    return collect_weights(path, kind, found, left_out)


def _refuse_overstated_size(path: Path, prefix: Path, found: Sequence[FoundTensor]) -> None:
    """Nothing is allocated for values that the files do not have."""
    declared = sum(math.prod(t.shape) * t.dtype.itemsize for t in found)
    parts = prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*")
    stored = sum(part.stat().st_size for part in parts)
    if declared > stored:
        raise DatasetFormatError(
            located(
                f"declares {declared:,} bytes, of which {stored:,} are in {prefix.name}.data-*; "
                "copy the whole folder again",
                file=path,
            )
        )


def _variables(reader: Any, shapes: Mapping[str, Any]) -> list[_Variable]:
    """All entries, in the order in which the program's objects hold them; the others by name."""
    if _GRAPH not in shapes:
        keys = sorted(shapes, key=natural_key)
        return [_Variable(key, key, _slot_reason(key, shapes)) for key in keys]
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor(_GRAPH))
    ordered = {v.key: v for v in _in_order_of_objects(graph.nodes) if v.key in shapes}
    rest = sorted((key for key in shapes if key not in ordered), key=natural_key)
    return [*ordered.values(), *(_Variable(key, "") for key in rest)]


def _in_order_of_objects(nodes: Sequence[Any]) -> Iterator[_Variable]:
    slots = {s.slot_variable_node_id for node in nodes for s in node.slot_variables}
    waiting, seen = [0], set()
    while waiting:
        number = waiting.pop()
        if number in seen or not 0 <= number < len(nodes):
            continue
        seen.add(number)
        reason = "an optimizer's slot" if number in slots else ""
        for attribute in nodes[number].attributes:
            name = attribute.full_name.removesuffix(":0")
            yield _Variable(attribute.checkpoint_key, name, reason)
        waiting.extend(child.node_id for child in reversed(nodes[number].children))


def _slot_reason(key: str, shapes: Mapping[str, Any]) -> str:
    """TensorFlow 1 keeps ``dense/kernel/Adam`` beside ``dense/kernel``."""
    owner = key.rpartition("/")[0]
    return "an optimizer's slot" if owner in shapes else ""


def _reason(variable: _Variable, shapes: Mapping[str, Any], dtypes: Mapping[str, Any]) -> str:
    dtype = dtypes[variable.key]
    if dtype == tf.string:
        return "text that TensorFlow keeps for itself"
    for step in variable.key.split("/"):
        if step in _NOT_WEIGHTS:
            return _NOT_WEIGHTS[step]
    if dtype.is_integer and not shapes[variable.key]:
        return "a counter"
    return ""


def _read(path: Path, reader: Any, key: str) -> np.ndarray:
    with _reading(path):
        return np.asarray(reader.get_tensor(key))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FedvizError:
        raise
    # TensorFlow reports damage in its own errors, ValueError, RuntimeError and others.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DatasetFormatError(
            located(
                f"the checkpoint is damaged or a part of it is missing ({reason[:200]}); copy the "
                "whole folder again",
                file=path,
            )
        ) from error
