"""What an import took and what it left out, for programs and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedviz.importers.imported import LeftOut, Taken
from fedviz.signature import Signature

__all__ = ["ImportReport", "ImportedClient"]

_MAX_LINES = 20


@dataclass(frozen=True)
class ImportedClient:
    """What became of one file.

    Parameters
    ----------
    id : str
        The client in the dataset.
    num_examples : int or None
        None where nobody said it.
    source, format : str
        The file, and what it turned out to be.
    took : tuple of Taken
        Its tensors, by the names that they have in the file and in the dataset.
    left_out : tuple of LeftOut
        What else is in the file, and why it was not taken.
    notes : tuple of str
        What a reader should know of the names or the order.
    mismatches : int
        Differences from the reference; ``fedviz check`` lists them.
    """

    id: str
    num_examples: int | None
    source: str
    format: str
    took: tuple[Taken, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    mismatches: int

    @property
    def conforming(self) -> bool:
        """Whether its signature is the dataset's."""
        return self.mismatches == 0


@dataclass(frozen=True)
class ImportReport:
    """What an import took and what it left out.

    Parameters
    ----------
    out : Path
        The dataset.
    signature : Signature
        Its signature, the reference.
    reference : str
        Where that comes from: ``majority``, or the name of a file.
    server : str or None
        The file of the server model; None where there is none.
    clients : tuple of ImportedClient
        In the dataset's order.
    passed_over : tuple of LeftOut
        Files in folders and zips that are no client's weights.
    """

    out: Path
    signature: Signature
    reference: str
    server: str | None
    clients: tuple[ImportedClient, ...]
    passed_over: tuple[LeftOut, ...]

    @property
    def divergent(self) -> tuple[ImportedClient, ...]:
        """The clients that differ from the reference; they were kept as they are."""
        return tuple(client for client in self.clients if not client.conforming)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know, each with the number of clients that it is about."""
        counts = Counter(note for client in self.clients for note in client.notes)
        return tuple(f"{_clients(count)}: {note}" for note, count in counts.items())

    def to_json(self) -> dict[str, Any]:
        """The JSON of ``fedviz import``."""
        return {
            "out": str(self.out),
            "reference": self.reference,
            "server": self.server,
            "tensors": len(self.signature),
            "num_parameters": self.signature.num_parameters,
            "clients": [
                {**asdict(client), "format": str(client.format), "conforming": client.conforming}
                for client in self.clients
            ],
            "passed_over": [asdict(item) for item in self.passed_over],
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield (
            f"{self.out}: {_clients(len(self.clients))}, {len(self.signature)} tensors, "
            f"{self.signature.num_parameters:,} parameters; reference: {self.reference}."
        )
        for client in self.clients[:_MAX_LINES]:
            yield f"  {_client_line(client)}"
        if len(self.clients) > _MAX_LINES:
            yield f"  … and {len(self.clients) - _MAX_LINES:,} more; --json lists all."
        unknown = sum(client.num_examples is None for client in self.clients)
        if unknown:
            yield (
                f"num_examples: not known of {_clients(unknown)}; give it with --num-examples, or "
                "let each client count once, with --weighting uniform."
            )
        yield from _counted("Left out", (i for c in self.clients for i in c.left_out))
        yield from _counted("Passed over", self.passed_over)
        yield from (f"{note}." for note in self.notes)
        if not self.divergent:
            uniform = " --weighting uniform" if unknown else ""
            yield f"All agree. Next: fedviz average {self.out} --out average.h5{uniform}"
        else:
            count = len(self.divergent)
            yield (
                f"{_clients(count)} {'differs' if count == 1 else 'differ'} from the reference, "
                f"kept as found: fedviz check {self.out.name} says how."
            )


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count:,} clients"


def _client_line(client: ImportedClient) -> str:
    examples = "?" if client.num_examples is None else f"{client.num_examples:,}"
    line = f"{client.id}: {examples} examples, {len(client.took)} tensors"
    differs = "" if client.conforming else f", {client.mismatches} mismatches"
    return f"{line}{differs}, from {client.source} ({client.format})"


def _counted(title: str, items: Iterator[LeftOut] | tuple[LeftOut, ...]) -> Iterator[str]:
    """One line for each reason, with the first example of it."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for item in items:
        counts[item.reason] += 1
        examples.setdefault(item.reason, item.source)
    for reason, count in counts.items():
        more = f" and {count - 1:,} more" if count > 1 else ""
        yield f"{title}: {examples[reason]}{more}: {reason}."
