"""The federated mean as TFF computations.

There are two ways to the same numbers. :func:`federated_mean_in_memory` hands TFF the clients'
values: the reference, for what fits into memory and messages. :func:`federated_mean_of_rows`
hands TFF row numbers and weights, and each TFF client reads its rows from the file itself.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedviz.aggregation import context
from fedviz.aggregation.mapped_rows import MappedRows
from fedviz.aggregation.memory_map import MappedTensor, row_parts
from fedviz.aggregation.shards import (
    Piece,
    checked_weights,
    groups,
    local_shards,
    scaled,
    shards,
)
from fedviz.aggregation.weighted_sum import tiling_for, weighted_sum
from fedviz.errors import InvalidArgumentError, SignatureError, located
from fedviz.signature import DTYPES, Signature, TensorSpec

__all__ = ["SHARD_TYPE", "federated_mean_in_memory", "federated_mean_of_rows", "sums_of_shard_of"]

# A result of this size is small beside what a mean may take of memory. While one is handed over
# the next is computed: 10 clients of 10 M values took half as long so.
_RESULT_BYTES, _AT_ONCE = 16 << 20, 2

SHARD_TYPE = tff.to_type((np.int64, tff.TensorType(np.float64, [None])))


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
        No clients, another number of weights than of clients, a weight that is negative or not
        finite, or only weights of zero.
    EngineError
        TFF or its worker failed.
    """
    if not len(client_weights) or len(client_weights) != len(weights):
        raise InvalidArgumentError(
            f"expected one weight for each of at least one client, found {len(client_weights)} "
            f"clients and {len(weights)} weights."
        )
    factors = checked_weights(weights)
    signature = _positional_signature(client_weights[0])
    values = []
    for i, tensors in enumerate(client_weights):
        try:
            arrays = signature.arrange(tensors)
        except SignatureError as error:
            raise SignatureError(f"client {i}, {error}") from error
        values.append(tuple(array.astype(np.float64) for array in arrays))
    mean = _mean_of_values(tuple(spec.shape for spec in signature))
    result = context.run(mean, values, list(scaled(factors)))
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
    with their weights, and ``tff.federated_aggregate`` adds their sums, in float64. The mean is
    rounded once to the tensor's dtype. Up to float32 it is within 1 ulp of the largest value at
    its place, whatever the order of the clients: of up to 95 clients each value is widened to
    float64 first; of more, float32 values are summed as such, four or sixteen at a time.
    TensorFlow's threads take subnormal numbers for 0, so that what is smaller than the smallest
    normal number (1.2e-38 in float32), of many clients times their number, may be lost.

    Large models are averaged in several computations, two at a time, so that memory beyond the
    result is bounded and a result fits into a message.

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
    InvalidArgumentError
        A weight is negative or not finite, or all are zero.
    EngineError
        The file cannot be read as described, or the worker failed.
    """
    weights = checked_weights(weights)
    rows = np.flatnonzero(weights)
    dealt = shards(scaled(weights), rows, num_shards or local_shards(tensors))
    mapped = MappedRows(tensors, len(dealt))
    means = [np.empty(tensor.size, DTYPES[tensor.dtype]) for tensor in tensors]

    def compute(pieces: tuple[Piece, ...]) -> None:
        mean = _mean_of_rows(pieces, mapped.type_signature, len(rows))
        result = context.run(mean, mapped, dealt)
        for piece, value in zip(pieces, result, strict=True):
            means[piece.index][piece.first : piece.last] = value

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running: deque[Future[None]] = deque()
        for pieces in groups(tensors, _RESULT_BYTES):
            if len(running) == _AT_ONCE:
                running.popleft().result()
            progress(pieces[0].index)
            running.append(pool.submit(compute, pieces))
        for future in running:
            future.result()
    return [mean.reshape(tensor.shape) for mean, tensor in zip(means, tensors, strict=True)]


@functools.lru_cache(maxsize=32)
def _mean_of_rows(pieces: tuple[Piece, ...], rows_type: Any, num_clients: int) -> Any:
    """The computation over mapped rows and shards; a second call finds it built."""
    sums_of_shard = sums_of_shard_of(pieces, num_clients)
    partial = tff.tensorflow.computation(sums_of_shard, (rows_type.member, SHARD_TYPE))
    # tff.federated_sum begins with zeros in the size of the model, which are copied several times
    # and then added to: of 0.8 M values that took 11 ms. Here a sum begins with no values.
    sums_type = tff.to_type((*[tff.TensorType(np.float64, [None]) for _ in pieces], np.float64))

    def no_sums() -> Any:
        return (*(_of_any_length(tf.zeros([0], tf.float64)) for _ in pieces), np.float64(0))

    def added(sums: Any, others: Any) -> Any:
        pairs = zip(sums[:-1], others[:-1], strict=True)
        return (*(_sum_of_sums(a, b) for a, b in pairs), sums[-1] + others[-1])

    def mean_of_sums(sums: Any) -> Any:
        return tuple(
            tf.cast(
                tf.ensure_shape(total, [piece.last - piece.first]) / sums[-1], piece.tensor.dtype
            )
            for total, piece in zip(sums, pieces, strict=False)
        )

    zero = tff.tensorflow.computation(no_sums)
    accumulate = tff.tensorflow.computation(added, sums_type, partial.type_signature.result)
    merge = tff.tensorflow.computation(added, sums_type, sums_type)
    report = tff.tensorflow.computation(mean_of_sums, sums_type)
    return tff.federated_computation(
        lambda rows, shards: tff.federated_aggregate(
            tff.federated_map(partial, (rows, shards)), zero(), accumulate, merge, report
        ),
        rows_type,
        tff.FederatedType(SHARD_TYPE, tff.CLIENTS),
    )


def _sum_of_sums(sums: Any, others: Any) -> Any:
    """Their sum, where the first may have no values yet."""
    total = tf.cond(tf.equal(tf.size(sums), 0), lambda: others, lambda: sums + others)
    return _of_any_length(total)


def _of_any_length(values: Any) -> Any:
    """Values as TFF's type for them says: of a length that it does not know."""
    return tf.raw_ops.PlaceholderWithDefault(input=values, shape=[None])


def sums_of_shard_of(pieces: tuple[Piece, ...], num_clients: int) -> Callable[[Any, Any], Any]:
    """From mapped rows and a shard to the weighted sums of its pieces and of its weights.

    The rows are each tensor's :func:`~fedviz.aggregation.memory_map.parts_of`, by its index; the
    shard is its first row and its weights.
    """

    def sums_of_shard(rows: Any, shard: Any) -> Any:
        first_row, weights = shard
        sums = tuple(
            _sum_of_piece(piece, rows[piece.index], first_row, weights, num_clients)
            for piece in pieces
        )
        return (*sums, tf.reduce_sum(weights))

    return sums_of_shard


def _sum_of_piece(piece: Piece, parts: Any, first_row: Any, weights: Any, num_clients: int) -> Any:
    """The weighted sum of a shard's rows, which may lie in several parts of the tensor."""
    tiling = tiling_for(piece.tensor.dtype, num_clients)
    num_rows = tf.size(weights, out_type=tf.int64)
    sums = []
    for (first, last), rows in zip(row_parts(piece.tensor), parts, strict=True):
        begin = tf.clip_by_value(first - first_row, 0, num_rows)
        end = tf.clip_by_value(last - first_row, 0, num_rows)
        start = tf.maximum(first_row - first, 0)
        columns = (piece.first, piece.last)
        sums.append(weighted_sum(rows, start, weights[begin:end], columns, tiling))
    return tf.add_n(sums)
