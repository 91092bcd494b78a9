"""Federated training in TFF: each round's local training at the clients, and its aggregate."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from numpy.typing import NDArray

from fedviz.aggregation.context import run
from fedviz.aggregation.federated_mean import federated_mean_in_memory
from fedviz.errors import CohortError, InvalidArgumentError, located
from fedviz.progress import Progress, ProgressCallback, silent
from fedviz.records import AGGREGATE, SERVER, Metric
from fedviz.signature import TensorSpec
from fedviz.training.data import TrainingData, fit_to
from fedviz.training.evaluation import Evaluation, Evaluator
from fedviz.training.keras_models import (
    ModelSource,
    build_model,
    gives_probabilities,
    initial_weights,
)
from fedviz.training.keras_weights import name_variables, signature_of

__all__ = ["Corrupt", "FederatedTraining", "LocalTraining", "TrainedRound", "train_rounds"]

Arrays = list[NDArray[Any]]

Corrupt = Callable[[int, Sequence[Arrays], Arrays], Sequence[Arrays | None]]
"""(round, the clients' weights, the server model) → what each client submits, None where that
cannot be averaged. All clients at once: attackers may know what the others trained."""


@dataclass(frozen=True)
class LocalTraining:
    """How a client trains: plain SGD on its own examples.

    Parameters
    ----------
    local_epochs : int
        Passes over the client's examples in a round, at least 1.
    batch_size : int
        At least 1; the last batch of an epoch may be smaller.
    learning_rate : float
        Above 0.

    Raises
    ------
    InvalidArgumentError
        A number is out of its range.
    """

    local_epochs: int = 2
    batch_size: int = 16
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        for name in ("local_epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(
                    f"{name} must be at least 1, found {getattr(self, name)}"
                )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InvalidArgumentError(
                f"learning_rate must be a finite number above 0, found {self.learning_rate}"
            )


@dataclass(frozen=True)
class TrainedRound:
    """One round: server model → client weights → aggregate.

    Parameters
    ----------
    number : int
        From 0 on.
    server : list of ndarray
        The model that the round started from, in the order of ``extract_weights``.
    clients : list of list of ndarray
        What each client submitted; where ``corrupt`` gave None, what it trained.
    aggregate : list of ndarray
        The mean weighted by ``num_examples``: the next round's server model. Integer tensors
        are the server's.
    left_out : tuple of int
        Indices of the clients that are not in the aggregate: ``corrupt`` gave None for them, or
        they submitted values that are not finite.
    metrics : tuple of Metric
        On held-out data, of the server model, the aggregate and each client in ``clients``.
    """

    number: int
    server: Arrays
    clients: list[Arrays]
    aggregate: Arrays
    left_out: tuple[int, ...]
    metrics: tuple[Metric, ...]


def train_rounds(
    source: ModelSource,
    data: TrainingData,
    parts: Sequence[NDArray[Any]],
    *,
    rounds: int,
    local: LocalTraining,
    seed: int,
    corrupt: Corrupt | None = None,
    flip_labels_of: Collection[int] = frozenset(),
    client_ids: Sequence[str] | None = None,
    progress: ProgressCallback = silent,
) -> Iterator[TrainedRound]:
    """Train a model by federated averaging, round by round.

    The clients' local training is one TFF computation; their weights come back from it before
    they are averaged, which TFF does too. The loss is the cross-entropy, or the mean squared error
    of a regression, plus the model's own regularization. The same seed gives the same weights, bit
    for bit, unless the model has layers that draw at random in training (Dropout).

    Parameters
    ----------
    source : Architecture or str
        The model, or its JSON as ``model.to_json()`` gives it.
    data : TrainingData
        Its examples must fit the model's input and outputs.
    parts : sequence of ndarray of int
        For each client the indices of its training examples, as ``partition`` gives them.
    rounds : int
        At least 1.
    local : LocalTraining
        How each client trains.
    seed : int
        Of the first server model, and of the order of each client's examples.
    corrupt : callable, optional
        Called with (round, the clients' weights, the server model) when all have trained; gives
        what each client submits instead, or None where that cannot be averaged.
    flip_labels_of : collection of int
        Indices of the clients that train on flipped labels: ``num_classes - 1 - y``.
    client_ids : sequence of str, optional
        The clients' names in the metrics; c00, c01, ... by default.
    progress : callable
        Called before each round, and at the end.

    Yields
    ------
    TrainedRound

    Raises
    ------
    InvalidArgumentError
        The data does not fit the model, there are no clients or no rounds, a client has no
        examples, or labels are to be flipped where there are none.
    CohortError
        No client of a round submitted finite weights: the learning rate is too high.
    EngineError
        TensorFlow or TFF failed.

    References
    ----------
    McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data,
    AISTATS 2017, algorithm 1, with all clients in every round.
    """
    training = FederatedTraining(source, data, parts, local, seed, flip_labels_of)
    if rounds < 1:
        raise InvalidArgumentError(f"rounds must be at least 1, found {rounds}")
    names = list(client_ids or (f"c{i:02d}" for i in range(len(parts))))
    if len(names) != len(parts):
        raise InvalidArgumentError(f"expected {len(parts)} client ids, found {len(names)}")
    return _rounds(training, rounds, corrupt, names, progress)


def _rounds(
    training: FederatedTraining,
    rounds: int,
    corrupt: Corrupt | None,
    names: Sequence[str],
    progress: ProgressCallback,
) -> Iterator[TrainedRound]:
    server = initial_weights(training.source, training.seed).arrays
    for number in range(rounds):
        message = f"round {number + 1} of {rounds}: training {len(names)} clients"
        progress(Progress(number, rounds, message))
        trained = training.local_updates(server, number)
        clients, left_out = _submitted(number, server, trained, corrupt)
        aggregate = training.aggregate(server, clients, left_out, number)
        metrics = training.metrics(server, aggregate, dict(zip(names, clients, strict=True)))
        yield TrainedRound(number, server, clients, aggregate, left_out, metrics)
        server = aggregate
    progress(Progress(rounds, rounds, f"{rounds} rounds trained"))


class FederatedTraining:
    """What stays the same in all rounds of one training.

    :func:`train_rounds` goes through it round by round; another loop may aggregate as it likes.
    The parameters are those of :func:`train_rounds`.
    """

    def __init__(
        self,
        source: ModelSource,
        data: TrainingData,
        parts: Sequence[NDArray[Any]],
        local: LocalTraining,
        seed: int,
        flip_labels_of: Collection[int] = frozenset(),
    ) -> None:
        model = _outline(source)
        self.source = source
        self.seed = seed
        data = fit_to(data, model.input_shape[1:], model.output_shape[-1])
        self._examples = [
            _examples(data, part, client in flip_labels_of) for client, part in enumerate(parts)
        ]
        _check_cohort(data, parts, flip_labels_of)
        self._local = local
        self._evaluate = Evaluator(source, data)
        self._train = _local_training(source, model, data, local)

    def local_updates(self, server: Arrays, number: int) -> list[Arrays]:
        """Train all clients from the server model; their weights, client by client."""
        clients = [
            OrderedDict(x=x, y=y, order=self._order(number, client, len(x)))
            for client, (x, y) in enumerate(self._examples)
        ]
        results = run(self._train, tuple(server), clients)
        return [[np.asarray(array) for array in weights] for weights in results]

    def aggregate(
        self, server: Arrays, clients: list[Arrays], left_out: tuple[int, ...], number: int
    ) -> Arrays:
        """Average the clients that are not left out, weighted by their numbers of examples."""
        kept = [client for client in range(len(clients)) if client not in left_out]
        if not kept:
            raise CohortError(
                located(
                    "no client submitted finite weights that can be averaged; "
                    "lower the learning rate, or inject fewer faults",
                    round=number,
                )
            )
        floats = [place for place, array in enumerate(server) if _is_real(array)]
        means = federated_mean_in_memory(
            [[clients[client][place] for place in floats] for client in kept],
            [len(self._examples[client][0]) for client in kept],
        )
        aggregate = list(server)
        for place, mean in zip(floats, means, strict=True):
            aggregate[place] = np.asarray(mean)
        return aggregate

    def metrics(
        self, server: Arrays, aggregate: Arrays, clients: dict[str, Arrays]
    ) -> tuple[Metric, ...]:
        """Measure the server model, the aggregate and each client on held-out data."""
        measured = [*_metrics(SERVER, "", self._evaluate(server))]
        measured += _metrics(AGGREGATE, "mean", self._evaluate(aggregate))
        for name, weights in clients.items():
            measured += _metrics("client", name, self._evaluate(weights))
        return tuple(measured)

    def _order(self, number: int, client: int, num_examples: int) -> NDArray[np.int32]:
        """The order of a client's examples in each epoch, (local_epochs, num_examples)."""
        # The third number sets this stream apart from the one that perturbs the same client.
        sequence = np.random.SeedSequence(self.seed, spawn_key=(number, client, 1))
        rng = np.random.default_rng(sequence)
        epochs = [rng.permutation(num_examples) for _ in range(self._local.local_epochs)]
        return np.stack(epochs).astype(np.int32)


def _outline(source: ModelSource) -> tf.keras.Model:
    """The model in a graph of its own: shapes and dtypes, and no values."""
    with tf.Graph().as_default():
        model = build_model(source)
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.output_shape) != 2:
        raise InvalidArgumentError(
            f"model {model.name}: expected one input and one output of shape [batch, outputs], "
            f"found {len(model.inputs)} inputs and outputs of shape {model.output_shape}"
        )
    return model


def _check_cohort(
    data: TrainingData, parts: Sequence[NDArray[Any]], flip_labels_of: Collection[int]
) -> None:
    if not parts:
        raise InvalidArgumentError("expected at least one client, found none")
    empty = [client for client, part in enumerate(parts) if len(part) == 0]
    if empty:
        raise InvalidArgumentError(f"client {empty[0]} has no examples; partition the data anew")
    if flip_labels_of and data.num_classes is None:
        raise InvalidArgumentError(
            f"{data.name}: labels cannot be flipped, its targets are real numbers"
        )
    strangers = sorted(client for client in flip_labels_of if not 0 <= client < len(parts))
    if strangers:
        raise InvalidArgumentError(
            f"labels of client {strangers[0]} cannot be flipped, there are {len(parts)} clients"
        )


def _examples(
    data: TrainingData, part: NDArray[Any], flipped: bool
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    x, y = data.x_train[part], data.y_train[part]
    if flipped and data.num_classes is not None:
        y = data.num_classes - 1 - y
    return x, y


def _local_training(
    source: ModelSource, model: tf.keras.Model, data: TrainingData, local: LocalTraining
) -> Any:
    """The TFF computation (server model, clients' examples) → clients' weights, not averaged."""
    weights_type = tff.types.StructWithPythonType(
        [tff.TensorType(spec.numpy_dtype.type, spec.shape) for spec in signature_of(model)],
        tuple,
    )
    client_type = tff.types.StructWithPythonType(
        [
            ("x", tff.TensorType(np.float32, (None, *data.feature_shape))),
            ("y", tff.TensorType(data.y_train.dtype.type, (None, *data.y_train.shape[1:]))),
            ("order", tff.TensorType(np.int32, (local.local_epochs, None))),
        ],
        OrderedDict,
    )

    # The model is built inside: TFF ships the graph with its variables to the worker. A functional
    # model of tff.learning would do without variables, and refuses batch normalisation.
    @tff.tensorflow.computation(weights_type, client_type)  # type: ignore[untyped-decorator]
    def train_client(weights: Any, examples: Any) -> Any:
        client_model = build_model(source)
        step = _sgd_step(client_model, data.task, local.learning_rate)
        return _train_in_graph(client_model, step, local.batch_size, weights, examples)

    @tff.federated_computation(  # type: ignore[untyped-decorator]
        tff.FederatedType(weights_type, tff.SERVER), tff.FederatedType(client_type, tff.CLIENTS)
    )
    def train_clients(server: Any, clients: Any) -> Any:
        return tff.federated_map(train_client, (tff.federated_broadcast(server), clients))

    return train_clients


_Step = Callable[[tf.Tensor, tf.Tensor], None]


def _train_in_graph(
    model: tf.keras.Model, step: _Step, batch_size: int, weights: Any, examples: Any
) -> Any:
    variables = list(name_variables(model).values())

    # A function orders its reads and writes of variables, which TFF's own graph does not.
    @tf.function  # type: ignore[untyped-decorator]
    def train(weights: Any, x: tf.Tensor, y: tf.Tensor, order: tf.Tensor) -> Any:
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)
        for epoch in tf.range(tf.shape(order)[0]):
            for start in tf.range(0, tf.shape(order)[1], batch_size):
                rows = order[epoch, start : start + batch_size]
                step(tf.gather(x, rows), tf.gather(y, rows))
        return tuple(tf.identity(variable) for variable in variables)

    return train(tuple(weights), examples["x"], examples["y"], examples["order"])


def _sgd_step(model: tf.keras.Model, task: str, learning_rate: float) -> _Step:
    if task == "regression":
        loss = tf.keras.losses.MeanSquaredError()
    else:
        loss = tf.keras.losses.SparseCategoricalCrossentropy(
            from_logits=not gives_probabilities(model)
        )

    def step(x: tf.Tensor, y: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            total = loss(y, model(x, training=True))
            if model.losses:
                total += tf.add_n(model.losses)
        gradients = tape.gradient(total, model.trainable_variables)
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            if gradient is None:
                continue
            # A gather's gradient (Embedding) is sparse.
            dense = tf.convert_to_tensor(gradient)
            variable.assign_sub(tf.cast(learning_rate, dense.dtype) * dense)
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))

    return step


def _submitted(
    number: int, server: Arrays, trained: list[Arrays], corrupt: Corrupt | None
) -> tuple[list[Arrays], tuple[int, ...]]:
    """What each client submits, and who is left out of the aggregate."""
    submitted = trained if corrupt is None else corrupt(number, trained, server)
    left_out = tuple(i for i, own in enumerate(submitted) if own is None or not _all_finite(own))
    clients = [
        own if changed is None else changed for own, changed in zip(trained, submitted, strict=True)
    ]
    return clients, left_out


def _all_finite(weights: Arrays) -> bool:
    return all(bool(np.isfinite(array).all()) for array in weights if _is_real(array))


def _is_real(array: NDArray[Any]) -> bool:
    return TensorSpec.of("tensor", array).is_float


def _metrics(role: str, subject: str, evaluation: Evaluation) -> list[Metric]:
    metrics = [Metric(role, subject, "loss", evaluation.loss)]
    if evaluation.accuracy is not None:
        metrics.append(Metric(role, subject, "accuracy", evaluation.accuracy))
    return metrics
