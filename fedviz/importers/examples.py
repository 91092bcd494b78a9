"""``num_examples`` of clients, as a person gives them: a list, a mapping, or a CSV."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar

from fedviz.errors import InvalidArgumentError, located, storage_errors
from fedviz.importers.sources import ClientSource, examples_in_name

__all__ = ["LARGEST", "NumExamples", "assigned_examples", "ids_of_csv", "read_examples"]

NumExamples = Sequence[int] | Mapping[str, int] | Path
"""One for each file in the order given, or by client id or file name, or a CSV of these."""

_Value = TypeVar("_Value")

LARGEST = 2**63 - 1
"""Largest number of examples: clients are kept with a signed 64-bit number."""

_MAX_CSV = 64 * 2**20
_FILE_COLUMNS = ("file", "filename")
_ID_COLUMNS = ("client", "client_id", "id", "name")
_NUMBER_COLUMNS = ("num_examples", "examples", "samples", "count", "n")


@dataclass(frozen=True)
class _Row:
    """A row of a CSV: ``key`` is a client's id or file; ``id`` what the client is to be called."""

    key: str
    id: str | None
    number: int | None


def read_examples(path: Path) -> dict[str, int]:
    """``num_examples`` by client from a CSV of two columns, client and num_examples.

    Parameters
    ----------
    path : Path
        With a header, the columns ``client`` (or id, file, name) and ``num_examples`` (or
        examples, samples, count, n) may stand anywhere; without one, they are the first two.
        Where a ``file`` stands beside a ``client``, clients go by their files, and the latter is
        what they are to be called (:func:`ids_of_csv`); then numbers need not be there.

    Raises
    ------
    StorageError
        The file cannot be read.
    InvalidArgumentError
        A row has no whole number of 0 or more, or a client is listed twice.
    """
    return {row.key: row.number for row in _rows(path) if row.number is not None}


def ids_of_csv(path: Path, sources: Sequence[ClientSource], ids: Sequence[str]) -> list[str]:
    """The clients' ids, of which some may be in a CSV of file and client.

    Raises
    ------
    StorageError, InvalidArgumentError
        As :func:`read_examples`, or a file is not there.
    """
    given = {row.key: row.id for row in _rows(path) if row.id}
    named = _by_id(given, sources, ids, path.name)
    return [named.get(client, client) for client in ids]


def _rows(path: Path) -> list[_Row]:
    with storage_errors(path, "read"):
        if path.stat().st_size > _MAX_CSV:
            raise InvalidArgumentError(
                located(f"expected a CSV below {_MAX_CSV:,} bytes", file=path)
            )
        text = path.read_bytes().decode("utf-8-sig", "replace")
    lines = text.splitlines()
    delimiter = ";" if lines and ";" in lines[0] and "," not in lines[0] else ","
    try:
        table = [row for row in csv.reader(lines, delimiter=delimiter, strict=True) if row]
    except csv.Error as error:
        raise InvalidArgumentError(
            located(f"expected a CSV of client,num_examples: {error}", file=path)
        ) from error
    columns = _columns(table)
    rows: dict[str, _Row] = {}
    for position, cells in enumerate(table[columns.first :], columns.first + 1):
        row = columns.row([cell.strip() for cell in cells])
        if row is None:
            raise InvalidArgumentError(
                located(
                    f"row {position}: expected a client and a whole number of 0 or more, found "
                    f"{delimiter.join(cells)[:120]!r}",
                    file=path,
                )
            )
        if row.key in rows:
            raise InvalidArgumentError(
                located(f"row {position}: listed twice", file=path, client=row.key)
            )
        rows[row.key] = row
    return list(rows.values())


@dataclass(frozen=True)
class _Columns:
    """Where in a CSV a client, its new id and its number stand, and the first row of values."""

    key: int = 0
    id: int | None = None
    number: int | None = 1
    first: int = 0

    def row(self, cells: Sequence[str]) -> _Row | None:
        """What a row says; None where it cannot be understood."""
        wanted = [column for column in (self.key, self.id, self.number) if column is not None]
        if len(cells) <= max(wanted) or not cells[self.key]:
            return None
        name = None if self.id is None else cells[self.id]
        if self.number is None or (name and not cells[self.number]):
            return _Row(cells[self.key], name, None)
        if not cells[self.number].isdecimal():
            return None
        return _Row(cells[self.key], name, int(cells[self.number]))


