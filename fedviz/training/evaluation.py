"""Loss and accuracy of weights on held-out data."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fedviz.training.data import TrainingData, fit_to, load_data
from fedviz.training.keras_models import ModelSource, build_model, gives_probabilities
from fedviz.training.keras_weights import Weights, assign_weights, signature_of

__all__ = ["Evaluation", "Evaluator", "evaluator"]

_BATCH = 1024
# The smallest probability that counts, as Keras has it.
_EPSILON = 1e-7


@dataclass(frozen=True)
class Evaluation:
    """Mean loss over the held-out examples, and the share that is right.

    The loss is the cross-entropy in nats, or the mean squared error of a regression, which has
    no accuracy. NaN where the outputs are not finite.
    """

    loss: float
    accuracy: float | None


class Evaluator:
    """Measures many weights of one model on the same held-out data; any thread may call it.

    Parameters
    ----------
    source : Architecture or str
        The model, or its JSON.
    data : TrainingData
        Only ``x_test`` and ``y_test`` are used.

    Raises
    ------
    InvalidArgumentError
        The data does not fit the model.
    """

    def __init__(self, source: ModelSource, data: TrainingData) -> None:
        self._model = build_model(source)
        self._probabilities = gives_probabilities(self._model)
        self._signature = signature_of(self._model)
        self._data = fit_to(data, self._model.input_shape[1:], self._model.output_shape[-1])
        # Traced once: predict() takes longer to set up than these few examples take.
        self._forward = tf.function(lambda x: self._model(x, training=False), reduce_retracing=True)
        self._lock = threading.Lock()

    def __call__(self, weights: Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]]) -> Evaluation:
        """Measure these weights.

        Parameters
        ----------
        weights : mapping of name to ndarray, or sequence of ndarray
            A sequence is in the order of ``extract_weights``.

        Raises
        ------
        SignatureError
            They are not weights of this model.
        """
        with self._lock:
            assign_weights(self._model, Weights(self._signature, weights))
            outputs = self._outputs()
        if self._data.num_classes is None:
            return Evaluation(float(np.mean(np.square(outputs - self._data.y_test))), None)
        losses = _cross_entropy(outputs, self._data.y_test, self._probabilities)
        right = outputs.argmax(axis=1) == self._data.y_test
        # argmax takes NaN for the largest value: no output that holds one is right.
        right &= ~np.isnan(outputs).any(axis=1)
        return Evaluation(float(losses.mean()), float(right.mean()))

    def _outputs(self) -> NDArray[np.float64]:
        x = self._data.x_test
        batches = [self._forward(x[i : i + _BATCH]).numpy() for i in range(0, len(x), _BATCH)]
        return np.concatenate(batches).astype(np.float64)


@functools.lru_cache(maxsize=4)
def evaluator(source: ModelSource, data: str) -> Evaluator:
    """The evaluator of a model on the data of a name; a second call finds it built.

    A page that averages again and again would have each model built and traced anew.

    Parameters
    ----------
    source : Architecture or str
        The model, or its JSON.
    data : str
        See :func:`~fedviz.training.data.load_data`; not a user's file, which may change.

    Raises
    ------
    InvalidArgumentError
        The data does not fit the model.
    """
    return Evaluator(source, load_data(data))


def _cross_entropy(
    outputs: NDArray[np.float64], y: NDArray[np.int64], probabilities: bool
) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", over="ignore"):
        if probabilities:
            log_shares = np.log(np.clip(outputs, _EPSILON, 1.0))
        else:
            shifted = outputs - outputs.max(axis=1, keepdims=True)
            log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.asarray(-log_shares[np.arange(len(y)), y])
