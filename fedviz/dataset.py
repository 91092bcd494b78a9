"""Federated weight datasets: :class:`WeightDataset` reads one, :class:`WeightDatasetWriter` writes.

Reading is lazy: opening reads the index, a tensor is read when it is asked for. Writing streams
client by client and is atomic: a reader sees the old file or the new one, never a half.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from fedviz import hdf5_format as layout
from fedviz.errors import StorageError, UnknownNameError, located, storage_errors
from fedviz.records import ClientRecord, FaultKind, InjectedFault, Metric
from fedviz.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = [
    "Aggregate",
    "ClientWeights",
    "FileIdentity",
    "Round",
    "StackedTensor",
    "WeightDataset",
    "WeightMap",
    "opened_dataset",
]


@dataclass(frozen=True)
class FileIdentity:
    """What tells one state of a file from another: the key of every cache."""

    path: str
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        """The identity of the file as it is now."""
        status = path.stat()
        return cls(str(path), status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class StackedTensor:
    """Where one tensor of all conforming clients lies, for those who map it into memory.

    ``offset`` is the byte in the file at which the first client's values begin, a multiple of
    4,096; None where the values are not one contiguous block. ``shape`` is (clients, …).
    """

    path: Path
    offset: int | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def contiguous(self) -> bool:
        """Whether all values lie in one piece."""
        return self.offset is not None


class WeightMap(Mapping[str, np.ndarray]):
    """Weights by tensor name, each read from the file when it is asked for.

    ``owner`` is the round that they belong to.
    """

    def __init__(self, owner: Round, group: h5py.Group, signature: Signature) -> None:
        self.owner = owner
        self._group = group
        self.signature = signature

    def __iter__(self) -> Iterator[str]:
        return iter(self.signature.names)

    def __len__(self) -> int:
        return len(self.signature)

    def __contains__(self, name: object) -> bool:
        return name in self.signature

    def __getitem__(self, name: str) -> np.ndarray:
        spec = self.signature[name]
        with self.owner.damage_reported(f"tensor {name} of {self._describe()}"):
            return self._read(spec, layout.tensor_key(self.signature.index(name)))

    def window(self, name: str, region: Sequence[slice]) -> np.ndarray:
        """A part of a tensor, read without the rest of it.

        Parameters
        ----------
        name : str
            Tensor.
        region : sequence of slice
            One for each axis of the tensor, without a step.

        Returns
        -------
        ndarray in the tensor's own dtype
        """
        spec = self.signature[name]
        with self.owner.damage_reported(f"tensor {name} of {self._describe()}"):
            return self._read_window(spec, layout.tensor_key(self.signature.index(name)), region)

    def _read(self, spec: TensorSpec, key: str) -> np.ndarray:
        dataset = layout.checked_tensor(self._group, key, spec.shape, spec.numpy_dtype)
        return layout.read_rows(dataset, spec.numpy_dtype, None)

    def _read_window(self, spec: TensorSpec, key: str, region: Sequence[slice]) -> np.ndarray:
        dataset = layout.checked_tensor(self._group, key, spec.shape, spec.numpy_dtype)
        return layout.read_region(dataset, spec.numpy_dtype, region)

    def _describe(self) -> str:
        return self._group.name.removeprefix("/rounds/")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._describe()}, {self.signature})"


class ClientWeights(WeightMap):
    """One client's weights in one round."""

    def __init__(
        self, owner: Round, group: h5py.Group, signature: Signature, record: ClientRecord
    ) -> None:
        super().__init__(owner, group, signature)
        self.record = record

    def _read(self, spec: TensorSpec, key: str) -> np.ndarray:
        if self.record.row is None:
            return super()._read(spec, key)
        row = self.record.row
        return self.owner.read_stack(spec.name, slice(row, row + 1))[0]

    def _read_window(self, spec: TensorSpec, key: str, region: Sequence[slice]) -> np.ndarray:
        if self.record.row is None:
            return super()._read_window(spec, key, region)
        row = self.record.row
        return self.owner.read_stack_window(spec.name, slice(row, row + 1), region)[0]

    def _describe(self) -> str:
        return f"client {self.record.id}"


