"""Models from Keras's JSON, without running anything that the JSON brings along.

A Keras config can carry Python bytecode (``Lambda``), name any function of TensorFlow
(``TFOpLambda``), any class of any module, or a file to read. So each node is held against what is
allowed before Keras sees it: the layers, initializers, regularizers, constraints and activations
that Keras itself exports, except those that run code or read files.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from fedviz.errors import InvalidArgumentError, storage_errors

__all__ = ["model_from_json"]

_MAX_JSON_BYTES = 16 * 2**20
_MAX_PARAMETERS = 500_000_000

_MODELS = frozenset({"Functional", "Model", "Sequential"})
_MODULES = frozenset(
    {
        "keras",
        "keras.activations",
        "keras.constraints",
        "keras.initializers",
        "keras.layers",
        "keras.models",
        "keras.regularizers",
        "keras.src.engine.functional",
        "keras.src.engine.sequential",
    }
)
_REFUSED = {
    "Lambda": "it holds Python code",
    "TFOpLambda": "it may call any function of TensorFlow",
    "SlicingOpLambda": "it may call any function of TensorFlow",
    "ClassMethod": "it may call any function of TensorFlow",
    "InstanceMethod": "it may call any function of TensorFlow",
    "InstanceProperty": "it may call any function of TensorFlow",
    "TFSMLayer": "it reads a program from another file",
    "DenseFeatures": "its columns may read other files",
    "IntegerLookup": "it may read its vocabulary from another file",
    "StringLookup": "it may read its vocabulary from another file",
    "TextVectorization": "it may read its vocabulary from another file",
}
_WAY_OUT = "use a built-in layer of Keras in its place (Activation, Reshape, Rescaling, Add, ...)"
_KERAS_3_MARKS = ("DTypePolicy", "__keras_tensor__")


def model_from_json(source: str | os.PathLike[str]) -> tf.keras.Model:
    """Build a model from its JSON, if all that it names is Keras's own and runs no code.

    Parameters
    ----------
    source : str or path
        The JSON as ``model.to_json()`` of Keras 2 gives it, or the path of a file that holds it.

    Returns
    -------
    tf.keras.Model
        With freshly initialised weights.

    Raises
    ------
    StorageError
        The file cannot be read.
    InvalidArgumentError
        No JSON of a Keras 2 model with a known input shape; a layer that could run code or read
        files, a custom one, or more than 500 million parameters. The message names the layer.
    """
    return _built(_checked(_text_of(source)))


def _text_of(source: str | os.PathLike[str]) -> str:
    if isinstance(source, str) and source.lstrip().startswith("{"):
        text = source
    else:
        with storage_errors(source, "read"):
            path = Path(source)
            text = path.read_text("utf-8") if path.stat().st_size <= _MAX_JSON_BYTES else ""
        if not text:
            raise InvalidArgumentError(
                f"{path.name}: expected a model's JSON of at most {_MAX_JSON_BYTES:,} bytes, "
                f"found {path.stat().st_size:,}"
            )
    if len(text) > _MAX_JSON_BYTES:
        raise InvalidArgumentError(
            f"expected JSON of at most {_MAX_JSON_BYTES:,} characters, found {len(text):,}"
        )
    return text


# Training builds the same model several times; what was allowed once stays allowed.
@functools.lru_cache(maxsize=8)
def _checked(text: str) -> str:
    config = _parsed(text)
    try:
        _check_node(config, "the model")
    except RecursionError:
        raise InvalidArgumentError("the model's JSON is nested too deeply") from None
    _check_size(text)
    return text


def _parsed(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(
            f"expected the JSON of a Keras model, as model.to_json() gives it: {error}"
        ) from error
    if not isinstance(config, dict) or config.get("class_name") not in _MODELS:
        found = config.get("class_name") if isinstance(config, dict) else type(config).__name__
        raise InvalidArgumentError(
            f"expected a Sequential or Functional model, found {found}; "
            "save the JSON with model.to_json()"
        )
    if any(f'"{mark}"' in text for mark in _KERAS_3_MARKS):
        raise InvalidArgumentError(
            "expected the JSON of a Keras 2 model, found one of Keras 3; build it with tf_keras "
            "(pip install tf_keras, TF_USE_LEGACY_KERAS=1) and save model.to_json() again"
        )
    return config


def _check_node(node: Any, where: str) -> None:
    """Check a value of the config and all that is in it; ``where`` names the layer around it."""
    if isinstance(node, list):
        for item in node:
            _check_node(item, where)
    elif isinstance(node, dict):
        where = _name_of(node) or where
        if "class_name" in node:
            _check_class(node, where)
        for key, value in node.items():
            _check_activation(key, value, where)
            _check_node(value, where)


def _name_of(node: Mapping[str, Any]) -> str:
    config = node.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    return f"layer {name}" if isinstance(name, str) else ""


def _check_class(node: Mapping[str, Any], where: str) -> None:
    name, module = node["class_name"], node.get("module")
    if isinstance(name, str) and name in _REFUSED:
        raise InvalidArgumentError(f"{where}: {name} is refused: {_REFUSED[name]}; {_WAY_OUT}")
    if not isinstance(name, str) or name not in _allowed_classes():
        raise InvalidArgumentError(f"{where}: {name!r} is not a class of Keras; {_WAY_OUT}")
    if module is not None and module not in _MODULES:
        raise InvalidArgumentError(
            f"{where}: {name} is to come from the module {module!r}; only Keras's own are built"
        )
    if node.get("registered_name") not in (None, name):
        raise InvalidArgumentError(
            f"{where}: {node['registered_name']!r} is a custom class; {_WAY_OUT}"
        )


def _check_activation(key: str, value: Any, where: str) -> None:
    known = dir(tf.keras.activations)
    if key.endswith("activation") and isinstance(value, str) and value not in known:
        raise InvalidArgumentError(
            f"{where}: {value!r} is not an activation of Keras; there are "
            f"{', '.join(name for name in known if not name.startswith('_'))}"
        )


@functools.cache
def _allowed_classes() -> frozenset[str]:
    keras = tf.keras
    modules = (keras.layers, keras.initializers, keras.regularizers, keras.constraints)
    names = {
        n for module in modules for n, value in vars(module).items() if isinstance(value, type)
    }
    return frozenset(names | _MODELS) - frozenset(_REFUSED)


def _check_size(text: str) -> None:
    # In a graph the variables are declared and never allocated.
    with tf.Graph().as_default():
        model = _built(text)
        count = model.count_params() if model.built else 0
    if count == 0:
        raise InvalidArgumentError(
            f"model {model.name}: expected a model with weights and a known input shape, found "
            "none; give it an Input, or call it once before model.to_json()"
        )
    if count > _MAX_PARAMETERS:
        raise InvalidArgumentError(
            f"model {model.name}: expected at most {_MAX_PARAMETERS:,} parameters, found {count:,}"
        )


def _built(text: str) -> tf.keras.Model:
    try:
        return tf.keras.models.model_from_json(text)
    # Keras lets through whatever its layers' own code stumbles over.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InvalidArgumentError(f"Keras cannot build this model: {reason}") from error
