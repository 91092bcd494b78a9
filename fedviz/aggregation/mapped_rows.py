"""A file's rows as a TFF value that the worker keeps from call to call."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from fedviz.aggregation.connection import Executor
from fedviz.aggregation.memory_map import MappedTensor, parts_of

__all__ = ["MappedRows"]


class MappedRows(tff.framework.Ingestable, tff.framework.CardinalityCarrying):  # type: ignore[misc]
    """All values of some tensors, at each TFF client; an argument of a computation.

    To map a file takes as long as half of a small mean. The worker keeps the mapping for the next
    call, for :data:`~fedviz.aggregation.connection.KEPT_SECONDS`. Another state of the file is
    another value: the tensors say when it was written.

    Parameters
    ----------
    tensors : sequence of MappedTensor
    num_clients : int
        TFF clients that have them.
    """

    def __init__(self, tensors: Sequence[MappedTensor], num_clients: int) -> None:
        self._tensors = tuple(tensors)
        self._num_clients = num_clients

    @property
    def type_signature(self) -> Any:
        """On clients, for each tensor a tuple of the parts that lie aligned in the file.

        Their number of rows is left open: TensorFlow's optimiser, which compiles what takes them,
        makes itself an example of each argument, in its whole size where that is known.
        """
        return _mapping(self._tensors).type_signature.result

    @property
    def cardinality(self) -> Mapping[Any, int]:
        """How many TFF clients there are."""
        return {tff.CLIENTS: self._num_clients}

    async def ingest(self, executor: Executor) -> Any:
        """The value in an executor, mapped anew where it is not kept there."""
        return await executor.kept(self._tensors, _mapping(self._tensors))


@functools.lru_cache(maxsize=32)
def _mapping(tensors: tuple[MappedTensor, ...]) -> Any:
    mapped = tff.tensorflow.computation(
        lambda: tuple(tuple(map(_of_any_number, parts_of(tensor))) for tensor in tensors)
    )
    return tff.federated_computation(lambda: tff.federated_eval(mapped, tff.CLIENTS))


def _of_any_number(rows: Any) -> Any:
    """The same rows, as many as there are."""
    return tf.raw_ops.PlaceholderWithDefault(input=rows, shape=[None, rows.shape[1]])
