"""The federated mean on the TFF workers of several machines."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow_federated as tff

from fedviz.aggregation.connection import Connection
from fedviz.aggregation.dealing import Dealt, deal
from fedviz.aggregation.federated_mean import SHARD_TYPE, sums_of_shard_of
from fedviz.aggregation.file_state import WorkerView, view_of
from fedviz.aggregation.machines import WorkerAddress
from fedviz.aggregation.memory_map import MappedTensor, parts_of
from fedviz.aggregation.shards import (
    Piece,
    checked_weights,
    groups,
    num_shards_of,
    scaled,
    shards,
)
from fedviz.signature import DTYPES

__all__ = ["federated_mean_on_machines"]

# A worker of another machine gets its rows in several portions, so that little is lost with it and
# a fast one does more. Each portion's sums come back over the network, two bytes for each of these.
_PORTION_RESULT_BYTES = 32 << 20
_PORTIONS_A_WORKER = 4
_FEWEST_PORTION_BYTES = 16 << 20


def federated_mean_on_machines(
    tensors: Sequence[MappedTensor],
    weights: np.ndarray,
    addresses: Sequence[WorkerAddress],
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> tuple[list[np.ndarray], Dealt]:
    """:func:`~fedviz.aggregation.federated_mean.federated_mean_of_rows` on other machines.

    Each worker is given some rows at a time, maps the file itself, and sends the weighted sum of
    its rows, in float64; they are added here. The same claim holds, because the sums are made of
    the same blocks. The shards of a worker that is lost are run again on the others.

    Parameters
    ----------
    tensors, weights
        As there.
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
    parts = scaled(checked_weights(weights))
    rows = np.flatnonzero(parts)
    portions = [
        _Portion(pieces, part)
        for pieces in groups(tensors, _PORTION_RESULT_BYTES)
        for part in np.array_split(rows, _num_portions(pieces, len(rows), len(addresses)))
    ]
    sums = [np.zeros(tensor.size) for tensor in tensors]
    done = 0

    def sums_of(connection: Connection, view: WorkerView, portion: _Portion) -> Any:
        count = min(view.processors, num_shards_of(portion.nbytes))
        dealt_out = shards(parts, portion.rows, count)
        return connection.invoke(_sums_of_rows(portion.pieces, len(rows)), (dealt_out,))

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
            (total / parts.sum()).astype(DTYPES[tensor.dtype]).reshape(tensor.shape)
            for total, tensor in zip(sums, tensors, strict=True)
        ]
    return means, dealt


@dataclass(frozen=True)
class _Portion:
    """Some rows of some pieces: what a worker of another machine is given at a time."""

    pieces: tuple[Piece, ...]
    rows: np.ndarray

    @property
    def nbytes(self) -> int:
        return len(self.rows) * sum(piece.nbytes for piece in self.pieces)


def _num_portions(pieces: tuple[Piece, ...], num_rows: int, num_workers: int) -> int:
    nbytes = num_rows * sum(piece.nbytes for piece in pieces)
    wanted = min(num_workers * _PORTIONS_A_WORKER, nbytes // _FEWEST_PORTION_BYTES, num_rows)
    return max(1, wanted)


@functools.lru_cache(maxsize=128)
def _sums_of_rows(pieces: tuple[Piece, ...], num_clients: int) -> Any:
    """The same without the division: a part of the rows has only a part of the sum."""
    sums_of_shard = sums_of_shard_of(pieces, num_clients)

    def sums(shard: Any) -> Any:
        rows = {piece.index: parts_of(piece.tensor) for piece in pieces}
        return sums_of_shard(rows, shard)[:-1]

    partial = tff.tensorflow.computation(sums, SHARD_TYPE)
    return tff.federated_computation(
        lambda shards: tff.federated_sum(tff.federated_map(partial, shards)),
        tff.FederatedType(SHARD_TYPE, tff.CLIENTS),
    )
