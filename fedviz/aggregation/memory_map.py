"""A round's stacked tensors as TensorFlow sees them: regions of a file that it maps itself.

The values never pass through Python or gRPC. What a TFF worker is sent is a graph that names the
file and the place in it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from fedviz.aggregation.mappable import ALIGNMENT_BYTES, is_mappable
from fedviz.dataset import Round
from fedviz.errors import StorageError, located
from fedviz.signature import TensorSpec

__all__ = ["MappedTensor", "mapped_tensor", "mapped_tensors", "parts_of", "row_parts", "rows_of"]


@dataclass(frozen=True)
class MappedTensor:
    """One tensor of all conforming clients, as a region of a file.

    Parameters
    ----------
    path : bytes
        The file, absolute, as the system spells it.
    file_bytes : int
        Size of the file.
    offset : int
        Byte of the first client's first value.
    num_rows : int
        Number of clients.
    shape : tuple of int
        Shape of one client's value.
    dtype : str
        As in :data:`fedviz.signature.DTYPES`.
    version : (int, int)
        The file's inode and when it was written: another state of it is another tensor.
    """

    path: bytes
    file_bytes: int
    offset: int
    num_rows: int
    shape: tuple[int, ...]
    dtype: str
    version: tuple[int, int]

    @property
    def size(self) -> int:
        """Number of values of one client."""
        size = 1
        for length in self.shape:
            size *= length
        return size


def mapped_tensor(round: Round, spec: TensorSpec) -> MappedTensor | None:
    """Where one tensor of a round lies, if TensorFlow can map it.

    Returns
    -------
    MappedTensor or None
        None where the values are not in one aligned piece. A tensor without values lies nowhere
        and can always be mapped.

    Raises
    ------
    StorageError
        The file is gone, or is not the one that the dataset was opened from.
    """
    round.dataset.check_unchanged()
    if not is_mappable(round, spec):
        return None
    stack, identity = round.stack(spec.name), round.dataset.identity
    return MappedTensor(
        path=os.fsencode(os.path.realpath(stack.path)),
        file_bytes=identity.size,
        offset=stack.offset or 0,
        num_rows=stack.shape[0],
        shape=spec.shape,
        dtype=spec.dtype,
        version=(identity.inode, identity.modified_ns),
    )


def mapped_tensors(round: Round, specs: Sequence[TensorSpec]) -> list[MappedTensor]:
    """Where tensors of a round lie, all of which can be mapped.

    Raises
    ------
    StorageError
        The file is gone or was replaced, or a tensor cannot be mapped.
    """
    tensors = [(spec, mapped_tensor(round, spec)) for spec in specs]
    for spec, tensor in tensors:
        if tensor is None:
            raise StorageError(
                located(
                    "its clients are not in one aligned piece",
                    file=round.dataset.path,
                    round=round.number,
                    tensor=spec.name,
                )
            )
    return [tensor for _, tensor in tensors if tensor is not None]


def row_parts(tensor: MappedTensor) -> list[tuple[int, int]]:
    """First and last row (the last not included) of parts that TensorFlow uses where they lie.

    It copies a slice whose end is not aligned, all of it, in each shard anew. Where such an end can
    be reached by taking in some of what follows in the file, one part is enough; else the last
    few rows are a part of their own, and only they are copied.
    """
    row_bytes = tensor.size * tf.as_dtype(tensor.dtype).size
    if not row_bytes * tensor.num_rows:
        return [(0, tensor.num_rows)]
    period = _aligned_period(row_bytes)
    if tensor.offset + _up(tensor.num_rows, period) * row_bytes <= tensor.file_bytes:
        return [(0, tensor.num_rows)]
    last = tensor.num_rows // period * period
    return [part for part in ((0, last), (last, tensor.num_rows)) if part[0] < part[1]]


def parts_of(tensor: MappedTensor) -> tuple[Any, ...]:
    """The values of each of :func:`row_parts`; call it while a graph is built."""
    return tuple(rows_of(tensor, first, last) for first, last in row_parts(tensor))


def rows_of(tensor: MappedTensor, first: int = 0, last: int | None = None) -> Any:
    """The values of the clients, or of a part of them; call it while a graph is built.

    Returns
    -------
    tf.Tensor of shape (last - first or more, size), in the tensor's dtype
        What follows the rows that were asked for is not theirs.
    """
    dtype = tf.as_dtype(tensor.dtype)
    last = tensor.num_rows if last is None else last
    if tensor.size * tensor.num_rows == 0:
        return tf.zeros([last - first, tensor.size], dtype)
    row_bytes = tensor.size * dtype.size
    begin = tensor.offset + first * row_bytes
    count = _up(last - first, _aligned_period(row_bytes))
    if begin + count * row_bytes > tensor.file_bytes:
        count = last - first
    whole = tf.raw_ops.ImmutableConst(
        dtype=dtype, shape=(tensor.file_bytes // dtype.size,), memory_region_name=tensor.path
    )
    values = tf.slice(
        whole,
        tf.constant([begin // dtype.size], tf.int64),
        tf.constant([count * tensor.size], tf.int64),
    )
    return tf.reshape(values, [count, tensor.size])


def _aligned_period(row_bytes: int) -> int:
    """After how many rows an aligned place comes again."""
    return ALIGNMENT_BYTES // math.gcd(row_bytes, ALIGNMENT_BYTES)


def _up(count: int, period: int) -> int:
    return -(-count // period) * period
