import json
import random

import numpy as np
import pytest
import tensorflow as tf

from fedviz.errors import UnknownNameError
from fedviz.training.architectures import ABOUT, ARCHITECTURES, architecture
from fedviz.training.build_table import PATH, table_text
from fedviz.training.keras_models import (
    BUILDERS,
    build_model,
    gives_probabilities,
    initial_weights,
)
from fedviz.training.keras_weights import extract_weights


def test_the_checked_in_table_is_what_the_keras_models_are():
    assert PATH.read_text("utf-8") == table_text()
    assert list(ARCHITECTURES) == list(BUILDERS) == list(ABOUT)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("dense", 5 * 10 + 10 + 10 * 2 + 2),
        ("logistic-regression", 784 * 10 + 10),
        # The counts that McMahan et al. (2017) give for the 2NN and the CNN.
        ("mnist-mlp", 199_210),
        ("mnist-cnn", 1_663_370),
        ("digits-mlp", 64 * 32 + 32 + 32 * 10 + 10),
        ("lstm", 4 * 32 * (8 + 32 + 1) + 32 * 10 + 10),
    ],
)
def test_parameters_are_as_many_as_counted_by_hand(name, count):
    assert architecture(name).num_parameters == count
    assert sum(layer.num_parameters for layer in architecture(name).layers) == count
    assert build_model(architecture(name)).count_params() == count


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_what_is_known_without_tensorflow_is_what_keras_builds(name):
    known = architecture(name)
    model = build_model(known)
    assert extract_weights(model).signature == known.signature
    assert model.input_shape[1:] == known.input_shape
    assert model.output_shape == (None, known.outputs)
    assert not gives_probabilities(model)
    owners = [tensor for layer in known.layers for tensor in layer.tensors]
    assert sorted(owners) == sorted(known.signature.names)


def test_names_do_not_depend_on_what_was_built_before():
    tf.keras.layers.Dense(3)
    build_model(architecture("dense"))
    names = extract_weights(build_model(architecture("dense"))).signature.names
    assert names == ("dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias")


def test_batch_normalisation_has_tensors_that_no_optimizer_trains():
    signature = architecture("digits-resnet").signature
    still = [spec.name for spec in signature if not spec.trainable]
    assert len(still) == 2 * 5
    assert still[:2] == ["batch_normalization/moving_mean", "batch_normalization/moving_variance"]
    assert signature.names[-10:] == tuple(still)


def test_an_unknown_architecture_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match="no architecture 'vgg'; there are dense, logistic"):
        architecture("vgg")


@pytest.mark.parametrize("name", ["digits-resnet", "transformer"])
def test_initial_weights_are_the_seeds_and_leave_other_random_states(name):
    random.seed(1)
    np.random.seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist()
    first, again, other = (initial_weights(architecture(name), seed) for seed in (5, 5, 6))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states
    assert all(np.array_equal(first[tensor], again[tensor]) for tensor in first)
    assert not np.array_equal(first.arrays[0], other.arrays[0])


def test_tensors_of_one_shape_start_with_different_values():
    weights = initial_weights(architecture("transformer"), 0)
    query, key = weights["attention/query/kernel"], weights["attention/key/kernel"]
    assert not np.array_equal(query, key)


def test_an_architectures_json_builds_the_same_model():
    text = build_model(architecture("digits-cnn")).to_json()
    assert json.loads(text)["config"]["name"] == "digits_cnn"
    expected = initial_weights(architecture("digits-cnn"), 3)
    found = initial_weights(text, 3)
    assert found.signature == expected.signature
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (tf.keras.layers.Dense(3, activation="softmax"), True),
        (tf.keras.layers.Softmax(), True),
        (tf.keras.Sequential([tf.keras.layers.Activation("softmax")]), True),
        (tf.keras.layers.Dense(3, activation="relu"), False),
        (tf.keras.layers.Flatten(), False),
    ],
)
def test_a_softmax_at_the_end_is_found(last, expected):
    model = tf.keras.Sequential([tf.keras.Input((3,)), last])
    assert gives_probabilities(model) is expected
