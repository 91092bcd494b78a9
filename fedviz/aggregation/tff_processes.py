"""Runs any of TFF's aggregation processes over clients that read their own weights from the file.

A TFF client's value is where its tensors lie: their positions in the file. The computation that is
mapped over the clients maps the file, takes the client's tensors from it and hands them to the
process, so that the weights never pass through Python or gRPC. The positions are no part of the
computation: all rounds of a file share one.

What is aggregated are the clients' **updates**, client − server model, wherever the round has a
server model: clipping, zeroing, noise and compression are about updates. The result is then server
model + aggregated update. In a round without a server model it is the weights themselves, as
``measurements["aggregated"]`` states, and a clipping norm is then one of whole models.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedviz.aggregation import context
from fedviz.aggregation.client_places import Places, Source, places_of, tensor_at
from fedviz.aggregation.federated_mean import federated_mean_of_rows
from fedviz.aggregation.process_measurements import plain, what_goes_with, what_was_measured
from fedviz.aggregation.tff_aggregators import TffAggregator
from fedviz.aggregation.tff_factories import create_process, with_sums_in_the_clear
from fedviz.dataset import Round
from fedviz.errors import CohortError, located
from fedviz.progress import Progress, ProgressCallback, silent
from fedviz.signature import TensorSpec

__all__ = ["RoundInput", "aggregate_with_process"]

# A message holds 2^31 bytes, of which the values are nearly all.
_LARGEST_MODEL_BYTES = (2 << 30) - (1 << 20)
# TFF's executor keeps what each step made of each client until the computation is over. Measured:
# four to five models a client for a mean or clipping, seven for secure sums (of int64).
_MODELS_HELD = {"native": 5, "test": 8}


@dataclass(frozen=True)
class RoundInput:
    """One round's part in an aggregation.

    Parameters
    ----------
    round : Round
    weights : ndarray of shape (conforming clients,), float64
        Each row's weight, finite, not negative, with a positive sum. Rows of weight 0 are not
        read and take no part.
    server : mapping of str to ndarray, optional
        The model that the round starts from; without one the weights are aggregated.
    """

    round: Round
    weights: np.ndarray
    server: Mapping[str, np.ndarray] | None = None


def aggregate_with_process(
    rounds: Sequence[RoundInput],
    specs: Sequence[TensorSpec],
    aggregator: TffAggregator,
    parameters: Mapping[str, Any] | None = None,
    progress: ProgressCallback = silent,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Aggregate a round with one of TFF's processes.

    Every tensor goes through the process as float32; float64 stays float64 where the aggregator
    keeps it. The update is made before it is narrowed, and the server model is added in float64,
    so that a float64 model loses only the low digits of its update. The result is rounded once to
    the tensor's own dtype.

    Noise and random rounding are TFF's and cannot be seeded: two runs differ.

    Parameters
    ----------
    rounds : sequence of RoundInput
        The last one is aggregated. Those before it are run first, in their order, and hand on the
        process's state: a server that adapts its norms over the rounds does the same. With one
        round every norm is its first estimate.
    specs : sequence of TensorSpec
        Float tensors of the dataset.
    aggregator : TffAggregator
    parameters : mapping, optional
        The aggregator's.
    progress : callable, optional
        Called before each round; it may raise ``JobCancelledError``.

    Returns
    -------
    tensors : dict of str to ndarray
        The model, in the specs' order, shapes and dtypes.
    measurements : dict
        Plain values that JSON can hold. ``aggregated`` (``updates`` or ``weights``),
        ``rounds_run``, ``clients_aggregated``, ``tensors_as_float32``, ``process_seconds`` (of
        TFF's process in the last round), ``process`` (what it measured, by path), ``simulated``,
        and what goes with the aggregator:
        ``zeroed_clients``, ``zeroing_norm``, ``clipped_clients``, ``clipping_norm``,
        ``bits_per_client_before`` and ``_after``, ``privacy``. ``distance_from_mean`` is
        ||model − mean||, for the plain mean of the same clients, weighted where the aggregator
        is; ``relative_distance_from_mean`` is that over ||mean − server model||, or over ||mean||
        without a server model.

    Raises
    ------
    UnknownNameError, InvalidArgumentError
        A parameter that is not known or outside its range, or parameters that do not go together.
    CohortError
        Too few clients, a model that is too large for one message, or clients that together are
        too large for this machine's memory.
    StorageError
        A file is gone or was replaced.
    EngineError
        TFF or its worker failed.
    """
    settings = aggregator.settings(parameters or {})
    tensors = tuple(spec for spec in specs if spec.size)
    for item in rounds:
        _check_cohort(item, tensors, aggregator)
    last = rounds[-1]
    num_clients = int(np.count_nonzero(last.weights))
    state: Any = None
    with contextlib.ExitStack() as stack:
        for done, item in enumerate(rounds):
            progress(Progress(done, len(rounds), f"{aggregator.title}: round {item.round.number}"))
            places = places_of(item.round, item.server, tensors, stack)
            if tensors:
                # The expected number of clients is one for all rounds: that of the last.
                started = time.perf_counter()
                state, result, measured = _run(
                    item, places, tensors, aggregator, settings, num_clients, state
                )
                seconds = time.perf_counter() - started
        model = _model(last, specs, tensors, result) if tensors else _empty(specs)
        measurements: dict[str, Any] = {
            "aggregated": "weights" if last.server is None else "updates",
            "rounds_run": len(rounds),
            "clients_aggregated": num_clients,
            "tensors_as_float32": [
                spec.name for spec in tensors if _process_dtype(spec, aggregator) != spec.dtype
            ],
        }
        if tensors:
            measurements["process_seconds"] = seconds
            measurements |= what_was_measured(measured)
            measurements |= _distance(last, places, tensors, aggregator, model)
            measurements |= what_goes_with(aggregator, settings, tensors, num_clients)
    progress(Progress(len(rounds), len(rounds), "aggregated"))
    return model, measurements


