"""Writing datasets: streamed client by client, atomic, one writer at a time.

A file is written under another name in the same folder, flushed to the disk and renamed. What is
added to an existing dataset is added to a copy, which then takes its place: whoever reads the old
file keeps a consistent view of it, and a writer that is killed leaves it untouched. On file
systems that share blocks between copies (btrfs, XFS) the copy costs next to nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import operator
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from fedviz import hdf5_format as layout
from fedviz._version import PRODUCER
from fedviz.dataset import WeightDataset
from fedviz.errors import (
    InvalidArgumentError,
    SignatureError,
    UnknownNameError,
    located,
    storage_errors,
)
from fedviz.files import copy_content, flush_to_disk, sole_writer, temporary_beside
from fedviz.records import ClientRecord, InjectedFault, Metric
from fedviz.signature import Signature, is_storable_text

__all__ = ["ClientEntry", "RoundWriter", "WeightDatasetWriter"]

Weights = Mapping[str, np.ndarray] | Sequence[np.ndarray]

_AGGREGATE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")


@dataclass(frozen=True)
class ClientEntry:
    """A client as it is announced before its weights are written.

    ``signature`` is None for a client that has the dataset's signature; a divergent one names
    its own, so that the rows of the others can be laid out before the first weight is there.
    """

    id: str
    num_examples: int | None = None
    signature: Signature | None = None


class WeightDatasetWriter:
    """Writes a dataset; a context manager.

    On leaving the ``with`` block without an error the file appears, complete. On an error, or if
    the process is killed, the file that was there before is still there.

    Parameters
    ----------
    path : path
        The file; an existing one is replaced when the new one is complete.
    signature : Signature
        The tensors of the server model, the reference of the dataset.
    recipe : mapping, optional
        How the dataset is made, as plain values that JSON can hold.

    Raises
    ------
    LockedFileError
        Another process is writing this file.
    StorageError
        The folder is absent or read-only, or the disk is full.
    """

    def __init__(
        self, path: str | Path, signature: Signature, recipe: Mapping[str, Any] | None = None
    ) -> None:
        # A link keeps pointing to the dataset: what is replaced is the file behind it.
        self.path = Path(os.path.realpath(path))
        self.signature = signature
        self._recipe = dict(recipe or {})
        self._base: Path | None = None

    @classmethod
    def append(cls, path: str | Path) -> WeightDatasetWriter:
        """A writer that adds rounds and aggregates to a dataset that is there."""
        with WeightDataset(path) as dataset:
            writer = cls(path, dataset.signature)
        writer._base = writer.path
        return writer

    def __enter__(self) -> WeightDatasetWriter:
        self._resources = contextlib.ExitStack()
        try:
            with storage_errors(self.path, "write"):
                self._begin()
        except BaseException:
            self._resources.close()
            raise
        return self

    def _begin(self) -> None:
        if self.path.is_dir():
            raise InvalidArgumentError(f"cannot write {self.path.name}: it is a folder.")
        # The lock would make the folder: a mistyped path would then pass for a new one.
        self.path.parent.stat()
        self._resources.enter_context(sole_writer(self.path))
        self._temporary = self._resources.enter_context(temporary_beside(self.path))
        if self._base is not None:
            copy_content(self._base, self._temporary)
        self._file = layout.create_file(self._temporary, "w" if self._base is None else "r+")
        self._resources.callback(_close_quietly, self._file)
        if self._base is None:
            self._write_head()

    def _write_head(self) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        layout.write_text_attributes(
            self._file, format=layout.FORMAT, created=now, producer=PRODUCER
        )
        self._file.attrs["format_version"] = layout.FORMAT_VERSION
        layout.write_signature(self._file, self.signature)
        self._file.create_group("rounds")
        if self._recipe:
            layout.write_json(self._file, "recipe", self._recipe)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._resources:
            if error is None:
                with storage_errors(self.path, "write"):
                    self._commit()

    def _commit(self) -> None:
        self._file.close()
        flush_to_disk(self._temporary)
        self._temporary.replace(self.path)
        flush_to_disk(self.path.parent)

    @contextlib.contextmanager
    def round(
        self, clients: Sequence[ClientEntry], server: Weights | None = None
    ) -> Iterator[RoundWriter]:
        """Add a round; its number is the next one.

        Parameters
        ----------
        clients : sequence of ClientEntry
            All of its clients, in the order in which they are listed.
        server : weights, optional
            The server model before the round.

        Raises
        ------
        InvalidArgumentError
            Two clients have the same id, or ``num_examples`` is negative.
        SignatureError
            On leaving: a client was announced and not written.
        """
        rounds = self._file["rounds"]
        number = 1 + max((int(name) for name in rounds), default=-1)
        group = rounds.create_group(layout.round_key(number))
        with storage_errors(self.path, "write"):
            writer = RoundWriter(self.path, group, number, self.signature, clients)
            if server is not None:
                writer.write_server(server)
            yield writer
            writer.finish()

    def write_aggregate(
        self, round_number: int, name: str, weights: Weights, **description: Any
    ) -> None:
        """Add an aggregate to a round that is there; see :meth:`RoundWriter.write_aggregate`."""
        key = layout.round_key(round_number)
        if key not in self._file["rounds"]:
            raise UnknownNameError(located(f"there is no round {round_number}", file=self.path))
        group = self._file["rounds"][key]
        with storage_errors(self.path, "write"):
            _write_aggregate(group, self.signature, name, weights, **description)

    def write_metrics(self, round_number: int, metrics: Sequence[Metric]) -> None:
        """Add metrics to those of a round that is there; a repeated one takes the new value."""
        group = self._file["rounds"][layout.round_key(round_number)]
        with storage_errors(self.path, "write"):
            _merge_metrics(group, metrics)

    def write_ground_truth(self, faults: Sequence[InjectedFault]) -> None:
        """Record the faults that were injected on purpose."""
        rows = [(f.client, f.kind.value, f.argument, "\n".join(f.tensors)) for f in faults]
        with storage_errors(self.path, "write"):
            layout.write_table(self._file, "ground_truth", rows)


class RoundWriter:
    """Writes one round; made by :meth:`WeightDatasetWriter.round`."""

    def __init__(
        self,
        path: Path,
        group: h5py.Group,
        number: int,
        signature: Signature,
        clients: Sequence[ClientEntry],
    ) -> None:
        self.number = number
        self._path = path
        self._group = group
        self._signature = signature
        self._entries = _checked_entries(clients)
        self._positions = {client: i for i, client in enumerate(self._entries)}
        self._digests: dict[str, str] = {}
        self._rows = _rows_of(clients, signature)
        stacked = group.create_group("weights")
        self._stacks = [
            layout.create_tensor(
                stacked, layout.tensor_key(i), (len(self._rows), *spec.shape), spec.numpy_dtype
            )
            for i, spec in enumerate(signature)
        ]

    def write_server(self, weights: Weights) -> None:
        """Write the server model."""
        with self._placed("server model"):
            _write_tensors(self._group.create_group("server"), self._signature, weights)

    def write_client(self, client: str, weights: Weights) -> None:
        """Write one client's weights, as they are: nothing is cast or padded.

        Raises
        ------
        SignatureError
            The client was not announced or is written twice, or its weights are not as its
            announced signature says.
        InvalidArgumentError
            The dataset is closed.
        """
        if client not in self._entries or client in self._digests:
            problem = "written twice" if client in self._digests else "not announced"
            raise SignatureError(
                located(problem, file=self._path, round=self.number, client=client)
            )
        if not self._group:
            # The file's descriptor may be another file's by now.
            raise InvalidArgumentError(
                located(
                    "the dataset is closed; write the clients inside the with block",
                    file=self._path,
                    round=self.number,
                    client=client,
                )
            )
        own = self._entries[client].signature
        signature = self._signature if own is None else own
        with self._placed(f"client {client}"):
            arrays = signature.arrange(weights)
        row = self._rows.get(client)
        if row is None:
            _write_tensors(self._divergent_group(client, signature), signature, arrays)
        else:
            for stack, array in zip(self._stacks, arrays, strict=True):
                stack.write(array, row)
        self._digests[client] = _digest(arrays)

    def _divergent_group(self, client: str, signature: Signature) -> h5py.Group:
        key = layout.round_key(self._positions[client])
        group = self._group.require_group("divergent").create_group(key)
        layout.write_signature(group, signature)
        return group

    def write_aggregate(
        self,
        name: str,
        weights: Weights,
        *,
        aggregator: str,
        weighting: str,
        parameters: Mapping[str, Any] | None = None,
        measurements: Mapping[str, Any] | None = None,
    ) -> None:
        """Write an aggregate; one of the same name is replaced.

        Parameters
        ----------
        name : str
            Letters, digits and ``_.+-``, 64 at most.
        weights : mapping or sequence
            In the dataset's signature.
        aggregator, weighting : str
            The rule, and ``num_examples`` or ``uniform``.
        parameters, measurements : mapping, optional
            Plain values that JSON can hold.
        """
        _write_aggregate(
            self._group,
            self._signature,
            name,
            weights,
            aggregator=aggregator,
            weighting=weighting,
            parameters=parameters,
            measurements=measurements,
        )

    def write_metrics(self, metrics: Sequence[Metric]) -> None:
        """Write loss, accuracy and the like."""
        _merge_metrics(self._group, metrics)

    def write_label_counts(self, counts: np.ndarray) -> None:
        """Write how many examples of each label each client holds: (clients, classes)."""
        counts = np.asarray(counts, dtype="i8")
        if counts.ndim != 2 or counts.shape[0] != len(self._entries):
            raise InvalidArgumentError(
                f"label counts: expected shape [{len(self._entries)}, classes], "
                f"found {list(counts.shape)}."
            )
        region = layout.create_tensor(self._group, "label_counts", counts.shape, counts.dtype)
        region.write(counts)

    def finish(self) -> None:
        """Check that all clients were written, and list them."""
        absent = [client for client in self._entries if client not in self._digests]
        if absent:
            raise SignatureError(
                located(
                    f"announced, but its weights were not written ({len(absent)} in all)",
                    file=self._path,
                    round=self.number,
                    client=absent[0],
                )
            )
        rows = [self._table_row(entry) for entry in self._entries.values()]
        layout.write_table(self._group, "clients", rows)

    def _table_row(self, entry: ClientEntry) -> tuple[Any, ...]:
        row = self._rows.get(entry.id)
        record = ClientRecord(entry.id, entry.num_examples, self._digests[entry.id], row)
        examples = -1 if record.num_examples is None else record.num_examples
        return record.id, examples, record.digest, record.conforming, -1 if row is None else row

    @contextlib.contextmanager
    def _placed(self, who: str) -> Iterator[None]:
        try:
            yield
        except SignatureError as error:
            raise SignatureError(
                located(f"{who}, {error}", file=self._path, round=self.number)
            ) from error


def _checked_entries(clients: Sequence[ClientEntry]) -> dict[str, ClientEntry]:
    entries: dict[str, ClientEntry] = {}
    for entry in clients:
        if not is_storable_text(entry.id):
            raise InvalidArgumentError(
                f"{entry.id!r} cannot be a client id: it is empty, holds a NUL character or is not "
                "valid Unicode."
            )
        if entry.id in entries:
            raise InvalidArgumentError(f"two clients have the id {entry.id}; ids are unique.")
        if entry.num_examples is not None and not _is_count(entry.num_examples):
            raise InvalidArgumentError(
                f"client {entry.id}: num_examples is {entry.num_examples}; expected a whole number "
                "from 0 to 2^63 − 1."
            )
        entries[entry.id] = entry
    return entries


def _is_count(value: object) -> bool:
    try:
        return 0 <= operator.index(value) < 1 << 63  # type: ignore[arg-type]
    except TypeError:
        return False


def _rows_of(clients: Sequence[ClientEntry], signature: Signature) -> dict[str, int]:
    conforming = [
        entry.id
        for entry in clients
        if entry.signature is None or entry.signature.agrees_with(signature)
    ]
    return {client: row for row, client in enumerate(conforming)}


def _write_tensors(group: h5py.Group, signature: Signature, weights: Weights) -> None:
    for i, (spec, array) in enumerate(zip(signature, signature.arrange(weights), strict=True)):
        region = layout.create_tensor(group, layout.tensor_key(i), spec.shape, spec.numpy_dtype)
        region.write(array)


def _write_aggregate(
    round_group: h5py.Group,
    signature: Signature,
    name: str,
    weights: Weights,
    *,
    aggregator: str,
    weighting: str,
    parameters: Mapping[str, Any] | None = None,
    measurements: Mapping[str, Any] | None = None,
) -> None:
    if not _AGGREGATE_NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"{name!r} cannot name an aggregate; use letters, digits and _.+-, 64 at most."
        )
    parent = round_group.require_group("aggregates")
    position = 1 + max((int(g.attrs["position"]) for g in parent.values()), default=-1)
    if name in parent:
        del parent[name]
    group = parent.create_group(name)
    layout.write_text_attributes(group, aggregator=aggregator, weighting=weighting)
    group.attrs["position"] = position
    layout.write_json(group, "parameters", parameters or {})
    layout.write_json(group, "measurements", measurements or {})
    _write_tensors(group, signature, weights)


def _merge_metrics(group: h5py.Group, metrics: Sequence[Metric]) -> None:
    merged: dict[tuple[str, str, str], float] = {}
    if "metrics" in group:
        known = [Metric(**row) for row in layout.read_table(group, "metrics")]
        metrics = [*known, *metrics]
        del group["metrics"]
    for metric in metrics:
        merged[metric.role, metric.subject, metric.name] = float(metric.value)
    layout.write_table(group, "metrics", [(*key, value) for key, value in merged.items()])


def _digest(arrays: Sequence[np.ndarray]) -> str:
    """SHA-256 of the tensors' bytes, little-endian, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(layout.stored_bytes(array))
    return digest.hexdigest()


def _close_quietly(file: h5py.File) -> None:
    """Close after a failure: on a full disk closing fails too, and says nothing new."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        file.close()