class Aggregate(WeightMap):
    """What an aggregator made of a round's clients."""

    def __init__(self, owner: Round, group: h5py.Group, signature: Signature, name: str) -> None:
        super().__init__(owner, group, signature)
        self.name = name

    @property
    def aggregator(self) -> str:
        """The rule that made it."""
        return self._attribute("aggregator")

    @property
    def weighting(self) -> str:
        """``num_examples`` or ``uniform``."""
        return self._attribute("weighting")

    def _attribute(self, name: str) -> str:
        with self.owner.damage_reported(f"the {name} of {self._describe()}"):
            return layout.read_text_attribute(self._group, name) or ""

    @functools.cached_property
    def parameters(self) -> dict[str, Any]:
        """The aggregator's parameters."""
        return self._json("parameters")

    @functools.cached_property
    def measurements(self) -> dict[str, Any]:
        """What was measured while it was made."""
        return self._json("measurements")

    def _json(self, name: str) -> dict[str, Any]:
        with self.owner.damage_reported(f"the {name} of {self._describe()}"):
            return layout.read_json(self._group, name)

    def _describe(self) -> str:
        return f"aggregate {self.name}"


class _Clients(Mapping[str, ClientWeights]):
    def __init__(self, owner: Round) -> None:
        self._owner = owner
        self._records = {record.id: record for record in owner.records}

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, client: object) -> bool:
        return client in self._records

    def __getitem__(self, client: str) -> ClientWeights:
        if client not in self._records:
            known = ", ".join(list(self._records)[:12]) + (" …" if len(self) > 12 else "")
            raise UnknownNameError(
                located(
                    f"there is no client {client}; there are {known}",
                    file=self._owner.dataset.path,
                    round=self._owner.number,
                )
            )
        return self._owner.client(self._records[client])


