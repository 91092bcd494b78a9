"""What only the values tell: what is no number, stands in another's place or should not have moved.

All of it is one pass over a round's weights, block by block.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import FileIO

import numpy as np

from fedviz.analysis.blocks import client_blocks
from fedviz.analysis.stored import cut_short
from fedviz.dataset import FileIdentity, Round
from fedviz.signature import NonFiniteCount, TensorSpec, ValueEvidence
from fedviz.signature.names import is_batch_statistic

__all__ = ["Finding", "count_nonfinite", "findings_in_round"]

SAMPLED_VALUES = 1024
"""Values of a tensor that are compared with other tensors of its shape, evenly spread."""

FAR_NEARER = 4.0
"""How many times nearer a tensor must be to another's server value than to its own."""

FEWEST_VALUES = 8
"""Smaller tensors come near each other by chance."""

# Small enough for the processor's cache.
_CHUNK_VALUES = 2**18

_Kin = tuple[tuple[int, ...], str]


@dataclass(frozen=True)
class Finding:
    """What the values of one client's tensor show; the tensor as the client names it."""

    client: str
    spec: TensorSpec
    evidence: ValueEvidence


def count_nonfinite(values: np.ndarray) -> NonFiniteCount | None:
    """The NaN and infinite values of one tensor, counted and located; None where there are none.

    Parameters
    ----------
    values : ndarray of any shape, float
    """
    finite = np.isfinite(values)
    if finite.all():
        return None
    num_nan = int(np.isnan(values).sum())
    num_positive = int((values == np.inf).sum())
    first = np.unravel_index(int(np.argmin(finite)), values.shape)
    return NonFiniteCount(
        num_nan=num_nan,
        num_positive_infinite=num_positive,
        num_negative_infinite=int((~finite).sum()) - num_nan - num_positive,
        size=values.size,
        first_index=tuple(int(i) for i in first),
    )


def findings_in_round(round_: Round, *, against_server: bool = True) -> Iterator[Finding]:
    """Everything that the values of a round's clients show.

    Parameters
    ----------
    round_ : Round
    against_server : bool, default True
        Also compare with the server model, where the round has one: which tensors are in each
        other's place, and which moved that are not trainable. Without it only values that are no
        numbers are looked for.

    Yields
    ------
    Finding
    """
    compared = against_server and round_.server is not None
    server = _ServerModel(round_) if compared else None
    for record in round_.divergent:
        weights = round_.client(record)
        for spec in filter(_is_float, weights.signature):
            values = weights[spec.name]
            yield from _nonfinite([record.id], spec, [0], values[np.newaxis])
            if server is not None:
                yield from server.moved([record.id], spec, values.reshape(1, spec.size))
    clients = [record.id for record in round_.conforming]
    for spec in filter(_is_float, round_.dataset.signature):
        yield from _nonfinite_in_stack(round_, spec)
        if server is not None and server.is_compared(spec):
            for rows, block in client_blocks(round_, spec.name):
                yield from server.moved(clients[rows], spec, block)
    if server is not None:
        yield from server.permuted()


def _is_float(spec: TensorSpec) -> bool:
    return spec.is_float


def _nonfinite(
    clients: list[str], spec: TensorSpec, rows: Iterable[int], values: np.ndarray
) -> Iterator[Finding]:
    for row in rows:
        count = count_nonfinite(values[row])
        if count is not None:
            yield Finding(clients[row], spec, ValueEvidence(nonfinite=count))


def _nonfinite_in_stack(round_: Round, spec: TensorSpec) -> Iterator[Finding]:
    for row in _rows_with_nonfinite(round_, spec):
        client = [round_.conforming[row].id]
        values = round_.read_stack(spec.name, slice(row, row + 1))
        yield from _nonfinite(client, spec, [0], values)


