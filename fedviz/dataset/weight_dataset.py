"""A federated weight dataset, as its file has it."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py

from fedviz import hdf5_format as layout
from fedviz.dataset.places import FileIdentity
from fedviz.dataset.rounds import Round
from fedviz.errors import StorageError, UnknownNameError, located, storage_errors
from fedviz.records import FaultKind, InjectedFault

__all__ = ["WeightDataset", "opened_dataset"]


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
