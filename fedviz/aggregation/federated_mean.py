"""The federated mean as TFF computations.

There are two ways to the same numbers. :func:`federated_mean_in_memory` hands TFF the clients'
values: the reference, for what fits into memory and messages. :func:`federated_mean_of_rows`
hands TFF row numbers and weights, and each TFF client reads its rows from the file itself.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedviz.aggregation import context
from fedviz.aggregation.connection import Connection
from fedviz.aggregation.dealing import Dealt, deal
from fedviz.aggregation.file_state import WorkerView, view_of
from fedviz.aggregation.machines import WorkerAddress
from fedviz.aggregation.memory_map import MappedTensor, rows_of
from fedviz.aggregation.weighted_sum import tiling_for, weighted_sum
from fedviz.errors import InvalidArgumentError, SignatureError, located
from fedviz.signature import DTYPES, Signature, TensorSpec

__all__ = ["federated_mean_in_memory", "federated_mean_of_rows", "federated_mean_on_machines"]

_RESULT_BYTES = 128 << 20
_FEWEST_SHARD_BYTES = 4 << 20
# A worker of another machine gets its rows in several portions, so that little is lost with it and
# a fast one does more. Each portion's sums come back over the network, two bytes for each of these.
_PORTION_RESULT_BYTES = 32 << 20
_PORTIONS_A_WORKER = 4
_FEWEST_PORTION_BYTES = 16 << 20

_SHARD_TYPE = tff.to_type((np.int64, tff.TensorType(np.float64, [None])))


def federated_mean_in_memory(
    client_weights: Sequence[Sequence[np.ndarray]], weights: Sequence[float] | np.ndarray
) -> list[np.ndarray]:
    """``tff.federated_mean`` of values that are in memory.

    Parameters
    ----------
    client_weights : sequence of sequence of ndarray
        For each client its tensors, float, all clients alike in shapes and dtypes.
    weights : sequence of float, one for each client
        Not negative, with a positive sum.

    Returns
    -------
    list of ndarray
        sum(weights[i] * client_weights[i]) / sum(weights), tensor by tensor, summed in float64
        and rounded once to the tensor's own dtype.

    Raises
    ------
    SignatureError
        A client differs from the first in shapes or dtypes, or a tensor is not float.
    InvalidArgumentError
        No clients, or another number of weights than of clients.
    EngineError
        TFF or its worker failed.
    """
    if not len(client_weights) or len(client_weights) != len(weights):
        raise InvalidArgumentError(
            f"expected one weight for each of at least one client, found {len(client_weights)} "
            f"clients and {len(weights)} weights."
        )
    signature = _positional_signature(client_weights[0])
    values = []
    for i, tensors in enumerate(client_weights):
        try:
            arrays = signature.arrange(tensors)
        except SignatureError as error:
            raise SignatureError(f"client {i}, {error}") from error
        values.append(tuple(array.astype(np.float64) for array in arrays))
    mean = _mean_of_values(tuple(spec.shape for spec in signature))
    result = context.run(mean, values, list(_scaled(np.asarray(weights, np.float64))))
    return [
        np.asarray(value).astype(spec.numpy_dtype)
        for value, spec in zip(result, signature, strict=True)
    ]


def _positional_signature(tensors: Sequence[np.ndarray]) -> Signature:
    specs = tuple(TensorSpec.of(str(i), np.asarray(t)) for i, t in enumerate(tensors))
    for spec in specs:
        if not spec.is_float:
            raise SignatureError(
                located(f"a mean needs real numbers, found {spec.tff_type}", tensor=spec.name)
            )
    return Signature(specs)


def _scaled(weights: np.ndarray) -> np.ndarray:
    """Weights whose sum is between a half and one, without any rounding.

    A power of two drops out of the mean, and the weighted sum then never exceeds the largest
    value: it cannot overflow where the mean itself does not.
    """
    _, exponent = np.frexp(weights.sum())
    scaled: np.ndarray = np.ldexp(weights, -exponent)
    return scaled


@functools.lru_cache(maxsize=64)
def _mean_of_values(shapes: tuple[tuple[int, ...], ...]) -> Any:
    value_type = tff.to_type(tuple(tff.TensorType(np.float64, shape) for shape in shapes))

    def mean(values: Any, weights: Any) -> Any:
        return tff.federated_mean(values, weights)

    return tff.federated_computation(
        mean,
        tff.FederatedType(value_type, tff.CLIENTS),
        tff.FederatedType(np.float64, tff.CLIENTS),
    )


def federated_mean_of_rows(
    tensors: Sequence[MappedTensor],
    weights: np.ndarray,
    num_shards: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> list[np.ndarray]:
    """The weighted mean of the rows of tensors that lie in a file.

    The rows are dealt out to a few TFF clients, the shards. Each maps the file, sums its own rows
    with their weights, and ``tff.federated_sum`` adds the shards' sums, in float64. The mean is
    rounded once to the tensor's dtype. Up to float32 it is within 1 ulp of the largest value at
    its place, whatever the order of the clients: of up to 95 clients each value is widened to
    float64 first; of more, float32 values are summed as such, four at a time. TensorFlow's threads
    take subnormal numbers for 0, so that what is smaller than the smallest normal number (1.2e-38
    in float32), of many clients times their number, may be lost.

    Large models are averaged in several computations, so that memory beyond the result is bounded
    and a result fits into a message.

    Parameters
    ----------
    tensors : sequence of MappedTensor
        Float tensors of the same clients.
    weights : ndarray of shape (num_rows,)
        Each row's weight, not negative, with a positive sum. Rows of weight 0 are not read.
    num_shards : int, optional
        How many TFF clients share the work; by default one for each processor, where each has
        some megabytes to read.
    progress : callable, optional
        Called before each computation with the index of its first tensor; it may raise.

    Returns
    -------
    list of ndarray
        One for each tensor, in its shape and dtype.

    Raises
    ------
    EngineError
        The file cannot be read as described, or the worker failed.
    """
    weights = np.asarray(weights, np.float64)
    rows = np.flatnonzero(weights)
    shards = _shards(_scaled(weights), rows, num_shards or _num_shards(tensors))
    means = [np.empty(tensor.size, DTYPES[tensor.dtype]) for tensor in tensors]
    for pieces in _groups(tensors, _RESULT_BYTES):
        progress(pieces[0].index)
        result = context.run(_mean_of_rows(pieces, len(rows)), shards)
        for piece, value in zip(pieces, result, strict=True):
            means[piece.index][piece.first : piece.last] = value
    return [mean.reshape(tensor.shape) for mean, tensor in zip(means, tensors, strict=True)]


def federated_mean_on_machines(
    tensors: Sequence[MappedTensor],
    weights: np.ndarray,
    addresses: Sequence[WorkerAddress],
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> tuple[list[np.ndarray], Dealt]:
    """The same mean, of rows that the workers of other machines read.

    Each worker is given some rows at a time, maps the file itself, and sends the weighted sum of
    its rows, in float64; they are added here. The same claim holds, because the sums are made of
    the same blocks. The shards of a worker that is lost are run again on the others.

    Parameters
    ----------
    tensors, weights
        As for :func:`federated_mean_of_rows`.
    addresses : sequence of WorkerAddress
        At least one.
    progress : callable, optional
        Called with how many portions are done, of how many, and the worker that did the last; it
        may raise.

    Returns
    -------
    means : list of ndarray
        One for each tensor, in its shape and dtype.
    dealt : Dealt
        Which worker did what.

    Raises
    ------
    EngineError
        A worker does not see the file as this machine does, or reports a failure; or all workers
        are lost. The message names them.
    """
    scaled = _scaled(np.asarray(weights, np.float64))
    rows = np.flatnonzero(scaled)
    groups = list(_groups(tensors, _PORTION_RESULT_BYTES))
    portions = [
        _Portion(pieces, part)
        for pieces in groups
        for part in np.array_split(rows, _num_portions(pieces, len(rows), len(addresses)))
    ]
    sums = [np.zeros(tensor.size) for tensor in tensors]
    done = 0

    def sums_of(connection: Connection, view: WorkerView, portion: _Portion) -> Any:
        count = min(view.processors, _num_shards_of(portion.nbytes))
        shards = _shards(scaled, portion.rows, count)
        return connection.invoke(_sums_of_rows(portion.pieces, len(rows)), (shards,))

    def add(worker: str, portion: _Portion, result: Any) -> None:
        nonlocal done
        for piece, value in zip(portion.pieces, result, strict=True):
            sums[piece.index][piece.first : piece.last] += value
        done += 1
        progress(done, len(portions), worker)

    dealt = deal(addresses, portions, lambda c: view_of(c, tensors), sums_of, add)
    # A value beyond the dtype's range becomes infinite, which the caller counts.
    with np.errstate(over="ignore", invalid="ignore"):
        means = [
            (total / scaled.sum()).astype(DTYPES[tensor.dtype]).reshape(tensor.shape)
            for total, tensor in zip(sums, tensors, strict=True)
        ]
    return means, dealt


@dataclass(frozen=True)
class _Piece:
    """Some columns of a tensor: values ``first`` to ``last`` of every client."""

    index: int
    tensor: MappedTensor
    first: int
    last: int

    @property
    def nbytes(self) -> int:
        return (self.last - self.first) * DTYPES[self.tensor.dtype].itemsize


@dataclass(frozen=True)
class _Portion:
    """Some rows of some pieces: what a worker of another machine is given at a time."""

    pieces: tuple[_Piece, ...]
    rows: np.ndarray

    @property
    def nbytes(self) -> int:
        return len(self.rows) * sum(piece.nbytes for piece in self.pieces)


def _groups(tensors: Sequence[MappedTensor], result_bytes: int) -> Iterator[tuple[_Piece, ...]]:
    """What is averaged in one computation: as much as its result may hold."""
    group: list[_Piece] = []
    for piece in _pieces(tensors, result_bytes):
        if group and sum(p.nbytes for p in group) + piece.nbytes > result_bytes:
            yield tuple(group)
            group = []
        group.append(piece)
    if group:
        yield tuple(group)


def _pieces(tensors: Sequence[MappedTensor], result_bytes: int) -> Iterator[_Piece]:
    for index, tensor in enumerate(tensors):
        length = result_bytes // DTYPES[tensor.dtype].itemsize
        for first in range(0, max(tensor.size, 1), length):
            yield _Piece(index, tensor, first, min(first + length, tensor.size))


def _num_shards(tensors: Sequence[MappedTensor]) -> int:
    nbytes = sum(t.size * t.num_rows * DTYPES[t.dtype].itemsize for t in tensors)
    return min(_num_processors(), _num_shards_of(nbytes))


def _num_shards_of(nbytes: int) -> int:
    """How many shards it is worth to make of so many bytes."""
    return max(1, nbytes // _FEWEST_SHARD_BYTES)


def _num_processors() -> int:
    return len(os.sched_getaffinity(0))


def _num_portions(pieces: tuple[_Piece, ...], num_rows: int, num_workers: int) -> int:
    nbytes = num_rows * sum(piece.nbytes for piece in pieces)
    wanted = min(num_workers * _PORTIONS_A_WORKER, nbytes // _FEWEST_PORTION_BYTES, num_rows)
    return max(1, wanted)


def _shards(weights: np.ndarray, rows: np.ndarray, count: int) -> list[tuple[np.int64, np.ndarray]]:
    """First row and weights of each shard: consecutive rows of those given, none of weight 0.

    A value that is not finite in a row of weight 0 would make the mean NaN: 0 * NaN is NaN.
    """
    longest = -(-len(rows) // count)
    runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    pieces = [run[i : i + longest] for run in runs for i in range(0, len(run), longest)]
    return [(np.int64(piece[0]), weights[piece[0] : piece[-1] + 1]) for piece in pieces]


@functools.lru_cache(maxsize=32)
def _mean_of_rows(pieces: tuple[_Piece, ...], num_clients: int) -> Any:
    """The computation over the shards' first rows and weights; a second call finds it built."""

    def mean_of_sums(sums: Any) -> Any:
        return tuple(
            tf.cast(total / sums[-1], piece.tensor.dtype)
            for total, piece in zip(sums, pieces, strict=False)
        )

    partial = tff.tensorflow.computation(_sums_of_shard(pieces, num_clients), _SHARD_TYPE)
    finish = tff.tensorflow.computation(mean_of_sums, partial.type_signature.result)
    return tff.federated_computation(
        lambda shards: tff.federated_map(
            finish, tff.federated_sum(tff.federated_map(partial, shards))
        ),
        tff.FederatedType(_SHARD_TYPE, tff.CLIENTS),
    )


@functools.lru_cache(maxsize=128)
def _sums_of_rows(pieces: tuple[_Piece, ...], num_clients: int) -> Any:
    """The same without the division: a part of the rows has only a part of the sum."""
    sums_of_shard = _sums_of_shard(pieces, num_clients)
    partial = tff.tensorflow.computation(lambda shard: sums_of_shard(shard)[:-1], _SHARD_TYPE)
    return tff.federated_computation(
        lambda shards: tff.federated_sum(tff.federated_map(partial, shards)),
        tff.FederatedType(_SHARD_TYPE, tff.CLIENTS),
    )


def _sums_of_shard(pieces: tuple[_Piece, ...], num_clients: int) -> Callable[[Any], Any]:
    """From a shard's first row and weights to the weighted sums of its pieces and the weights."""

    def sums_of_shard(shard: Any) -> Any:
        first_row, weights = shard
        sums = tuple(
            weighted_sum(
                rows_of(piece.tensor),
                first_row,
                weights,
                columns=(piece.first, piece.last),
                tiling=tiling_for(piece.tensor.dtype, num_clients),
            )
            for piece in pieces
        )
        return (*sums, tf.reduce_sum(weights))

    return sums_of_shard
