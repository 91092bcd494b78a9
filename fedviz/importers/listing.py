"""Who the clients of an import would be, before any weights are opened: for a person to correct."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedviz.errors import InvalidArgumentError
from fedviz.importers.archives import open_archive
from fedviz.importers.content import may_hold_weights
from fedviz.importers.examples import LARGEST, NumExamples, assigned_examples, ids_of_csv
from fedviz.importers.fedviz_file import recorded_examples
from fedviz.importers.imported import LeftOut
from fedviz.importers.packed import PackedModel
from fedviz.importers.sources import ClientSource, client_ids, find_sources, in_natural_order
from fedviz.signature import is_storable_text

__all__ = [
    "Proposal",
    "ProposedClient",
    "client_problems",
    "named_clients",
    "proposed_clients",
    "refuse_problems",
]

_LONGEST_ID = 1024
_START = 4096


@dataclass(frozen=True)
class ProposedClient:
    """A client as it would be imported.

    Parameters
    ----------
    source : str
        The file, as a person is told: the path below what was named. It tells clients apart.
    id : str
        What the client is to be called.
    num_examples : int or None
        None where nobody says it.
    """

    source: str
    id: str
    num_examples: int | None = None


@dataclass(frozen=True)
class Proposal:
    """The clients that an import would take, in its order, and what it would pass over."""

    clients: tuple[ProposedClient, ...]
    passed_over: tuple[LeftOut, ...]


def proposed_clients(
    files: Sequence[str | Path], num_examples: NumExamples | None = None
) -> Proposal:
    """The clients that an import of these files would take, without opening their weights.

    Change ids and numbers with :func:`dataclasses.replace` and give the clients to
    :func:`fedviz.importing.import_clients`.

    Parameters
    ----------
    files, num_examples
        As :func:`fedviz.importing.import_clients` takes them.

    Raises
    ------
    StorageError, DatasetFormatError
        Something that was named cannot be read, or is no weights.
    InvalidArgumentError
        There are no clients, or ``num_examples`` do not fit them.
    """
    named, passed_over = find_sources([Path(file) for file in files])
    others = set(_no_weights(named))
    order = [source for source in named if source not in others]
    sources = in_natural_order(order)
    if not sources:
        raise InvalidArgumentError(f"{named[0].name}: expected weights files, found none.")
    clients = named_clients(sources, _recorded(sources), order, num_examples)
    passed_over += [LeftOut(s.name, "not a weights file") for s in named if s in others]
    return Proposal(tuple(clients), tuple(passed_over))


def named_clients(
    sources: Sequence[ClientSource],
    own: Sequence[int | None],
    order: Sequence[ClientSource],
    num_examples: NumExamples | None = None,
    corrected: Iterable[ProposedClient] = (),
) -> list[ProposedClient]:
    """What clients are called and how many examples they have.

    Parameters
    ----------
    sources : sequence of ClientSource
        The clients in their order.
    own : sequence of int or None
        What the files themselves say of ``num_examples``.
    order : sequence of ClientSource
        The sources in the order in which the user named them.
    num_examples : sequence, mapping, path or None
        What the user says; a CSV may also say the ids.
    corrected : iterable of ProposedClient
        What goes before all else, by source.

    Raises
    ------
    StorageError, InvalidArgumentError
        A number is none, or is for a client that is not there.
    """
    ids = client_ids(sources)
    if isinstance(num_examples, Path):
        ids = ids_of_csv(num_examples, sources, ids)
    numbers = assigned_examples(num_examples, sources, ids, own, order)
    clients = [
        ProposedClient(source.name, client, number)
        for source, client, number in zip(sources, ids, numbers, strict=True)
    ]
    by_source = {client.source: client for client in corrected}
    return [by_source.get(client.source, client) for client in clients]


def refuse_problems(clients: Sequence[ProposedClient]) -> None:
    """Raise the first of :func:`client_problems`, if there is one."""
    for client, problem in client_problems(clients):
        raise InvalidArgumentError(f"{client.source}: {problem}.")


def client_problems(clients: Sequence[ProposedClient]) -> Iterator[tuple[ProposedClient, str]]:
    """Ids that cannot be, or that two clients have, and numbers of examples that cannot be."""
    counts = Counter(client.id for client in clients)
    for client in clients:
        name, number = client.id, client.num_examples
        if not name.strip():
            yield client, "expected an id, found none"
        elif not is_storable_text(name) or len(name) > _LONGEST_ID:
            yield client, f"expected an id of 1 to {_LONGEST_ID:,} characters of valid Unicode"
        elif counts[name] > 1:
            yield client, f"the id {name} is that of {counts[name]:,} clients; ids are unique"
        if number is not None and not 0 <= number <= LARGEST:
            yield client, f"num_examples is {number}; expected 0 or more"


def _no_weights(sources: Sequence[ClientSource]) -> Iterator[ClientSource]:
    """Members of zips that are other files, by their first bytes and their names."""
    packed: dict[Path, list[ClientSource]] = {}
    for source in sources:
        if source.packed is not None and _is_single(source.packed):
            packed.setdefault(source.path, []).append(source)
    for path, members in packed.items():
        with open_archive(path) as archive:
            for source in members:
                (member, _), *_ = source.packed.files if source.packed else ()
                with archive.open(member) as file:
                    start = file.read(_START)
                if not may_hold_weights(member, start):
                    yield source


def _is_single(model: PackedModel) -> bool:
    return len(model.files) == 1


def _recorded(sources: Sequence[ClientSource]) -> list[int | None]:
    """``num_examples`` of the clients of fedviz datasets, each dataset opened once."""
    parts: dict[Path, list[str]] = {}
    for source in sources:
        if source.part is not None:
            parts.setdefault(source.path, []).append(source.part)
    known = {path: recorded_examples(path, names) for path, names in parts.items()}
    return [None if s.part is None else known[s.path].get(s.part) for s in sources]