class Round:
    """One round: the server model it starts from, the clients' weights, the aggregates."""

    def __init__(self, dataset: WeightDataset, group: h5py.Group, number: int) -> None:
        self.dataset = dataset
        self.number = number
        self._group = group
        # Of divergent clients, by position: a page asks for each of them several times.
        self._own_signatures: dict[int, Signature] = {}
        # An average asks for each several times, and a header takes 0.1 ms to check.
        self._stacks: dict[str, StackedTensor] = {}

    def damage_reported(self, what: str) -> Any:
        """Context in which a failure to read is reported with this round's place."""
        return layout.damage_reported(self.dataset.path, f"round {self.number}, {what}")

    @functools.cached_property
    def records(self) -> tuple[ClientRecord, ...]:
        """The clients as the round's table lists them, in order."""
        with self.damage_reported("the table of clients"):
            rows = layout.read_table(self._group, "clients")
            return _checked_records([_client_record(row) for row in rows])

    @functools.cached_property
    def conforming(self) -> tuple[ClientRecord, ...]:
        """Clients whose signature is the dataset's, in the order of their rows."""
        rows = [record for record in self.records if record.row is not None]
        return tuple(sorted(rows, key=lambda record: record.row or 0))

    @functools.cached_property
    def divergent(self) -> tuple[ClientRecord, ...]:
        """Clients with another signature."""
        return tuple(record for record in self.records if record.row is None)

    @functools.cached_property
    def clients(self) -> Mapping[str, ClientWeights]:
        """The clients' weights by client id, in the table's order."""
        return _Clients(self)

    def client(self, record: ClientRecord) -> ClientWeights:
        """The weights of one listed client."""
        with self.damage_reported(f"client {record.id}"):
            if record.conforming:
                return ClientWeights(self, self._group, self.dataset.signature, record)
            position = self._positions[record]
            group = layout.member(self._divergent_group, layout.round_key(position), h5py.Group)
            if position not in self._own_signatures:
                self._own_signatures[position] = layout.read_signature(group)
            return ClientWeights(self, group, self._own_signatures[position], record)

    @functools.cached_property
    def _positions(self) -> dict[ClientRecord, int]:
        return {record: position for position, record in enumerate(self.records)}

    @functools.cached_property
    def _divergent_group(self) -> h5py.Group:
        return layout.member(self._group, "divergent", h5py.Group)

    @functools.cached_property
    def _stacks_group(self) -> h5py.Group:
        return layout.member(self._group, "weights", h5py.Group)

    @functools.cached_property
    def server(self) -> WeightMap | None:
        """The server model before the round; None where it is not known."""
        if not layout.has_member(self._group, "server"):
            return None
        with self.damage_reported("the server model"):
            group = layout.member(self._group, "server", h5py.Group)
            return WeightMap(self, group, self.dataset.signature)

    def server_offset(self, name: str) -> int | None:
        """Byte at which a tensor of the server model begins; None where it is not in one piece."""
        with self.damage_reported("the server model"):
            spec = self.dataset.signature[name]
            key = layout.tensor_key(self.dataset.signature.index(name))
            group = layout.member(self._group, "server", h5py.Group)
            dataset = layout.checked_tensor(group, key, spec.shape, spec.numpy_dtype)
            return layout.storage_offset(dataset)

    @functools.cached_property
    def aggregates(self) -> Mapping[str, Aggregate]:
        """The aggregates by name, the oldest first."""
        if not layout.has_member(self._group, "aggregates"):
            return {}
        with self.damage_reported("the aggregates"):
            parent = layout.member(self._group, "aggregates", h5py.Group)
            groups = {name: layout.member(parent, name, h5py.Group) for name in parent}
            ordered = sorted(groups.items(), key=lambda item: int(item[1].attrs["position"]))
            return {n: Aggregate(self, g, self.dataset.signature, n) for n, g in ordered}

    @functools.cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """Loss and accuracy on held-out data, where they were measured."""
        if not layout.has_member(self._group, "metrics"):
            return ()
        with self.damage_reported("the metrics"):
            return tuple(Metric(**row) for row in layout.read_table(self._group, "metrics"))

    @functools.cached_property
    def label_counts(self) -> np.ndarray | None:
        """Examples of each label that each client holds: int64 of shape (clients, classes)."""
        if not layout.has_member(self._group, "label_counts"):
            return None
        with self.damage_reported("the label counts"):
            dataset = layout.member(self._group, "label_counts", h5py.Dataset)
            shape = (len(self.records), dataset.shape[-1])
            layout.checked_tensor(self._group, "label_counts", shape, np.dtype("i8"))
            return np.asarray(dataset[()])

    def metric(self, role: str, name: str, subject: str = "") -> float | None:
        """One measured number; None where it was not measured."""
        wanted = (role, subject, name)
        for metric in self.metrics:
            if (metric.role, metric.subject, metric.name) == wanted:
                return metric.value
        return None

    def stack(self, name: str) -> StackedTensor:
        """Where a tensor of all conforming clients lies in the file."""
        if name not in self._stacks:
            dataset, spec = self._stacked(name)
            self._stacks[name] = StackedTensor(
                self.dataset.path, layout.storage_offset(dataset), dataset.shape, spec.numpy_dtype
            )
        return self._stacks[name]

    def read_stack(self, name: str, rows: slice | None = None) -> np.ndarray:
        """A tensor of some conforming clients.

        Parameters
        ----------
        name : str
            Tensor.
        rows : slice, optional
            Which rows (``ClientRecord.row``), without a step; all of them by default.

        Returns
        -------
        ndarray of shape (rows, …), in the tensor's own shape and dtype
        """
        dataset, spec = self._stacked(name)
        first, last, _ = (rows or slice(None)).indices(dataset.shape[0])
        with self.damage_reported(f"tensor {name}"):
            return layout.read_rows(dataset, spec.numpy_dtype, (first, max(first, last)))

    def read_stack_window(self, name: str, rows: slice, region: Sequence[slice]) -> np.ndarray:
        """A part of a tensor of some conforming clients, read without the rest of it.

        Parameters
        ----------
        name : str
            Tensor.
        rows : slice
            Which rows (``ClientRecord.row``), without a step.
        region : sequence of slice
            One for each axis of the tensor, without a step.

        Returns
        -------
        ndarray of shape (rows, …), in the tensor's own dtype
        """
        dataset, spec = self._stacked(name)
        with self.damage_reported(f"tensor {name}"):
            return layout.read_region(dataset, spec.numpy_dtype, (rows, *region))

    def _stacked(self, name: str) -> tuple[h5py.h5d.DatasetID, TensorSpec]:
        spec = self.dataset.signature[name]
        with self.damage_reported(f"tensor {name}"):
            key = layout.tensor_key(self.dataset.signature.index(name))
            shape = (len(self.conforming), *spec.shape)
            return layout.checked_tensor(self._stacks_group, key, shape, spec.numpy_dtype), spec

    def to_tf_dataset(self, clients: Sequence[str] | None = None) -> tf.data.Dataset:
        """The round as a ``tf.data.Dataset``: one element is one client's structured weights.

        See :func:`fedviz.aggregation.tf_dataset.to_tf_dataset`. TensorFlow is imported by this
        call, and only by it.
        """
        from fedviz.aggregation.tf_dataset import to_tf_dataset

        return to_tf_dataset(self, clients)

    def __repr__(self) -> str:
        return f"Round({self.number}, {len(self.records)} clients)"


def _checked_records(records: Sequence[ClientRecord]) -> tuple[ClientRecord, ...]:
    """The records, if every client has one id and one row of its own."""
    ids = {record.id for record in records}
    rows = sorted(record.row for record in records if record.row is not None)
    if len(ids) < len(records):
        raise ValueError("two clients have the same id")
    if rows != list(range(len(rows))):
        raise ValueError(f"the clients' rows are {rows[:12]}, not 0, 1 and so on")
    return tuple(records)


