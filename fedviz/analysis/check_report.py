"""What a check found, and which clients differ in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedviz.errors import located
from fedviz.signature import Mismatch, MismatchKind, Signature

__all__ = [
    "CheckReport",
    "ClientMismatch",
    "MismatchGroup",
    "Observation",
    "group_by_pattern",
    "mismatch_text",
]


@dataclass(frozen=True)
class ClientMismatch:
    """A mismatch and where it is."""

    round: int
    client: str
    mismatch: Mismatch

    def to_json(self) -> dict[str, Any]:
        """As the command's JSON has it."""
        found = self.mismatch
        return {
            "round": self.round,
            "client": self.client,
            "tensor": found.tensor,
            "kind": found.kind.value,
            "expected": found.expected,
            "actual": found.actual,
            "cause": found.cause,
            **self._nonfinite_json(),
        }

    def _nonfinite_json(self) -> dict[str, Any]:
        count = self.mismatch.nonfinite
        if count is None:
            return {}
        return {
            "nonfinite": {
                "nan": count.num_nan,
                "positive_infinite": count.num_positive_infinite,
                "negative_infinite": count.num_negative_infinite,
                "size": count.size,
                "first_index": list(count.first_index),
            }
        }

    def __str__(self) -> str:
        return located(
            mismatch_text(self.mismatch),
            round=self.round,
            client=self.client,
            tensor=self.mismatch.tensor,
        )


def mismatch_text(mismatch: Mismatch) -> str:
    """A mismatch in one line, without its place."""
    cause = f"; {mismatch.cause}" if mismatch.cause else ""
    return f"{mismatch.kind.value}: expected {mismatch.expected}, found {mismatch.actual}{cause}"


@dataclass(frozen=True)
class Observation:
    """Something worth knowing that is no mismatch: the client fits the reference.

    ``kind`` is ``frozen``: a tensor that is not trainable is not what the server sent. Statistics
    of batch normalisation are not reported; they move without an optimizer.
    """

    round: int
    client: str
    tensor: str
    kind: str
    expected: str
    actual: str
    cause: str

    def to_json(self) -> dict[str, Any]:
        """As the command's JSON has it."""
        return dict(vars(self))

    def __str__(self) -> str:
        return located(
            f"{self.kind}: expected {self.expected}, found {self.actual}; {self.cause}",
            round=self.round,
            client=self.client,
            tensor=self.tensor,
        )


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    ``reference`` names what the clients were compared with; ``clients`` counts them, each once,
    in however many rounds it took part, and ``client_ids`` names them. ``observations`` are no
    mismatches: a report with observations only is consistent.
    """

    reference: str
    signature: Signature
    clients: int
    mismatches: tuple[ClientMismatch, ...]
    observations: tuple[Observation, ...] = ()
    client_ids: tuple[str, ...] = ()

    @property
    def consistent(self) -> bool:
        """Whether there is no mismatch."""
        return not self.mismatches

    @property
    def clients_concerned(self) -> tuple[str, ...]:
        """Ids of the clients that have a mismatch, in order of appearance."""
        return tuple(dict.fromkeys(m.client for m in self.mismatches))

    def to_json(self) -> dict[str, Any]:
        """As the command's JSON has it; ``observations`` only where there are any."""
        observations = [observation.to_json() for observation in self.observations]
        return {
            "consistent": self.consistent,
            "reference": self.reference,
            "clients": self.clients,
            "mismatches": [mismatch.to_json() for mismatch in self.mismatches],
            **({"observations": observations} if observations else {}),
        }


@dataclass(frozen=True)
class MismatchGroup:
    """Clients with the same mismatches.

    ``mismatches`` are those of the first of them; where values are not finite, how many and where
    may differ from client to client. ``places`` are (round, client) in the order of the report.
    """

    mismatches: tuple[Mismatch, ...]
    places: tuple[tuple[int, str], ...]

    @property
    def rounds(self) -> tuple[int, ...]:
        """Numbers of the rounds in which the pattern occurs."""
        return tuple(sorted({number for number, _ in self.places}))

    @property
    def clients(self) -> tuple[str, ...]:
        """Ids of the clients, each once, in the order of the report."""
        return tuple(dict.fromkeys(client for _, client in self.places))

    def __str__(self) -> str:
        clients, found = len(self.clients), len(self.mismatches)
        verb = "has" if clients == 1 else "have the same"
        return f"{_counted(clients, 'client')} {verb} {_counted(found, 'mismatch')}"


def group_by_pattern(report: CheckReport) -> tuple[MismatchGroup, ...]:
    """The clients that differ, grouped by what they differ in; the largest group first.

    Two clients belong together if they have the same kinds of mismatches in the same tensors,
    with the same expected and found types.
    """
    by_place: dict[tuple[int, str], list[Mismatch]] = {}
    for each in report.mismatches:
        by_place.setdefault((each.round, each.client), []).append(each.mismatch)
    groups: dict[tuple[Any, ...], list[tuple[int, str]]] = {}
    for place, mismatches in by_place.items():
        groups.setdefault(tuple(map(_pattern, mismatches)), []).append(place)
    made = [MismatchGroup(tuple(by_place[places[0]]), tuple(places)) for places in groups.values()]
    return tuple(sorted(made, key=lambda group: -len(group.clients)))


def _pattern(mismatch: Mismatch) -> tuple[str, ...]:
    actual = "" if mismatch.kind is MismatchKind.NONFINITE else mismatch.actual
    return mismatch.tensor, mismatch.kind.value, mismatch.expected, actual


def _counted(number: int, noun: str) -> str:
    ending = "" if number == 1 else "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}{ending}"
