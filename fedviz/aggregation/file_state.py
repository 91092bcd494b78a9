"""Whether another machine sees the same state of a file: a comparison of samples of its bytes.

TensorFlow has no operation that gives a file's time or its inode. What a worker can be asked for is
what it would compute with: bytes of the file as it maps it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedviz.aggregation.connection import Connection, one_line
from fedviz.aggregation.memory_map import MappedTensor
from fedviz.errors import StorageError, storage_errors

__all__ = ["WorkerView", "view_of"]

# Both ends of the file, where HDF5 keeps its index and the length that it believes in; the first
# values of the tensors; and places all over the file.
_END_BYTES = 4096
_NUM_SAMPLES = 64
_SAMPLE_BYTES = 16
_MOST_TENSORS = 1000
_PROCESSORS = "/sys/devices/system/cpu/cpu[0-9]*"
_MOST_PROCESSORS = 32


@dataclass(frozen=True)
class WorkerView:
    """What a worker of another machine has: ``processors`` is how many, 2 where it hides them."""

    processors: int


@dataclass(frozen=True)
class _File:
    path: bytes
    file_bytes: int
    version: tuple[int, int]


def view_of(connection: Connection, tensors: Iterable[MappedTensor]) -> WorkerView:
    """Ask a worker what it sees; call it in a thread without an event loop.

    Raises
    ------
    StorageError
        It does not see a file of the tensors, or sees another state of it.
    grpc.RpcError, WorkerGoneError
        The worker is gone.
    """
    places: dict[_File, list[int]] = {}
    for tensor in tensors:
        if tensor.size * tensor.num_rows:
            file = _File(tensor.path, tensor.file_bytes, tensor.version)
            places.setdefault(file, []).append(tensor.offset)
    processors = [_compared(connection, file, offsets) for file, offsets in places.items()]
    return WorkerView(min(processors, default=0) or 2)


def _compared(connection: Connection, file: _File, offsets: list[int]) -> int:
    positions = _positions(file.file_bytes, offsets)
    name = os.fsdecode(file.path)
    with storage_errors(name, "read"):
        expected = _bytes_at(name, positions)
    try:
        found, processors, _ = connection.invoke(_samples(file), (positions,))
    except grpc.RpcError as error:
        details = one_line(error.details() or str(error))
        # What else goes wrong is no matter of the file.
        if name not in details and "region" not in details:
            raise
        raise StorageError(
            f"it does not see {name} as this machine does ({details}). Mount the same storage at "
            "the same path there, below the worker's --data-dir"
        ) from error
    if not np.array_equal(found, expected):
        raise StorageError(
            f"it sees another state of {name}: expected {file.file_bytes:,} bytes as this machine "
            "reads them, found other contents. Wait until the storage has the file everywhere, or "
            "mount the same one"
        )
    return min(int(processors), _MOST_PROCESSORS)


def _bytes_at(name: str, positions: np.ndarray) -> np.ndarray:
    """Bytes of a file: uint8, and fewer than positions where the file has become shorter."""
    runs = np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1)
    with Path(name).open("rb", buffering=0) as file:
        pieces = [os.pread(file.fileno(), len(run), int(run[0])) for run in runs]
    return np.frombuffer(b"".join(pieces), np.uint8)


def _positions(file_bytes: int, offsets: list[int]) -> np.ndarray:
    """Bytes to compare, int64."""
    spread = np.linspace(0, file_bytes, _NUM_SAMPLES).astype(np.int64)
    starts = np.concatenate([spread, np.array(offsets[:_MOST_TENSORS], np.int64)])
    samples = (starts[:, np.newaxis] + np.arange(_SAMPLE_BYTES)).ravel()
    head, tail = np.arange(_END_BYTES), np.arange(file_bytes - _END_BYTES, file_bytes)
    positions = np.concatenate([head, samples, tail])
    return positions[(positions >= 0) & (positions < file_bytes)]


@functools.lru_cache(maxsize=32)
def _samples(file: _File) -> Any:
    def samples(positions: Any) -> Any:
        whole = tf.raw_ops.ImmutableConst(
            dtype=tf.uint8, shape=(file.file_bytes,), memory_region_name=file.path
        )
        processors = tf.size(tf.io.matching_files(_PROCESSORS))
        # The version makes it another computation for another state of the file.
        return tf.gather(whole, positions), processors, tf.constant(file.version, tf.int64)

    return tff.tensorflow.computation(samples, tff.TensorType(np.int64, [None]))