def _client_record(row: Mapping[str, Any]) -> ClientRecord:
    examples = int(row["num_examples"])
    return ClientRecord(
        id=row["id"],
        num_examples=None if examples < 0 else examples,
        digest=row["digest"],
        row=int(row["row"]) if row["conforming"] else None,
    )


class WeightDataset:
    """A fedviz file, opened for reading.

    Raises
    ------
    StorageError, DatasetFormatError, NewerFormatError
        The file cannot be read, is not ours, is damaged, or is newer than this program.

    Examples
    --------
    >>> with WeightDataset.open("clients.h5") as ds:        # doctest: +SKIP
    ...     ds.round(-1).clients["c03"]["dense/kernel"]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = layout.open_file(self.path)
        try:
            self._read_index()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: str | Path) -> WeightDataset:
        """Open a file; the same as calling the class."""
        return cls(path)

    def _read_index(self) -> None:
        self.identity = FileIdentity.of(self.path)
        with layout.damage_reported(self.path, "the signature"):
            self.signature = layout.read_signature(self._file)
        with layout.damage_reported(self.path, "the list of rounds"):
            group = layout.member(self._file, "rounds", h5py.Group)
            numbers = sorted((int(name), name) for name in group)
            self.rounds = tuple(
                Round(self, layout.member(group, name, h5py.Group), number)
                for number, name in numbers
            )

    def close(self) -> None:
        """Close the file; tensors cannot be read afterwards."""
        self._file.close()

    def __enter__(self) -> WeightDataset:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def round(self, number: int = -1) -> Round:
        """A round by its number; -1 is the last.

        Raises
        ------
        UnknownNameError
            There is no such round.
        """
        if number == -1 and self.rounds:
            return self.rounds[-1]
        for candidate in self.rounds:
            if candidate.number == number:
                return candidate
        numbers = [r.number for r in self.rounds]
        known = f"rounds {numbers[0]} to {numbers[-1]}" if numbers else "no rounds"
        raise UnknownNameError(
            located(f"there is no round {number}; the dataset has {known}", file=self.path)
        )

    def check_unchanged(self) -> None:
        """Refuse a file that is not the one that was opened, or not in the state it was in.

        Raises
        ------
        StorageError
            It is gone or was replaced.
        """
        with storage_errors(self.path, "read"):
            identity = FileIdentity.of(self.path)
        if identity != self.identity:
            raise StorageError(
                located("the file was replaced since it was opened; open it again", file=self.path)
            )

    @property
    def client_ids(self) -> tuple[str, ...]:
        """Ids of all clients, in the order of their first appearance."""
        return tuple(dict.fromkeys(record.id for r in self.rounds for record in r.records))

    @property
    def num_parameters(self) -> int:
        """Number of values in one model."""
        return self.signature.num_parameters

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return self.identity.size

    @property
    def created(self) -> str:
        """When the file was first made, ISO 8601 in UTC."""
        return self._attribute("created")

    @property
    def producer(self) -> str:
        """The program that made it."""
        return self._attribute("producer")

    def _attribute(self, name: str) -> str:
        with layout.damage_reported(self.path, f"the attribute {name}"):
            return layout.read_text_attribute(self._file, name) or ""

    @functools.cached_property
    def recipe(self) -> dict[str, Any]:
        """How the dataset was made: architecture, mode, data, partition, seed and so on."""
        with layout.damage_reported(self.path, "the recipe"):
            return layout.read_json(self._file, "recipe")

    @functools.cached_property
    def ground_truth(self) -> tuple[InjectedFault, ...]:
        """The faults that were injected on purpose; empty where there are none."""
        if not layout.has_member(self._file, "ground_truth"):
            return ()
        with layout.damage_reported(self.path, "the ground truth"):
            rows = layout.read_table(self._file, "ground_truth")
            return tuple(_injected_fault(row) for row in rows)

    def __repr__(self) -> str:
        return (
            f"WeightDataset({self.path.name}: {len(self.rounds)} rounds, "
            f"{len(self.client_ids)} clients, {self.num_parameters:,} parameters)"
        )


def _injected_fault(row: Mapping[str, Any]) -> InjectedFault:
    tensors = tuple(row["tensors"].split("\n")) if row["tensors"] else ()
    return InjectedFault(row["client"], FaultKind(row["kind"]), row["argument"], tensors)


@contextlib.contextmanager
def opened_dataset(dataset: WeightDataset | str | os.PathLike[str]) -> Iterator[WeightDataset]:
    """The dataset itself, or one that is opened here and closed afterwards."""
    if isinstance(dataset, WeightDataset):
        yield dataset
    else:
        with WeightDataset.open(os.fspath(dataset)) as opened:
            yield opened