def _rows_with_nonfinite(round_: Round, spec: TensorSpec) -> list[int]:
    """Rows of a stacked tensor that hold NaN or an infinite value."""
    found: set[int] = set()
    for start, chunk in _chunks(round_, spec):
        finite = np.isfinite(chunk)
        if not finite.all():
            found.update(((start + np.flatnonzero(~finite)) // spec.size).tolist())
    return sorted(found)


def _chunks(round_: Round, spec: TensorSpec) -> Iterator[tuple[int, np.ndarray]]:
    """The values of a stacked tensor in pieces: the place of the first, and a flat array.

    A piece is read into the same small buffer as the one before it, so that it is looked at while
    it is in the processor's cache; that is as fast as NumPy is over a memory map, and a file that
    is cut short meanwhile does not end the process.
    """
    stack = round_.stack(spec.name)
    num_values = int(np.prod(stack.shape, dtype="i8"))
    if stack.offset is None or not num_values:
        yield from _blocks_as_chunks(round_, spec)
        return
    with stack.path.open("rb", buffering=0) as file:
        if not _is_state_of(file, round_.dataset.identity):
            yield from _blocks_as_chunks(round_, spec)
            return
        file.seek(stack.offset)
        buffer = np.empty(min(_CHUNK_VALUES, num_values), stack.dtype)
        for start in range(0, num_values, _CHUNK_VALUES):
            chunk = buffer[: num_values - start]
            if file.readinto(chunk.view(np.uint8).data) < chunk.nbytes:
                raise cut_short(round_, spec.name)
            yield start, chunk


def _is_state_of(file: FileIO, identity: FileIdentity) -> bool:
    """Whether an open file is the one that the dataset was opened from, and unchanged."""
    status = os.fstat(file.fileno())
    found = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found == (identity.inode, identity.size, identity.modified_ns)


def _blocks_as_chunks(round_: Round, spec: TensorSpec) -> Iterator[tuple[int, np.ndarray]]:
    for rows, block in client_blocks(round_, spec.name):
        yield rows.start * spec.size, block.reshape(-1)


@dataclass(frozen=True)
class _Nearest:
    """The tensor whose server value is the nearest, and how many times nearer than the own."""

    name: str
    times_nearer: float


class _ServerModel:
    """A round's server model, and which clients' tensors are not where it has them.

    Tensors of one shape and dtype are kin: one of them could stand in another's place.
    """

    def __init__(self, round_: Round) -> None:
        assert round_.server is not None
        self._weights = round_.server
        self._signature = round_.dataset.signature
        self._misplaced: dict[str, dict[str, _Nearest]] = {}
        self._samples: dict[_Kin, np.ndarray] = {}
        self._names: dict[_Kin, list[str]] = {}
        for spec in self._signature:
            if spec.is_float and spec.size >= FEWEST_VALUES:
                self._names.setdefault((spec.shape, spec.dtype), []).append(spec.name)

    def is_compared(self, spec: TensorSpec) -> bool:
        """Whether a tensor is the server's in name and type, and could be out of place or move."""
        if spec.name not in self._signature:
            return False
        own = self._signature[spec.name]
        kin = (own.shape, own.dtype)
        if kin != (spec.shape, spec.dtype):
            return False
        return self._is_frozen(own.name) or len(self._names.get(kin, [])) > 1

    def _is_frozen(self, name: str) -> bool:
        return self._signature[name].trainable is False and not is_batch_statistic(name)

    def moved(self, clients: list[str], spec: TensorSpec, rows: np.ndarray) -> Iterator[Finding]:
        """Frozen tensors that are not what the server sent; those out of place are remembered.

        Parameters
        ----------
        clients : list of str
            Whose the rows are.
        spec : TensorSpec
            The tensor; one that is not compared moves nothing.
        rows : ndarray of shape (clients, size)
        """
        if not self.is_compared(spec):
            return
        for row, nearest in self._nearest_elsewhere(spec, rows):
            self._misplaced.setdefault(clients[row], {})[spec.name] = nearest
        if self._is_frozen(spec.name):
            server = self._weights[spec.name].astype("f8").reshape(-1)
            with np.errstate(invalid="ignore", over="ignore"):
                distances = np.linalg.norm(rows.astype("f8") - server, axis=1)
            for row in np.flatnonzero(distances > 0):
                evidence = ValueEvidence(distance=float(distances[row]))
                yield Finding(clients[row], self._signature[spec.name], evidence)

    def permuted(self) -> Iterator[Finding]:
        """The tensors that stand in each other's place, of all clients seen so far."""
        for client, nearest_of in self._misplaced.items():
            for name, nearest in _permutation(nearest_of).items():
                evidence = ValueEvidence(nearest=nearest.name, times_nearer=nearest.times_nearer)
                yield Finding(client, self._signature[name], evidence)

    def _nearest_elsewhere(
        self, spec: TensorSpec, rows: np.ndarray
    ) -> Iterator[tuple[int, _Nearest]]:
        """Rows that are far nearer to another tensor's server value than to their own's."""
        names = self._names.get((spec.shape, spec.dtype), [])
        if len(names) < 2:
            return
        samples = self._sample_of((spec.shape, spec.dtype))
        own = samples[names.index(spec.name)]
        with np.errstate(invalid="ignore", over="ignore"):
            values = rows[:, _sampled_cells(spec.size)].astype("f8")
            to_own = np.linalg.norm(values - own, axis=1)
            # Nobody is nearer to a tensor that has the very values of its own, as biases that
            # begin at zero have.
            apart = np.linalg.norm(samples - own, axis=1)
            others = np.flatnonzero(apart != 0)
            if not others.size:
                return
            # Who is FAR_NEARER to another is, by the triangle inequality, at least this far from
            # its own: the many who are not need no comparison with every other tensor.
            suspects = to_own >= apart[others].min() * FAR_NEARER / (FAR_NEARER + 1)
            for row in np.flatnonzero(suspects & (to_own > 0)):
                to_others = np.linalg.norm(samples[others] - values[row], axis=1)
                best = int(np.argmin(to_others))
                if to_others[best] * FAR_NEARER <= to_own[row]:
                    times = to_own[row] / to_others[best] if to_others[best] else np.inf
                    yield int(row), _Nearest(names[others[best]], float(times))

    def _sample_of(self, kin: _Kin) -> np.ndarray:
        """The sampled server values of all tensors of a type, one a row."""
        if kin not in self._samples:
            cells = _sampled_cells(math.prod(kin[0]))
            tensors = [self._weights[name].reshape(-1) for name in self._names[kin]]
            self._samples[kin] = np.stack([values[cells].astype("f8") for values in tensors])
        return self._samples[kin]


def _sampled_cells(size: int) -> np.ndarray:
    return np.linspace(0, size - 1, min(size, SAMPLED_VALUES)).astype("i8")


def _permutation(nearest_of: dict[str, _Nearest]) -> dict[str, _Nearest]:
    """Those that trade places among themselves: a copy of another tensor is no permutation."""
    left = dict(nearest_of)
    while True:
        wanted = {nearest.name for nearest in left.values()}
        kept = {n: near for n, near in left.items() if near.name in left and n in wanted}
        if len(kept) == len(left):
            return left
        left = kept