def _check_cohort(item: RoundInput, specs: Sequence[TensorSpec], aggregator: TffAggregator) -> None:
    clients = int(np.count_nonzero(item.weights))
    model_bytes = sum(
        np.dtype(_process_dtype(spec, aggregator)).itemsize * spec.size for spec in specs
    )
    problem = _size_problem(aggregator, clients, model_bytes, _available_bytes())
    if problem:
        raise CohortError(located(problem, file=item.round.dataset.path, round=item.round.number))


def _size_problem(
    aggregator: TffAggregator, clients: int, model_bytes: int, free_bytes: int
) -> str:
    """Why so many clients of such a model cannot be aggregated; empty where they can."""
    if model_bytes > _LARGEST_MODEL_BYTES:
        return (
            f"expected a model of at most {_LARGEST_MODEL_BYTES:,} bytes in one message, found "
            f"{model_bytes:,}; use the aggregator mean"
        )
    needed = model_bytes * clients * _MODELS_HELD[aggregator.context]
    if needed > free_bytes:
        return (
            f"{aggregator.name} keeps every client's update in memory: about {needed >> 20:,} MB "
            f"for {clients} clients, found {free_bytes >> 20:,} MB free; use the aggregator mean"
        )
    return ""


def _available_bytes() -> int:
    """Memory that can be taken without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 1 << 62


def _process_dtype(spec: TensorSpec, aggregator: TffAggregator) -> str:
    return "float64" if spec.dtype == "float64" and aggregator.keeps_float64 else "float32"


def _run(
    item: RoundInput,
    places: Places,
    specs: tuple[TensorSpec, ...],
    aggregator: TffAggregator,
    settings: Mapping[str, Any],
    num_clients: int,
    state: Any,
) -> tuple[Any, list[np.ndarray], Any]:
    """One round: the new state, what was aggregated, and what the process measured."""
    initialize, next_round = _computations(
        aggregator,
        tuple(settings.items()),
        num_clients,
        tuple((spec.shape, _process_dtype(spec, aggregator)) for spec in specs),
        places.sources,
        len(places.clients),
    )
    if state is None:
        state = context.run(initialize)
    rows = np.flatnonzero(item.weights)
    clients = [(places.positions(int(row)), np.float32(item.weights[row])) for row in rows]
    state, result, measured = context.run(next_round, state, clients)
    return state, [np.asarray(value) for value in result], measured


@functools.lru_cache(maxsize=32)
def _computations(
    aggregator: TffAggregator,
    settings: tuple[tuple[str, Any], ...],
    num_clients: int,
    values: tuple[tuple[tuple[int, ...], str], ...],
    sources: tuple[Source, ...],
    num_tensors: int,
) -> tuple[Any, Any]:
    """The first state, and a round; a second call finds them built.

    A round goes from the state and the clients' positions and weights to the new state, the
    aggregate and the measurements.
    """
    initialize, process_next = _process(aggregator, settings, num_clients, values)

    def load(client: Any) -> Any:
        updates = []
        for i, (shape, dtype) in enumerate(values):
            update = tensor_at(sources[i], client[0][i])
            if len(sources) > num_tensors:
                update -= tensor_at(sources[num_tensors + i], client[0][num_tensors + i])
            updates.append(tf.reshape(tf.cast(update, dtype), shape))
        return tuple(updates)

    client_type = tff.to_type((tff.TensorType(np.int64, [len(sources)]), np.float32))
    loaded = tff.tensorflow.computation(load, client_type)
    weight = tff.tensorflow.computation(lambda client: client[1], client_type)

    def next_round(state: Any, clients: Any) -> Any:
        arguments = [state, tff.federated_map(loaded, clients)]
        if aggregator.weighted:
            arguments.append(tff.federated_map(weight, clients))
        output = process_next(*arguments)
        return output.state, output.result, output.measurements

    return initialize, tff.federated_computation(
        next_round,
        initialize.type_signature.result,
        tff.FederatedType(client_type, tff.CLIENTS),
    )


@functools.lru_cache(maxsize=32)
def _process(
    aggregator: TffAggregator,
    settings: tuple[tuple[str, Any], ...],
    num_clients: int,
    values: tuple[tuple[tuple[int, ...], str], ...],
) -> tuple[Any, Any]:
    """A process's two computations, which any worker can run."""
    value_type = tff.to_type(
        tuple(tff.TensorType(np.dtype(dtype).type, shape) for shape, dtype in values)
    )
    process = create_process(aggregator, value_type, dict(settings), num_clients)
    if aggregator.context == "native":
        return process.initialize, process.next
    return with_sums_in_the_clear(process.initialize), with_sums_in_the_clear(process.next)


