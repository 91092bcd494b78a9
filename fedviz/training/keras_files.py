"""Weights in Keras's own file format."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fedviz.errors import InvalidArgumentError
from fedviz.exporters import complete_or_absent
from fedviz.training.keras_models import ModelSource, build_model
from fedviz.training.keras_weights import Weights, assign_weights, signature_of

__all__ = ["save_keras_weights"]


def save_keras_weights(
    source: ModelSource,
    weights: Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]],
    path: str | os.PathLike[str],
) -> None:
    """Write weights as ``.weights.h5``, which ``model.load_weights`` of Keras reads.

    The file is written beside its place and then renamed: it is whole, or it is not there.

    Parameters
    ----------
    source : Architecture or str
        The model, or its JSON: the format follows the model's layers.
    weights : mapping of name to ndarray, or sequence of ndarray
        A sequence is in the order of :func:`extract_weights`.
    path : path
        Ends in ``.weights.h5``.

    Raises
    ------
    InvalidArgumentError
        The path ends otherwise.
    SignatureError
        The weights are not this model's.
    StorageError
        The file cannot be written.
    """
    target = Path(path)
    if not target.name.endswith(".weights.h5"):
        raise InvalidArgumentError(f"{target.name}: expected a name that ends in .weights.h5")
    model = build_model(source)
    assign_weights(model, Weights(signature_of(model), weights))
    with complete_or_absent(target) as temporary:
        model.save_weights(temporary)
