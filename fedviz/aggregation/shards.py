"""How the work of a mean is cut: pieces of tensors, shards of clients, and their weights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fedviz.aggregation.memory_map import MappedTensor
from fedviz.errors import InvalidArgumentError
from fedviz.signature import DTYPES

__all__ = [
    "Piece",
    "checked_weights",
    "groups",
    "local_shards",
    "num_shards_of",
    "scaled",
    "shards",
]

_FEWEST_SHARD_BYTES = 4 << 20


def checked_weights(weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """The weights in float64, if they make a mean.

    Raises
    ------
    InvalidArgumentError
        One is negative or not finite, or all are zero.
    """
    checked = np.asarray(weights, np.float64)
    for row in np.flatnonzero(~(np.isfinite(checked) & (checked >= 0)))[:1]:
        raise InvalidArgumentError(
            f"the weight of client {row} is {checked[row]:g}; expected a number from 0."
        )
    if not checked.any():
        raise InvalidArgumentError("all weights are zero; expected at least one above 0.")
    return checked


def scaled(weights: np.ndarray) -> np.ndarray:
    """Weights whose sum is between a half and one, without any rounding.

    A power of two drops out of the mean, and the weighted sum then never exceeds the largest
    value: it cannot overflow where the mean itself does not.
    """
    _, exponent = np.frexp(weights.sum())
    result: np.ndarray = np.ldexp(weights, -exponent)
    return result


@dataclass(frozen=True)
class Piece:
    """Some columns of a tensor: values ``first`` to ``last`` of every client."""

    index: int
    tensor: MappedTensor
    first: int
    last: int

    @property
    def nbytes(self) -> int:
        """Bytes of one client."""
        return (self.last - self.first) * DTYPES[self.tensor.dtype].itemsize


def groups(tensors: Sequence[MappedTensor], result_bytes: int) -> Iterator[tuple[Piece, ...]]:
    """What is averaged in one computation: as much as its result may hold."""
    group: list[Piece] = []
    for piece in _pieces(tensors, result_bytes):
        if group and sum(p.nbytes for p in group) + piece.nbytes > result_bytes:
            yield tuple(group)
            group = []
        group.append(piece)
    if group:
        yield tuple(group)


def _pieces(tensors: Sequence[MappedTensor], result_bytes: int) -> Iterator[Piece]:
    for index, tensor in enumerate(tensors):
        length = result_bytes // DTYPES[tensor.dtype].itemsize
        for first in range(0, max(tensor.size, 1), length):
            yield Piece(index, tensor, first, min(first + length, tensor.size))


def local_shards(tensors: Sequence[MappedTensor]) -> int:
    """How many shards this machine makes of some tensors."""
    nbytes = sum(t.size * t.num_rows * DTYPES[t.dtype].itemsize for t in tensors)
    return min(_num_processors(), num_shards_of(nbytes))


def num_shards_of(nbytes: int) -> int:
    """How many shards it is worth to make of so many bytes."""
    return max(1, nbytes // _FEWEST_SHARD_BYTES)


def _num_processors() -> int:
    return len(os.sched_getaffinity(0))


def shards(weights: np.ndarray, rows: np.ndarray, count: int) -> list[tuple[np.int64, np.ndarray]]:
    """First row and weights of each shard: consecutive rows of those given, none of weight 0.

    A value that is not finite in a row of weight 0 would make the mean NaN: 0 * NaN is NaN.
    """
    longest = -(-len(rows) // count)
    runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    pieces = [run[i : i + longest] for run in runs for i in range(0, len(run), longest)]
    return [(np.int64(piece[0]), weights[piece[0] : piece[-1] + 1]) for piece in pieces]
