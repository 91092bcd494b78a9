"""A weights file as the template of a dataset: its tensors and their signature."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fedviz.importers.reading import open_weights
from fedviz.signature import Signature

__all__ = ["read_template"]


def read_template(path: str | os.PathLike[str]) -> tuple[list[NDArray[Any]], Signature]:
    """The weights in a file, and their signature.

    Parameters
    ----------
    path : path
        Of any kind that :func:`~fedviz.importers.reading.open_weights` reads; of a fedviz
        dataset the server model of its first round.

    Returns
    -------
    weights : list of ndarray
        In the file's order.
    signature : Signature
        Whether a tensor is trainable is known for fedviz datasets and ``.keras`` archives.

    Raises
    ------
    StorageError
        The file cannot be read.
    DatasetFormatError
        It is of another kind, holds pickles or Python objects, or no weights.
    """
    with open_weights(Path(path)) as found:
        return [found.weights[name] for name in found.weights], found.signature
