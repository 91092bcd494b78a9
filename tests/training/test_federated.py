import itertools

import numpy as np
import pytest
import tensorflow as tf

from fedviz.errors import CohortError, InvalidArgumentError, JobCancelledError
from fedviz.progress import Progress
from fedviz.training.architectures import architecture
from fedviz.training.data import TrainingData, load_data
from fedviz.training.federated import LocalTraining, train_rounds
from fedviz.training.keras_models import initial_weights
from fedviz.training.partitions import partition

pytestmark = pytest.mark.tff

layers = tf.keras.layers
ONE_STEP = LocalTraining(local_epochs=1, batch_size=8, learning_rate=0.5)


def data_of(x, y, num_classes):
    x = np.array(x, np.float32)
    y = np.array(y, np.int64 if num_classes else np.float32)
    task = "classification" if num_classes else "regression"
    return TrainingData("mine", task, x, y, x, y, None, num_classes)


def sequential(*rest, shape=(2,)):
    return tf.keras.Sequential([tf.keras.Input(shape), *rest]).to_json()


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


@pytest.fixture(scope="module")
def parts(digits):
    return partition("dirichlet:0.3", digits.y_train, 10, seed=0)


def train(source, data, parts, **options):
    options = {"rounds": 1, "local": ONE_STEP, "seed": 0, **options}
    return list(train_rounds(source, data, parts, **options))


def measured(result, role, name="accuracy"):
    return [m.value for m in result.metrics if (m.role, m.name) == (role, name)]


def test_one_step_of_a_regression_is_the_step_by_hand():
    zeros = layers.Dense(1, name="dense", kernel_initializer="zeros")
    data = data_of([[1, 2], [3, 4]], [[1], [3]], None)
    (result,) = train(sequential(zeros), data, [np.array([0, 1])])
    # Errors (-1, -3); the gradient of their mean square is the mean of 2 × error × x.
    kernel, bias = result.clients[0]
    assert kernel.tolist() == [[0.5 * (1 * 1 + 3 * 3)], [0.5 * (1 * 2 + 3 * 4)]]
    assert bias.tolist() == [0.5 * (1 + 3)]
    assert [a.tolist() for a in result.aggregate] == [kernel.tolist(), bias.tolist()]
    assert [m.value for m in result.metrics if m.role == "server"] == [(1 + 9) / 2]


def softmax_step(kernel, x, y, learning_rate):
    logits = x @ kernel
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return kernel - learning_rate * x.T @ (shares - np.eye(kernel.shape[1])[y]) / len(x)


@pytest.mark.parametrize("activation", ["linear", "softmax"])
def test_two_clients_of_a_classifier_step_as_numpy_does_and_are_averaged(activation):
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    y = np.array([0, 1, 2, 1, 0])
    source = sequential(layers.Dense(3, name="d", use_bias=False, activation=activation))
    clients = [np.array([0, 1, 2, 3]), np.array([4])]
    (result,) = train(source, data_of(x, y, 3), clients)
    (start,) = initial_weights(source, 0).arrays
    assert np.array_equal(result.server[0], start)
    expected = [softmax_step(start.astype(float), x[p], y[p], 0.5) for p in clients]
    for (found,), by_hand in zip(result.clients, expected, strict=True):
        np.testing.assert_allclose(found, by_hand, rtol=1e-5, atol=1e-6)
    mean = (4 * expected[0] + 1 * expected[1]) / 5
    np.testing.assert_allclose(result.aggregate[0], mean, rtol=1e-5, atol=1e-6)


def test_epochs_and_batches_are_as_many_steps():
    # The gradient of (w x - y)² at x = 1 is 2 (w - y): each step of rate 1/4 halves the error.
    source = sequential(layers.Dense(1, use_bias=False, kernel_initializer="zeros"), shape=(1,))
    data = data_of(np.ones((5, 1)), np.ones((5, 1)), None)
    local = LocalTraining(local_epochs=3, batch_size=2, learning_rate=0.25)
    (result,) = train(source, data, [np.arange(5)], local=local)
    # Batches of 2, 2 and 1 examples, three times: 9 steps.
    assert result.clients[0][0].tolist() == [[1 - 0.5**9]]


