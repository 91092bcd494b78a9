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
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedviz.aggregation import context
from fedviz.aggregation.federated_mean import federated_mean_of_rows
from fedviz.aggregation.memory_map import MappedTensor, mapped_tensor, mapped_tensors
from fedviz.aggregation.privacy import privacy_loss
from fedviz.aggregation.tff_aggregators import (
    SIMULATED_IN_THE_CLEAR,
    TffAggregator,
    expected_clients,
)
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
# The longest vector of measurements that is kept whole.
_LONGEST_LIST = 64


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
            places = _places(item, tensors, stack)
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
            measurements |= _measurements(measured)
            measurements |= _distance(last, places, tensors, aggregator, model)
            measurements |= _extras(aggregator, settings, tensors, num_clients)
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


@dataclass(frozen=True)
class _Source:
    """A tensor's file and type; where in the file it lies is said with each client."""

    path: bytes
    file_bytes: int
    version: tuple[int, int]
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, tensor: MappedTensor) -> _Source:
        return cls(tensor.path, tensor.file_bytes, tensor.version, tensor.shape, tensor.dtype)


@dataclass(frozen=True)
class _Places:
    """Where the clients' tensors lie, and the server model's (none without one)."""

    clients: tuple[MappedTensor, ...]
    server: tuple[MappedTensor, ...]

    @property
    def sources(self) -> tuple[_Source, ...]:
        return tuple(_Source.of(tensor) for tensor in (*self.clients, *self.server))

    def positions(self, row: int) -> np.ndarray:
        """First value of each tensor of a client, then of the server model's: int64."""
        first = [_first_value(tensor) + row * tensor.size for tensor in self.clients]
        return np.array([*first, *(_first_value(tensor) for tensor in self.server)], np.int64)


def _first_value(tensor: MappedTensor) -> int:
    return tensor.offset // tf.as_dtype(tensor.dtype).size


def _places(item: RoundInput, specs: Sequence[TensorSpec], stack: contextlib.ExitStack) -> _Places:
    """Where a round's tensors lie.

    A server model that cannot be mapped, or is another than the round's own, is copied to a file
    first.
    """
    clients = tuple(mapped_tensors(item.round, specs))
    model = item.server
    if model is None:
        return _Places(clients, ())
    own = model is item.round.server
    folder = functools.cache(
        lambda: Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedviz-")))
    )
    server = (
        (mapped_server_tensor(item.round, spec) if own else None)
        or _copied(model[spec.name], spec, folder() / f"server-{index}")
        for index, spec in enumerate(specs)
    )
    return _Places(clients, tuple(server))


def _copied(value: np.ndarray, spec: TensorSpec, path: Path) -> MappedTensor:
    content = np.ascontiguousarray(value, spec.numpy_dtype).tobytes()
    path.write_bytes(content)
    status = path.stat()
    version = (status.st_ino, status.st_mtime_ns)
    return MappedTensor(os.fsencode(path), len(content), 0, 1, spec.shape, spec.dtype, version)


def mapped_server_tensor(round_: Round, spec: TensorSpec) -> MappedTensor | None:
    """Where one tensor of a round's server model lies, if TensorFlow can map it."""
    offset = round_.server_offset(spec.name)
    clients = mapped_tensor(round_, spec)
    if offset is None or clients is None or offset % tf.as_dtype(spec.dtype).size:
        return None
    return MappedTensor(
        clients.path, clients.file_bytes, offset, 1, spec.shape, spec.dtype, clients.version
    )


