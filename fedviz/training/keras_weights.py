"""A Keras model's weights as structured weights and back, and models from their JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fedviz.errors import SignatureError
from fedviz.signature import Signature, TensorSpec
from fedviz.training.keras_config import model_from_json

if TYPE_CHECKING:
    pass

__all__ = [
    "Weights",
    "assign_weights",
    "extract_weights",
    "model_from_json",
    "name_variables",
    "signature_of",
]


class Weights(Mapping[str, NDArray[Any]]):
    """A model's tensors by variable path, in order, with their signature.

    Parameters
    ----------
    signature : Signature
        The names, shapes and dtypes.
    arrays : sequence of ndarray, or mapping of name to ndarray
        A sequence is in the signature's order.

    Raises
    ------
    SignatureError
        An array is missing, left over, or not of its shape and dtype.
    """

    def __init__(
        self, signature: Signature, arrays: Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]]
    ) -> None:
        self.signature = signature
        self._arrays = dict(zip(signature.names, signature.arrange(arrays), strict=True))

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Weights({self.signature})"

    @property
    def arrays(self) -> list[NDArray[Any]]:
        """The tensors in the signature's order."""
        return list(self._arrays.values())


def extract_weights(model: tf.keras.Model) -> Weights:
    """Copy a model's weights, keeping its structure.

    Parameters
    ----------
    model : tf.keras.Model
        Built: its variables exist.

    Returns
    -------
    Weights
        In the order of ``model.trainable_variables``, then of the others. The names are the
        variables' paths, such as ``dense/kernel``; where two variables have one path, the later
        one's ends in ``_1``, ``_2``, ...

    Raises
    ------
    SignatureError
        The model has no variables yet, or one of a dtype that weights cannot have.
    """
    signature = signature_of(model)
    # A copy: what numpy() gives may share the variable's memory.
    arrays = [np.array(variable.numpy()) for variable in name_variables(model).values()]
    return Weights(signature, arrays)


def signature_of(model: tf.keras.Model) -> Signature:
    """The signature of the weights that :func:`extract_weights` gives; also in a graph.

    Raises
    ------
    SignatureError
        The model has no variables yet, or one of a dtype that weights cannot have.
    """
    if not model.built or not model.variables:
        raise SignatureError(
            f"model {model.name}: expected weights, found none; build it or call it once first"
        )
    # A frozen layer's variables say of themselves that they are trainable.
    trainable = {id(variable) for variable in model.trainable_variables}
    return Signature(
        tuple(
            TensorSpec(name, tuple(v.shape), v.dtype.name, id(v) in trainable)
            for name, v in name_variables(model).items()
        )
    )


def assign_weights(model: tf.keras.Model, weights: Mapping[str, NDArray[Any]]) -> None:
    """Give a model these weights: the way back from :func:`extract_weights`.

    Parameters
    ----------
    model : tf.keras.Model
        Built.
    weights : mapping of name to ndarray
        One array for each variable, by its path. Nothing is cast.

    Raises
    ------
    SignatureError
        A tensor is missing, left over, or has another shape or dtype. The model is then unchanged.
    """
    variables = name_variables(model)
    arrays = signature_of(model).arrange(weights)
    for variable, array in zip(variables.values(), arrays, strict=True):
        variable.assign(array)


def name_variables(model: tf.keras.Model) -> dict[str, tf.Variable]:
    """All variables of a model by unique path, the trainable ones first."""
    named: dict[str, tf.Variable] = {}
    for variable in [*model.trainable_variables, *model.non_trainable_variables]:
        path = variable.name.removesuffix(":0")
        name, count = path, 0
        while name in named:
            count += 1
            name = f"{path}_{count}"
        named[name] = variable
    return named