def test_regularization_and_constraints_of_the_model_count():
    dense = layers.Dense(
        1,
        use_bias=False,
        kernel_initializer="ones",
        kernel_regularizer=tf.keras.regularizers.L2(0.5),
        kernel_constraint="non_neg",
    )
    data = data_of([[1, 0]], [[5]], None)
    (result,) = train(sequential(dense), data, [np.array([0])])
    # The square's gradient is (-8, 0), the penalty's 2 × 0.5 × w = (1, 1).
    assert result.clients[0][0].tolist() == [[1 + 0.5 * 7], [0.5]]
    (result,) = train(sequential(dense), data_of([[1, 0]], [[-5]], None), [np.array([0])])
    assert result.clients[0][0].tolist() == [[0.0], [0.5]]


def test_training_improves_and_the_aggregate_beats_the_mean_client(digits, parts):
    steps: list[Progress] = []
    results = train(
        architecture("digits-mlp"),
        digits,
        parts,
        rounds=5,
        local=LocalTraining(),
        progress=steps.append,
    )
    accuracy = [measured(result, "aggregate")[0] for result in results]
    assert accuracy[-1] > 0.7
    assert accuracy[-1] > measured(results[0], "server")[0] + 0.4
    for result in results:
        assert measured(result, "aggregate")[0] > np.mean(measured(result, "client"))
        assert result.left_out == ()
        assert len(result.clients) == 10
    for before, after in itertools.pairwise(results):
        assert before.aggregate is after.server
    subjects = [m.subject for m in results[0].metrics if m.name == "loss"]
    assert subjects == ["", "mean", *(f"c{i:02d}" for i in range(10))]
    assert [step.done for step in steps] == [0, 1, 2, 3, 4, 5]
    assert steps[1].message == "round 2 of 5: training 10 clients"


def test_the_same_seed_gives_the_same_weights_bit_for_bit(digits, parts):
    def weights(seed):
        results = train(architecture("digits-cnn"), digits, parts, rounds=2, seed=seed)
        return [array for result in results for client in result.clients for array in client]

    first, again, other = weights(0), weights(0), weights(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True) if a.any())


def test_batch_normalisation_trains_and_its_moving_statistics_move(digits):
    source = architecture("digits-resnet")
    parts = partition("iid", digits.y_train, 3, seed=0)
    (result,) = train(source, digits, parts, local=LocalTraining(learning_rate=0.05))
    for spec, start, mean in zip(source.signature, result.server, result.aggregate, strict=True):
        assert not np.array_equal(start, mean), spec.name
        assert np.isfinite(mean).all()
    assert measured(result, "aggregate", "loss") < measured(result, "server", "loss")