def _run(
    item: RoundInput,
    places: _Places,
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
    sources: tuple[_Source, ...],
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
            update = _tensor_at(sources[i], client[0][i])
            if len(sources) > num_tensors:
                update -= _tensor_at(sources[num_tensors + i], client[0][num_tensors + i])
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


def _tensor_at(source: _Source, position: Any) -> Any:
    """One value of a tensor, from a mapped file: flat, float32, or float64 of a float64 tensor."""
    dtype = tf.as_dtype(source.dtype)
    whole = tf.raw_ops.ImmutableConst(
        dtype=dtype,
        shape=(source.file_bytes // dtype.size,),
        memory_region_name=source.path,
    )
    value = tf.slice(whole, [position], [math.prod(source.shape)])
    if source.dtype in ("float16", "bfloat16"):
        return tf.cast(value, tf.float32)
    # TensorFlow writes a result over an operand that nobody else needs, and a mapped file may not
    # be written: that would end the worker.
    return tf.raw_ops.DeepCopy(x=value)


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
    places: _Places,
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
        "distance_from_mean": _plain(math.sqrt(distance)),
        "relative_distance_from_mean": _plain(math.sqrt(distance / moved)) if moved else None,
    }


def _measurements(measured: Any) -> dict[str, Any]:
    """What the process measured, by path, and the clients that it zeroed or clipped."""
    process = dict(_leaves(measured, ""))
    found: dict[str, Any] = {"process": process}
    for leaf, name in (
        ("zeroed_count", "zeroed_clients"),
        ("zeroing_norm", "zeroing_norm"),
        ("clipped_count", "clipped_clients"),
        ("clipping_norm", "clipping_norm"),
    ):
        values = [v for path, v in process.items() if path.rsplit(".", 1)[-1] == leaf]
        if values:
            found[name] = values[0]
    return found


def _leaves(measured: Any, path: str) -> list[tuple[str, Any]]:
    """Path and plain value of every measurement, in TFF's order."""
    if isinstance(measured, Mapping):
        items = list(measured.items())
    elif hasattr(measured, "_asdict"):
        items = list(measured._asdict().items())
    elif isinstance(measured, list | tuple):
        items = [(str(i), value) for i, value in enumerate(measured)]
    else:
        return [(path, _plain(measured))]
    return [leaf for name, value in items for leaf in _leaves(value, f"{path}.{name}".lstrip("."))]


def _plain(value: Any) -> Any:
    """A value that JSON can hold; a number that is not finite is None."""
    array = np.asarray(value)
    if array.ndim:
        return [_plain(v) for v in array.ravel()[:_LONGEST_LIST]]
    item = array.item()
    if isinstance(item, bytes):
        return item.decode(errors="replace")
    return None if isinstance(item, float) and not math.isfinite(item) else item


def _extras(
    aggregator: TffAggregator,
    settings: Mapping[str, Any],
    specs: Sequence[TensorSpec],
    num_clients: int,
) -> dict[str, Any]:
    """What goes with some aggregators only."""
    extras: dict[str, Any] = {}
    simulated = aggregator.name in ("secure", "ddp-secure") or settings.get("sum") == "secure"
    if simulated:
        extras["simulated"] = SIMULATED_IN_THE_CLEAR
    if aggregator.name == "compression" or settings.get("sum") == "compressed":
        before, after = _bits(settings, specs)
        extras |= {"bits_per_client_before": before, "bits_per_client_after": after}
    if "noise_multiplier" in settings:
        extras["privacy"] = _privacy(aggregator, settings, num_clients)
    return extras


# TensorFlow's encoder packs 28 bits into each int32, and sends the least and the largest value.
_PACKED_BITS = 28


def _bits(settings: Mapping[str, Any], specs: Sequence[TensorSpec]) -> tuple[int, int]:
    """Bits that a client sends without and with the quantisation."""
    bits, threshold = settings["quantization_bits"], settings["threshold"]
    packed = sum(
        32 * -(-spec.size * bits // _PACKED_BITS) + 64 if spec.size > threshold else 32 * spec.size
        for spec in specs
    )
    return 32 * sum(spec.size for spec in specs), packed


def _privacy(
    aggregator: TffAggregator, settings: Mapping[str, Any], num_clients: int
) -> dict[str, Any]:
    clients = expected_clients(settings, num_clients)
    population = settings["population"]
    loss = privacy_loss(
        settings["noise_multiplier"],
        clients,
        None if population == "cohort" else population,
        settings["num_rounds"],
        settings["delta"],
    )
    notes = []
    if _on(settings.get("zeroing")):
        notes.append(
            "The adaptive zeroing norm and the counts shown here are made of the clients without "
            "noise, and epsilon does not count them."
        )
    if aggregator.name == "ddp-secure":
        notes.append(
            "Epsilon is that of the Gaussian mechanism with this noise multiplier; the Skellam "
            "noise and the rounding to integers make the true one slightly larger."
        )
    if clients != num_clients:
        notes.append(f"The sum is divided by {clients:g} clients, and {num_clients} took part.")
    return {**loss.measurements(), "notes": notes}


def _on(word: Any) -> bool:
    return bool(word == "yes")
