"""Write ``architectures.json`` from the Keras models: ``python -m fedviz.training.build_table``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tensorflow as tf

from fedviz.training.keras_models import BUILDERS
from fedviz.training.keras_weights import name_variables, signature_of

__all__ = ["PATH", "table", "table_text"]

PATH = Path(__file__).with_name("architectures.json")


def table() -> dict[str, dict[str, Any]]:
    """What the table says of each architecture, as its Keras model has it."""
    return {name: _row(build()) for name, build in BUILDERS.items()}


def table_text() -> str:
    """The table as JSON, one tensor or layer a line."""
    architectures = []
    for name, row in table().items():
        lines = [f"  {json.dumps(key)}: {_value_text(value)}" for key, value in row.items()]
        architectures.append(f" {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(architectures) + "\n}\n"


def _value_text(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"   {json.dumps(item)}" for item in value) + "\n  ]"
    return json.dumps(value)


def _row(model: tf.keras.Model) -> dict[str, Any]:
    names = name_variables(model)
    return {
        "input_shape": list(model.input_shape[1:]),
        "outputs": model.output_shape[-1],
        "tensors": [
            {
                "name": spec.name,
                "shape": list(spec.shape),
                "dtype": spec.dtype,
                "trainable": spec.trainable,
            }
            for spec in signature_of(model)
        ],
        "layers": [_layer(layer, names) for layer in model.layers],
    }


def _layer(layer: tf.keras.layers.Layer, names: dict[str, tf.Variable]) -> dict[str, Any]:
    own = {id(variable) for variable in layer.weights}
    output_shape = layer.output_shape[0] if _is_input(layer) else layer.output_shape
    return {
        "name": layer.name,
        "kind": type(layer).__name__,
        "output_shape": list(output_shape[1:]),
        "tensors": [name for name, variable in names.items() if id(variable) in own],
        "num_parameters": layer.count_params(),
    }


def _is_input(layer: tf.keras.layers.Layer) -> bool:
    # Keras gives a list of shapes for an input layer alone.
    return isinstance(layer, tf.keras.layers.InputLayer)


if __name__ == "__main__":
    PATH.write_text(table_text(), "utf-8")
