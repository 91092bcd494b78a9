from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from fedviz.errors import InvalidArgumentError, SignatureError
from fedviz.training.architectures import architecture
from fedviz.training.data import TrainingData, load_data
from fedviz.training.evaluation import Evaluator, evaluator
from fedviz.training.keras_models import initial_weights

layers = tf.keras.layers


def data_of(x, y, num_classes):
    x = np.array(x, np.float32)
    y = np.array(y, np.int64 if num_classes else np.float32)
    task = "classification" if num_classes else "regression"
    return TrainingData("mine", task, x, y, x, y, None, num_classes)


def linear(**arguments):
    dense = layers.Dense(2, name="dense", use_bias=False, **arguments)
    return tf.keras.Sequential([tf.keras.Input((2,)), dense]).to_json()


IDENTITY = {"dense/kernel": np.eye(2, dtype=np.float32)}
X = [[np.log(3.0), 0.0], [0.0, np.log(3.0)]]


@pytest.mark.parametrize("activation", ["linear", "softmax"])
def test_loss_is_the_cross_entropy_of_logits_or_probabilities(activation):
    # The softmax of (log 3, 0) is (3/4, 1/4): -log 3/4 where label 0 is right, -log 1/4 else.
    evaluation = Evaluator(linear(activation=activation), data_of(X, [0, 0], 2))(IDENTITY)
    assert evaluation.loss == pytest.approx(-(np.log(0.75) + np.log(0.25)) / 2, rel=1e-6)
    assert evaluation.accuracy == 0.5


def test_a_regression_has_the_mean_squared_error_and_no_accuracy():
    data = data_of([[1, 2], [3, 4]], [[1, 0], [0, 4]], None)
    evaluation = Evaluator(linear(), data)(IDENTITY)
    assert evaluation.loss == (0 + 4 + 9 + 0) / 4
    assert evaluation.accuracy is None


def test_outputs_that_are_nan_are_never_right():
    faulty = {"dense/kernel": np.array([[np.nan, 0], [0, 1]], np.float32)}
    evaluation = Evaluator(linear(), data_of(X, [0, 0], 2))(faulty)
    assert np.isnan(evaluation.loss)
    assert evaluation.accuracy == 0.0


def test_many_weights_are_measured_by_one_evaluator_as_keras_measures_them():
    data = load_data("digits")
    source = architecture("digits-resnet")
    measure = Evaluator(source, data)
    for seed in (0, 1):
        weights = initial_weights(source, seed)
        evaluation = measure(weights)
        assert evaluation == measure(weights.arrays) == Evaluator(source, data)(weights)
        # Untrained: near the entropy of ten classes.
        assert 0.0 <= evaluation.accuracy <= 0.3
        assert evaluation.loss == pytest.approx(np.log(10), abs=0.8)


def test_one_evaluator_in_many_threads():
    source = architecture("digits-mlp")
    measure = evaluator(source, "digits")
    assert evaluator(source, "digits") is measure
    models = [initial_weights(source, seed) for seed in range(8)]
    alone = [Evaluator(source, load_data("digits"))(weights) for weights in models]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(measure, models * 8)) == alone * 8


def test_what_does_not_fit_the_model_is_refused():
    with pytest.raises(InvalidArgumentError, match=r"inputs of shape \[784\]"):
        Evaluator(architecture("mnist-mlp"), load_data("digits"))
    with pytest.raises(SignatureError, match="expected 4 tensors, found 1"):
        Evaluator(architecture("digits-mlp"), load_data("digits"))([np.zeros(1)])
