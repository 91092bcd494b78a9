"""Weights in Keras's own file format."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fedviz.errors import InvalidArgumentError
from fedviz.files import complete_or_absent
from fedviz.training.keras_models import ModelSource, build_model
from fedviz.training.keras_weights import Weights, assign_weights, signature_of

__all__ = ["FORMATS", "save_keras_weights"]

FORMATS = ("weights.h5", "h5")
"""Keras's formats for weights alone; the newer first."""


def save_keras_weights(
    source: ModelSource,
    weights: Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]],
    path: str | os.PathLike[str],
    file_format: str = "weights.h5",
) -> None:
    """Write weights in a file that ``model.load_weights`` of Keras reads.

    The file is written beside its place and then renamed: it is whole, or it is not there.

    Parameters
    ----------
    source : Architecture or str
        The model, or its JSON: the format follows the model's layers.
    weights : mapping of name to ndarray, or sequence of ndarray
        A sequence is in the order of :func:`extract_weights`.
    path : path
        Ends in a dot and the format.
    file_format : str
        ``weights.h5``, Keras 3's own; or ``h5``, the older one with the names of layers and
        variables, which Keras 1, 2 and 3 read. It is never guessed: ``.h5`` is what datasets end
        in too.

    Raises
    ------
    InvalidArgumentError
        Another format, or the path ends otherwise.
    SignatureError
        The weights are not this model's.
    StorageError
        The file cannot be written.
    """
    target = Path(path)
    if file_format not in FORMATS:
        raise InvalidArgumentError(
            f"there is no format {file_format}; there are {', '.join(FORMATS)}."
        )
    # Keras takes every name in .weights.h5 for its newer format.
    newer = target.name.endswith(f".{FORMATS[0]}")
    if not target.name.endswith(f".{file_format}") or newer != (file_format == FORMATS[0]):
        other = f" and not in .{FORMATS[0]}" if newer else ""
        raise InvalidArgumentError(
            f"{target.name}: expected a name that ends in .{file_format}{other}"
        )
    model = build_model(source)
    assign_weights(model, Weights(signature_of(model), weights))
    with complete_or_absent(target) as temporary:
        model.save_weights(temporary)
