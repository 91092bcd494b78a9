"""Some of the images that each client trained on, where they can be known again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedviz.errors import FedvizError
from fedviz.training.data import DIGITS, load_data
from fedviz.training.partitions import label_counts, partition

__all__ = ["ClientExamples", "client_examples"]


@dataclass(frozen=True, eq=False)
class ClientExamples:
    """Images of every client, in the proportions of its labels.

    Attributes
    ----------
    images : ndarray of shape (clients, count, height, width), float32
        0 to 1; the most frequent label first.
    """

    images: NDArray[np.float32]


def client_examples(
    recipe: Mapping[str, Any], counts: NDArray[Any] | None, count: int = 24
) -> ClientExamples | None:
    """Images of the clients of a dataset that was trained on the built-in digits.

    A dataset carries no examples. Its recipe names the partition and the seed, which give the
    same shares again; that they are the same is checked against the counts of labels.

    Parameters
    ----------
    recipe : mapping
        Of the dataset; not trusted.
    counts : ndarray of shape (clients, classes), int, or None
        Examples of each label that each client has, as the round has them.
    count : int
        Images of each client.

    Returns
    -------
    ClientExamples or None
        None where the data are others, or the shares do not come out the same.
    """
    seed = recipe.get("seed")
    if recipe.get("data") != DIGITS or counts is None or not isinstance(seed, int) or seed < 0:
        return None
    data = load_data(DIGITS)
    try:
        parts = partition(str(recipe.get("partition")), data.y_train, len(counts), seed)
    except FedvizError:
        return None
    if not np.array_equal(label_counts(data.y_train, parts, counts.shape[1]), counts):
        return None
    chosen = [_in_proportion(part, data.y_train[part], count) for part in parts]
    return ClientExamples(data.x_train[np.array(chosen)])


def _in_proportion(part: NDArray[np.int64], labels: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Examples of a part, the most frequent label first, each as many as its share of ``count``."""
    values, sizes = np.unique(labels, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    # Evenly spaced places in the sorted examples keep the proportions, and repeat few images.
    ranked = np.concatenate([part[labels == values[i]] for i in order])
    places = ((np.arange(count) + 0.5) * len(ranked) / count).astype(int)
    return ranked[places]
