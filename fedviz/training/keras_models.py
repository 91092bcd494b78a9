"""The architectures' Keras models.

Every layer has a name of its own, so that the variable paths do not depend on what was built
before in the process (Keras counts the layers that it names itself). The models end in logits.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from fedviz.training.architectures import Architecture
from fedviz.training.keras_weights import Weights, extract_weights, model_from_json

__all__ = ["BUILDERS", "ModelSource", "build_model", "gives_probabilities", "initial_weights"]

ModelSource = Architecture | str
"""An architecture, or a model's JSON as ``model.to_json()`` gives it."""

layers = tf.keras.layers


def build_model(source: ModelSource) -> tf.keras.Model:
    """Build the Keras model of an architecture or of a JSON text.

    Raises
    ------
    InvalidArgumentError
        The JSON is not that of a model, or names something that could run code.
    """
    if isinstance(source, Architecture):
        return BUILDERS[source.name]()
    return model_from_json(source)


def initial_weights(source: ModelSource, seed: int) -> Weights:
    """The weights of a freshly built model, drawn by its own initializers.

    Parameters
    ----------
    source : Architecture or str
        What to build.
    seed : int
        The same seed gives the same weights, bit for bit. Python's and NumPy's random states are
        left as they were.

    Returns
    -------
    Weights
        Trainable tensors first.
    """
    with _seeded(seed):
        model = build_model(source)
    # A JSON is checked when it is first built, which draws random numbers: the weights are those
    # of a second model.
    with _seeded(seed):
        return extract_weights(tf.keras.models.clone_model(model))


def gives_probabilities(model: tf.keras.Model) -> bool:
    """Whether the model ends in a softmax, so that its outputs are no logits."""
    last = model.layers[-1]
    while isinstance(last, tf.keras.Model):
        last = last.layers[-1]
    if isinstance(last, tf.keras.layers.Softmax):
        return True
    return getattr(last, "activation", None) is tf.keras.activations.softmax


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    # Keras draws the seeds of initializers that have none from Python's random state.
    python_state, numpy_state = random.getstate(), np.random.get_state()
    tf.keras.utils.set_random_seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _dense() -> tf.keras.Model:
    inputs = tf.keras.Input((5,), name="input")
    x = layers.Dense(10, activation="relu", name="dense")(inputs)
    return tf.keras.Model(inputs, layers.Dense(2, name="dense_1")(x), name="dense")


def _logistic_regression() -> tf.keras.Model:
    inputs = tf.keras.Input((784,), name="input")
    outputs = layers.Dense(10, name="dense")(inputs)
    return tf.keras.Model(inputs, outputs, name="logistic_regression")


def _mnist_mlp() -> tf.keras.Model:
    inputs = tf.keras.Input((784,), name="input")
    x = layers.Dense(200, activation="relu", name="dense")(inputs)
    x = layers.Dense(200, activation="relu", name="dense_1")(x)
    return tf.keras.Model(inputs, layers.Dense(10, name="dense_2")(x), name="mnist_mlp")


def _mnist_cnn() -> tf.keras.Model:
    inputs = tf.keras.Input((28, 28, 1), name="input")
    x = layers.Conv2D(32, 5, padding="same", activation="relu", name="conv2d")(inputs)
    x = layers.MaxPooling2D(name="max_pooling2d")(x)
    x = layers.Conv2D(64, 5, padding="same", activation="relu", name="conv2d_1")(x)
    x = layers.MaxPooling2D(name="max_pooling2d_1")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(512, activation="relu", name="dense")(x)
    return tf.keras.Model(inputs, layers.Dense(10, name="dense_1")(x), name="mnist_cnn")


def _digits_mlp() -> tf.keras.Model:
    inputs = tf.keras.Input((64,), name="input")
    x = layers.Dense(32, activation="relu", name="dense")(inputs)
    return tf.keras.Model(inputs, layers.Dense(10, name="dense_1")(x), name="digits_mlp")


def _digits_cnn() -> tf.keras.Model:
    inputs = tf.keras.Input((8, 8, 1), name="input")
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="conv2d")(inputs)
    x = layers.MaxPooling2D(name="max_pooling2d")(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu", name="conv2d_1")(x)
    x = layers.MaxPooling2D(name="max_pooling2d_1")(x)
    x = layers.Flatten(name="flatten")(x)
    return tf.keras.Model(inputs, layers.Dense(10, name="dense")(x), name="digits_cnn")


def _digits_resnet() -> tf.keras.Model:
    inputs = tf.keras.Input((8, 8, 1), name="input")
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv2d")(inputs)
    x = _normalised(x, "batch_normalization")
    x = layers.Activation("relu", name="relu")(x)
    x = _residual_block(x, "block_1")
    x = layers.MaxPooling2D(name="max_pooling2d")(x)
    x = _residual_block(x, "block_2")
    x = layers.GlobalAveragePooling2D(name="global_average_pooling2d")(x)
    return tf.keras.Model(inputs, layers.Dense(10, name="dense")(x), name="digits_resnet")


def _residual_block(x: tf.Tensor, name: str) -> tf.Tensor:
    y = layers.Conv2D(16, 3, padding="same", use_bias=False, name=f"{name}_conv2d")(x)
    y = _normalised(y, f"{name}_batch_normalization")
    y = layers.Activation("relu", name=f"{name}_relu")(y)
    y = layers.Conv2D(16, 3, padding="same", use_bias=False, name=f"{name}_conv2d_1")(y)
    y = _normalised(y, f"{name}_batch_normalization_1")
    y = layers.Add(name=f"{name}_add")([x, y])
    return layers.Activation("relu", name=f"{name}_relu_1")(y)


def _normalised(x: tf.Tensor, name: str) -> tf.Tensor:
    # A client takes some twenty steps a round: at Keras's momentum of 0.99 the moving statistics
    # would lag behind the weights for many rounds.
    return layers.BatchNormalization(momentum=0.8, name=name)(x)


def _lstm() -> tf.keras.Model:
    inputs = tf.keras.Input((8, 8), name="input")
    x = layers.LSTM(32, name="lstm")(inputs)
    return tf.keras.Model(inputs, layers.Dense(10, name="dense")(x), name="lstm")


def _transformer() -> tf.keras.Model:
    inputs = tf.keras.Input((8, 8), name="input")
    # Its bias has a vector for each row of the image: a learned position embedding.
    x = layers.EinsumDense("bpf,fe->bpe", (8, 16), bias_axes="pe", name="embedding")(inputs)
    attention = layers.MultiHeadAttention(num_heads=2, key_dim=8, name="attention")(x, x)
    x = layers.Add(name="add")([x, attention])
    x = layers.LayerNormalization(name="layer_normalization")(x)
    y = layers.Dense(32, activation="relu", name="dense")(x)
    y = layers.Dense(16, name="dense_1")(y)
    x = layers.Add(name="add_1")([x, y])
    x = layers.LayerNormalization(name="layer_normalization_1")(x)
    x = layers.Flatten(name="flatten")(x)
    return tf.keras.Model(inputs, layers.Dense(10, name="dense_2")(x), name="transformer")


BUILDERS: Mapping[str, Callable[[], tf.keras.Model]] = {
    "dense": _dense,
    "logistic-regression": _logistic_regression,
    "mnist-mlp": _mnist_mlp,
    "mnist-cnn": _mnist_cnn,
    "digits-mlp": _digits_mlp,
    "digits-cnn": _digits_cnn,
    "digits-resnet": _digits_resnet,
    "lstm": _lstm,
    "transformer": _transformer,
}
"""What builds each architecture's model."""
