"""The federated mean as TFF computations.

There are two ways to the same numbers. :func:`federated_mean_in_memory` hands TFF the clients'
values: the reference, for what fits into memory and messages. :func:`federated_mean_of_rows`
hands TFF row numbers and weights, and each TFF client reads its rows from the file itself.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedviz.aggregation import context
from fedviz.aggregation.memory_map import MappedTensor, rows_of
from fedviz.errors import InvalidArgumentError, SignatureError, located
from fedviz.signature import DTYPES, Signature, TensorSpec

__all__ = ["federated_mean_in_memory", "federated_mean_of_rows"]

# A tile of 64 clients by 8,192 values takes 4 MB as float64, so that it stays in the processor's
# cache between the steps that read, widen and sum it. Measured; half or double is no better.
_TILE_CLIENTS = 64
_TILE_VALUES = 8192


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
    tensors: Sequence[MappedTensor], weights: np.ndarray, num_shards: int | None = None
) -> list[np.ndarray]:
    """The weighted mean of the rows of tensors that lie in a file.

    The rows are dealt out to a few TFF clients, the shards. Each maps the file, sums its own rows
    with their weights, and ``tff.federated_sum`` adds the shards' sums. Each value is widened to
    float64 before it is weighted and summed, and the mean is rounded once to the tensor's dtype.
    So up to float32 it is off by half a unit in the last place, whatever the order of the
    clients, and the mean of equal values is that value.

    Parameters
    ----------
    tensors : sequence of MappedTensor
        Float tensors of the same clients.
    weights : ndarray of shape (num_rows,)
        Each row's weight, not negative, with a positive sum. Rows of weight 0 are not read.
    num_shards : int, optional
        How many TFF clients share the work; by default one for each processor.

    Returns
    -------
    list of ndarray
        One for each tensor, in its shape and dtype.

    Raises
    ------
    EngineError
        The file cannot be read as described, or the worker failed.
    """
    if not tensors:
        return []
    shards = _shards(_scaled(np.asarray(weights, np.float64)), num_shards or _num_processors())
    result = context.run(_mean_of_rows(tuple(tensors)), shards)
    return [
        np.asarray(value, DTYPES[tensor.dtype])
        for value, tensor in zip(result, tensors, strict=True)
    ]


def _num_processors() -> int:
    return len(os.sched_getaffinity(0))


def _shards(weights: np.ndarray, count: int) -> list[tuple[np.int64, np.ndarray]]:
    """First row and weights of each shard: consecutive rows, none of weight 0.

    A value that is not finite in a row of weight 0 would make the mean NaN: 0 * NaN is NaN.
    """
    rows = np.flatnonzero(weights)
    longest = -(-len(rows) // count)
    runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    pieces = [run[i : i + longest] for run in runs for i in range(0, len(run), longest)]
    return [(np.int64(piece[0]), weights[piece[0] : piece[-1] + 1]) for piece in pieces]


@functools.lru_cache(maxsize=32)
def _mean_of_rows(tensors: tuple[MappedTensor, ...]) -> Any:
    """The computation over the shards' first rows and weights; a second call finds it built."""

    def sums_of_shard(shard: Any) -> Any:
        first_row, weights = shard
        sums = tuple(_weighted_sum(tensor, first_row, weights) for tensor in tensors)
        return (*sums, tf.reduce_sum(weights))

    def mean_of_sums(sums: Any) -> Any:
        return tuple(
            tf.cast(tf.reshape(total / sums[-1], tensor.shape), tensor.dtype)
            for total, tensor in zip(sums, tensors, strict=False)
        )

    shard_type = tff.to_type((np.int64, tff.TensorType(np.float64, [None])))
    partial = tff.tensorflow.computation(sums_of_shard, shard_type)
    finish = tff.tensorflow.computation(mean_of_sums, partial.type_signature.result)
    return tff.federated_computation(
        lambda shards: tff.federated_map(
            finish, tff.federated_sum(tff.federated_map(partial, shards))
        ),
        tff.FederatedType(shard_type, tff.CLIENTS),
    )


def _weighted_sum(tensor: MappedTensor, first_row: Any, weights: Any) -> Any:
    """Weighted sum of consecutive rows: float64 of shape (size,), tile by tile."""
    rows = rows_of(tensor)
    size = tf.constant(tensor.size, tf.int64)

    def tile_sum(position: Any, sums: Any) -> Any:
        width = tf.minimum(tf.constant(_TILE_VALUES, tf.int64), size - position)
        tile = _tile_sum(rows, first_row, weights, position, width)
        return position + width, sums.write(sums.size(), tile)

    sums = tf.TensorArray(tf.float64, 0, dynamic_size=True, infer_shape=False, element_shape=[None])
    _, sums = tf.while_loop(
        lambda position, _: position < size,
        tile_sum,
        [tf.constant(0, tf.int64), sums],
        parallel_iterations=1,
    )
    if tensor.size == 0:
        return tf.zeros([0], tf.float64)
    return tf.ensure_shape(sums.concat(), [tensor.size])


def _tile_sum(rows: Any, first_row: Any, weights: Any, position: Any, width: Any) -> Any:
    """Weighted sum of some columns of consecutive rows, a block of clients at a time."""
    num_rows = tf.size(weights, out_type=tf.int64)

    def block_sum(done: Any, total: Any) -> Any:
        count = tf.minimum(tf.constant(_TILE_CLIENTS, tf.int64), num_rows - done)
        tile = tf.cast(tf.slice(rows, [first_row + done, position], [count, width]), tf.float64)
        block = tf.matmul(tf.slice(weights, [done], [count])[tf.newaxis, :], tile)[0]
        return done + count, total + block

    _, total = tf.while_loop(
        lambda done, _: done < num_rows,
        block_sum,
        [tf.constant(0, tf.int64), tf.zeros([width], tf.float64)],
        shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])],
        parallel_iterations=1,
    )
    return total
