"""One round of a dataset."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from fedviz import hdf5_format as layout
from fedviz.dataset.places import StackedTensor
from fedviz.dataset.weights import Aggregate, ClientWeights, WeightMap
from fedviz.errors import UnknownNameError, located
from fedviz.records import ClientRecord, Metric
from fedviz.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import tensorflow as tf

    from fedviz.dataset.weight_dataset import WeightDataset

__all__ = ["Round"]


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