def test_moving_statistics_are_those_of_the_clients_batch():
    norm = layers.BatchNormalization(momentum=0.75, name="norm")
    data = data_of([[0, 2], [4, 2]], [[0], [0]], None)
    (result,) = train(sequential(norm, layers.Dense(1)), data, [np.array([0, 1])])
    moving_mean, moving_variance = result.clients[0][-2:]
    # One batch of means (2, 2) and variances (4, 0), onto 0 and 1.
    np.testing.assert_allclose(moving_mean, [0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(moving_variance, [0.75 + 1.0, 0.75], rtol=1e-6)


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_sequence_models_learn(name, digits):
    parts = partition("iid", digits.y_train, 2, seed=0)
    local = LocalTraining(local_epochs=1, learning_rate=0.1)
    (result,) = train(architecture(name), digits, parts, local=local)
    assert measured(result, "aggregate", "loss") < measured(result, "server", "loss")


def test_flipped_labels_poison_one_client_only():
    x, y = np.eye(3), [0, 1, 2]
    source = sequential(layers.Dense(3, name="d"), shape=(3,))
    clients = [np.arange(3), np.arange(3)]
    (result,) = train(source, data_of(x, y, 3), clients, flip_labels_of={1})
    (flipped,) = train(source, data_of(x, y[::-1], 3), clients[:1])
    honest, poisoned = (client[0] for client in result.clients)
    assert not np.array_equal(honest, poisoned)
    np.testing.assert_array_equal(poisoned, flipped.clients[0][0])


def test_corrupted_clients_are_averaged_where_they_can_be():
    source = sequential(layers.Dense(1, name="d", kernel_initializer="zeros"), shape=(1,))
    data = data_of([[1], [1], [1], [1]], [[1], [2], [3], [4]], None)
    calls = []

    def corrupt(number, clients, server):
        calls.append((number, len(clients), server[0].item()))
        (first, bias), (second, _), _, (fourth, _) = clients
        return [[first, bias], [-second, bias], None, [fourth * np.nan, bias]]

    (result,) = train(source, data, [np.array([i]) for i in range(4)], corrupt=corrupt)
    assert calls == [(0, 4, 0.0)]
    # A step of 0.5 × 2 × target: the kernels are the targets.
    assert [client[0].item() for client in result.clients[:3]] == [1.0, -2.0, 3.0]
    assert np.isnan(result.clients[3][0]).all()
    assert result.left_out == (2, 3)
    assert result.aggregate[0].item() == (1.0 - 2.0) / 2


def test_a_round_without_any_finite_client_is_an_error():
    source = sequential(layers.Dense(1, name="d"), shape=(1,))
    data = data_of([[1e30]], [[1e30]], None)
    with pytest.raises(CohortError, match=r"round 0: no client .* lower the learning rate"):
        train(source, data, [np.array([0])])


def test_a_cancelled_job_ends_before_its_next_round(digits, parts):
    def cancel(progress):
        if progress.done == 1:
            raise JobCancelledError("cancelled")

    rounds = train_rounds(
        architecture("digits-mlp"),
        digits,
        parts,
        rounds=3,
        local=ONE_STEP,
        seed=0,
        progress=cancel,
    )
    assert next(rounds).number == 0
    with pytest.raises(JobCancelledError):
        next(rounds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": []}, "at least one client, found none"),
        ({"parts": [np.array([0]), np.array([], int)]}, "client 1 has no examples"),
        ({"rounds": 0}, "rounds must be at least 1, found 0"),
        ({"flip_labels_of": {9}}, "labels of client 9 cannot be flipped, there are 2 clients"),
        ({"client_ids": ["a"]}, "expected 2 client ids, found 1"),
        (
            {"source": sequential(layers.Dense(3), shape=(64,))},
            "3 outputs, and the data has labels",
        ),
        (
            {"source": sequential(layers.LSTM(10, return_sequences=True), shape=(8, 8))},
            r"one input and one output of shape \[batch, outputs\]",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_once(digits, options, message):
    arguments = {
        "source": architecture("digits-mlp"),
        "data": digits,
        "parts": [np.array([0]), np.array([1])],
        "rounds": 1,
        "local": ONE_STEP,
        "seed": 0,
        **options,
    }
    with pytest.raises(InvalidArgumentError, match=message):
        train_rounds(
            arguments.pop("source"), arguments.pop("data"), arguments.pop("parts"), **arguments
        )


def test_labels_of_a_regression_cannot_be_flipped():
    data = data_of([[1, 2]], [[1]], None)
    with pytest.raises(InvalidArgumentError, match="its targets are real numbers"):
        train(sequential(layers.Dense(1)), data, [np.array([0])], flip_labels_of={0})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"local_epochs": 0}, "local_epochs must be at least 1, found 0"),
        ({"batch_size": -1}, "batch_size must be at least 1, found -1"),
        ({"learning_rate": 0.0}, "finite number above 0, found 0"),
        ({"learning_rate": float("nan")}, "found nan"),
    ],
)
def test_local_training_out_of_range_is_refused(arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        LocalTraining(**arguments)
