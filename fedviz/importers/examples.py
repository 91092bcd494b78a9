"""``num_examples`` of clients, as a person gives them: a list, a mapping, or a CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedviz.errors import InvalidArgumentError, located, storage_errors
from fedviz.importers.sources import ClientSource, examples_in_name

__all__ = ["NumExamples", "assigned_examples", "read_examples"]

NumExamples = Sequence[int] | Mapping[str, int] | Path
"""One for each file in the order given, or by client id or file name, or a CSV of these."""

_MAX_CSV = 64 * 2**20
_CLIENT_COLUMNS = ("client", "id", "file", "name")
_NUMBER_COLUMNS = ("num_examples", "examples", "samples", "count", "n")
# Clients are kept with a signed 64-bit number.
_LARGEST = 2**63 - 1


def read_examples(path: Path) -> dict[str, int]:
    """``num_examples`` by client from a CSV of two columns, client and num_examples.

    Parameters
    ----------
    path : Path
        With a header, the columns ``client`` (or id, file, name) and ``num_examples`` (or
        examples, samples, count, n) may stand anywhere; without one, they are the first two.

    Raises
    ------
    StorageError
        The file cannot be read.
    InvalidArgumentError
        A row has no whole number of 0 or more, or a client is listed twice.
    """
    with storage_errors(path, "read"):
        if path.stat().st_size > _MAX_CSV:
            raise InvalidArgumentError(
                located(f"expected a CSV below {_MAX_CSV:,} bytes", file=path)
            )
        text = path.read_bytes().decode("utf-8-sig", "replace")
    lines = text.splitlines()
    delimiter = ";" if lines and ";" in lines[0] and "," not in lines[0] else ","
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter, strict=True) if row]
    except csv.Error as error:
        raise InvalidArgumentError(
            located(f"expected a CSV of client,num_examples: {error}", file=path)
        ) from error
    client, number, first = _columns(rows)
    examples: dict[str, int] = {}
    for position, row in enumerate(rows[first:], first + 1):
        cells = [cell.strip() for cell in row]
        if len(cells) <= max(client, number) or not cells[number].isdecimal():
            raise InvalidArgumentError(
                located(
                    f"row {position}: expected a client and a whole number of 0 or more, found "
                    f"{delimiter.join(row)[:120]!r}",
                    file=path,
                )
            )
        if cells[client] in examples:
            raise InvalidArgumentError(
                located(f"row {position}: listed twice", file=path, client=cells[client])
            )
        examples[cells[client]] = int(cells[number])
    return examples


def _columns(rows: Sequence[Sequence[str]]) -> tuple[int, int, int]:
    """Columns of the client and of its number, and the first row with values."""
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    numbers = [i for i, cell in enumerate(head) if cell in _NUMBER_COLUMNS]
    if not numbers or len(head) < 2:
        return 0, 1, 0
    others = [i for i in range(len(head)) if i != numbers[0]]
    known = [i for i in others if head[i] in _CLIENT_COLUMNS]
    return (known or others)[0], numbers[0], 1


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
        if not 0 <= number <= _LARGEST:
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
    given: Mapping[str, int], sources: Sequence[ClientSource], ids: Sequence[str], where: str
) -> dict[str, int]:
    """By client id, of what may be given by id, by file name or by the path that is shown."""
    known: dict[str, str] = {}
    for source, client in zip(sources, ids, strict=True):
        for alias in (source.name, source.name.rpartition("/")[2]):
            known[alias] = client
    known.update({client: client for client in ids})
    for name in given:
        if name not in known:
            shown = ", ".join(ids[:8]) + (" …" if len(ids) > 8 else "")
            raise InvalidArgumentError(
                f"{where}: there is no client {name[:120]}; there are {shown}."
            )
    return {known[name]: number for name, number in given.items()}
