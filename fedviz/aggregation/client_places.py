"""Where in a file clients' tensors lie, and how TensorFlow reads one there."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from fedviz.aggregation.memory_map import MappedTensor, mapped_tensor, mapped_tensors
from fedviz.dataset import Round
from fedviz.signature import TensorSpec

__all__ = ["Places", "Source", "places_of", "tensor_at"]


@dataclass(frozen=True)
class Source:
    """A tensor's file and type; where in the file it lies is said with each client."""

    path: bytes
    file_bytes: int
    version: tuple[int, int]
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, tensor: MappedTensor) -> Source:
        """What a tensor is read from."""
        return cls(tensor.path, tensor.file_bytes, tensor.version, tensor.shape, tensor.dtype)


@dataclass(frozen=True)
class Places:
    """Where the clients' tensors lie, and the server model's (none without one)."""

    clients: tuple[MappedTensor, ...]
    server: tuple[MappedTensor, ...]

    @property
    def sources(self) -> tuple[Source, ...]:
        """Of each of the clients' tensors, then of the server model's."""
        return tuple(Source.of(tensor) for tensor in (*self.clients, *self.server))

    def positions(self, row: int) -> np.ndarray:
        """First value of each tensor of a client, then of the server model's: int64."""
        first = [_first_value(tensor) + row * tensor.size for tensor in self.clients]
        return np.array([*first, *(_first_value(tensor) for tensor in self.server)], np.int64)


def _first_value(tensor: MappedTensor) -> int:
    return tensor.offset // tf.as_dtype(tensor.dtype).size


def places_of(
    round_: Round,
    server: Mapping[str, np.ndarray] | None,
    specs: Sequence[TensorSpec],
    stack: contextlib.ExitStack,
) -> Places:
    """Where a round's tensors lie.

    A server model that cannot be mapped, or is another than the round's own, is copied to a file
    first, which is gone when the stack is closed.
    """
    clients = tuple(mapped_tensors(round_, specs))
    if server is None:
        return Places(clients, ())
    own = server is round_.server
    folder = functools.cache(
        lambda: Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedviz-")))
    )
    model = (
        (_mapped_server_tensor(round_, spec) if own else None)
        or _copied(server[spec.name], spec, folder() / f"server-{index}")
        for index, spec in enumerate(specs)
    )
    return Places(clients, tuple(model))


def _copied(value: np.ndarray, spec: TensorSpec, path: Path) -> MappedTensor:
    content = np.ascontiguousarray(value, spec.numpy_dtype).tobytes()
    path.write_bytes(content)
    status = path.stat()
    version = (status.st_ino, status.st_mtime_ns)
    return MappedTensor(os.fsencode(path), len(content), 0, 1, spec.shape, spec.dtype, version)


def _mapped_server_tensor(round_: Round, spec: TensorSpec) -> MappedTensor | None:
    """Where one tensor of a round's server model lies, if TensorFlow can map it."""
    offset = round_.server_offset(spec.name)
    clients = mapped_tensor(round_, spec)
    if offset is None or clients is None or offset % tf.as_dtype(spec.dtype).size:
        return None
    return MappedTensor(
        clients.path, clients.file_bytes, offset, 1, spec.shape, spec.dtype, clients.version
    )


def tensor_at(source: Source, position: Any) -> Any:
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