def _model(
    item: RoundInput,
    specs: Sequence[TensorSpec],
    tensors: Sequence[TensorSpec],
    result: Sequence[np.ndarray],
) -> dict[str, np.ndarray]:
    """Server model + aggregated update, in the tensors' own dtypes."""
    model = _empty(specs)
    for spec, value in zip(tensors, result, strict=True):
        total = value.astype(np.float64)
        if item.server is not None:
            total += item.server[spec.name].astype(np.float64)
        # A value beyond the dtype's range becomes infinite, which the caller counts.
        with np.errstate(over="ignore"):
            model[spec.name] = total.reshape(spec.shape).astype(spec.numpy_dtype)
    return model


def _empty(specs: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    return {
        spec.name: np.zeros(spec.shape if not spec.size else (), spec.numpy_dtype) for spec in specs
    }


def _distance(
    item: RoundInput,
    places: Places,
    specs: Sequence[TensorSpec],
    aggregator: TffAggregator,
    model: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """How far the model is from the plain mean, which the fast way gives."""
    weights = item.weights if aggregator.weighted else (item.weights > 0).astype(np.float64)
    means = federated_mean_of_rows(places.clients, weights)
    distance = moved = 0.0
    for spec, rounded in zip(specs, means, strict=True):
        mean = rounded.astype(np.float64)
        distance += float(np.sum((model[spec.name].astype(np.float64) - mean) ** 2))
        start = 0.0 if item.server is None else item.server[spec.name].astype(np.float64)
        moved += float(np.sum((mean - start) ** 2))
    return {
        "distance_from_mean": plain(math.sqrt(distance)),
        "relative_distance_from_mean": plain(math.sqrt(distance / moved)) if moved else None,
    }