def _columns(rows: Sequence[Sequence[str]]) -> _Columns:
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    numbers = [i for i, cell in enumerate(head) if cell in _NUMBER_COLUMNS]
    files = [i for i, cell in enumerate(head) if cell in _FILE_COLUMNS]
    ids = [i for i, cell in enumerate(head) if cell in _ID_COLUMNS]
    if files and ids:
        return _Columns(files[0], ids[0], numbers[0] if numbers else None, 1)
    if not numbers or len(head) < 2:
        return _Columns()
    others = [i for i in range(len(head)) if i != numbers[0]]
    known = [i for i in others if i in (*files, *ids)]
    return _Columns((known or others)[0], None, numbers[0], 1)


def assigned_examples(
    given: NumExamples | None,
    sources: Sequence[ClientSource],
    ids: Sequence[str],
    own: Sequence[int | None],
    order: Sequence[ClientSource],
) -> list[int | None]:
    """``num_examples`` of every client.

    Parameters
    ----------
    given : sequence, mapping, path or None
        What the user says; it goes before names and files.
    sources, ids : sequence
        The clients in their order.
    own : sequence of int or None
        What the files themselves say.
    order : sequence of ClientSource
        The sources in the order in which the user named them.

    Returns
    -------
    list of int or None
        None where it is not known.

    Raises
    ------
    StorageError, InvalidArgumentError
        A number is no whole number of 0 or more, there are too few or too many, or they are for
        a client that is not there.
    """
    by_client: Mapping[str, int] = {}
    if isinstance(given, Path):
        by_client = _by_id(read_examples(given), sources, ids, given.name)
    elif isinstance(given, Mapping):
        by_client = _by_id(given, sources, ids, "num_examples")
    elif given is not None:
        by_client = dict(zip(ids, _in_order(given, sources, order), strict=True))
    for client, number in by_client.items():
        if not 0 <= number <= LARGEST:
            raise InvalidArgumentError(
                f"client {client}: num_examples is {number}; expected 0 or more."
            )
    return [
        by_client.get(
            client, from_file if from_file is not None else examples_in_name(source, client)
        )
        for client, source, from_file in zip(ids, sources, own, strict=True)
    ]


def _in_order(
    given: Sequence[int], sources: Sequence[ClientSource], order: Sequence[ClientSource]
) -> Sequence[int]:
    if len(given) != len(sources):
        raise InvalidArgumentError(
            f"expected one num_examples for each of the {len(sources)} clients, found {len(given)}."
        )
    for named, natural in zip(order, sources, strict=True):
        if named != natural:
            raise InvalidArgumentError(
                f"the files are named in another order ({named.name} where {natural.name} comes "
                "by its number), so that a list of num_examples may go astray; give them by "
                "client in a CSV of client,num_examples."
            )
    return given


def _by_id(
    given: Mapping[str, _Value], sources: Sequence[ClientSource], ids: Sequence[str], where: str
) -> dict[str, _Value]:
    """By client id, of what may be given by id, or by the file's path or the end of it."""
    ends = [_ends(source.name) for source in sources]
    counts = Counter(end for of_source in ends for end in of_source)
    known = {
        end: client
        for of_source, client in zip(ends, ids, strict=True)
        for end in of_source
        if counts[end] == 1
    }
    known.update({client: client for client in ids})
    found: dict[str, _Value] = {}
    for name, value in given.items():
        client = known.get(name, known.get(PurePath(name).name, ""))
        if not client:
            shown = ", ".join(ids[:8]) + (" …" if len(ids) > 8 else "")
            raise InvalidArgumentError(
                f"{where}: there is no client {name[:120]}; there are {shown}."
            )
        if client in found:
            raise InvalidArgumentError(f"{where}, client {client}: listed twice.")
        found[client] = value
    return found


def _ends(name: str) -> list[str]:
    """A path, and the path without its first steps: as much of it as a person may write."""
    steps = name.split("/")
    return ["/".join(steps[i:]) for i in range(len(steps))]
