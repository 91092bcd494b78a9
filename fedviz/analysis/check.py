"""Checking a dataset: every mismatch of every client, in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedviz.analysis.blocks import client_blocks
from fedviz.dataset import Round, WeightDataset
from fedviz.errors import UnknownNameError, located
from fedviz.progress import Progress, ProgressCallback, silent
from fedviz.signature import Mismatch, MismatchKind, Signature, TensorSpec, compare

__all__ = ["CheckReport", "ClientMismatch", "check", "reference_signature"]


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
        }

    def __str__(self) -> str:
        found = self.mismatch
        cause = f"; {found.cause}" if found.cause else ""
        return located(
            f"{found.kind.value}: expected {found.expected}, found {found.actual}{cause}",
            round=self.round,
            client=self.client,
            tensor=found.tensor,
        )


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    ``reference`` names what the clients were compared with; ``clients`` counts them, each once,
    in however many rounds it took part.
    """

    reference: str
    signature: Signature
    clients: int
    mismatches: tuple[ClientMismatch, ...]

    @property
    def consistent(self) -> bool:
        """Whether there is no mismatch."""
        return not self.mismatches

    @property
    def clients_concerned(self) -> tuple[str, ...]:
        """Ids of the clients that have a mismatch, in order of appearance."""
        return tuple(dict.fromkeys(m.client for m in self.mismatches))

    def to_json(self) -> dict[str, Any]:
        """As the command's JSON has it."""
        return {
            "consistent": self.consistent,
            "reference": self.reference,
            "clients": self.clients,
            "mismatches": [mismatch.to_json() for mismatch in self.mismatches],
        }


def check(
    dataset: WeightDataset | str | Path,
    reference: str = "server",
    *,
    round: int | None = None,
    progress: ProgressCallback = silent,
) -> CheckReport:
    """Compare every client of every round with one reference, and look at every value.

    Parameters
    ----------
    dataset : WeightDataset or path
        What is checked.
    reference : str
        ``server`` (the dataset's own signature), ``majority`` (the signature that most clients
        have), the id of a client, or the path of a fedviz file.
    round : int, optional
        Only this round; -1 is the last.
    progress : callable
        Told of every tensor whose values are looked at.

    Returns
    -------
    CheckReport
        Every mismatch, not only the first: of names, order, rank, shape and dtype, and every
        tensor with NaN or infinite values.

    Raises
    ------
    UnknownNameError
        There is no such reference or round.
    """
    if not isinstance(dataset, WeightDataset):
        with WeightDataset(dataset) as opened:
            return check(opened, reference, round=round, progress=progress)
    rounds = dataset.rounds if round is None else (dataset.round(round),)
    expected = reference_signature(dataset, reference)
    mismatches: list[ClientMismatch] = []
    for position, each in enumerate(rounds):
        progress(Progress(position, len(rounds), f"checking round {each.number}"))
        mismatches.extend(_check_round(each, expected))
    clients = {record.id for each in rounds for record in each.records}
    return CheckReport(reference, expected, len(clients), tuple(mismatches))


def reference_signature(dataset: WeightDataset, reference: str) -> Signature:
    """The signature that a reference stands for; see :func:`check`."""
    if reference == "server":
        return dataset.signature
    if reference == "majority":
        return _majority(dataset)
    for each in reversed(dataset.rounds):
        if reference in each.clients:
            return each.clients[reference].signature
    if Path(reference).is_file():
        with WeightDataset(reference) as other:
            return other.signature
    raise UnknownNameError(
        located(
            f"there is no reference {reference}; expected server, majority, the id of a client "
            "or the path of a fedviz file",
            file=dataset.path,
        )
    )


def _majority(dataset: WeightDataset) -> Signature:
    votes: Counter[Signature] = Counter()
    for each in dataset.rounds:
        votes[dataset.signature] += len(each.conforming)
        votes.update(_untrained(each.client(record).signature) for record in each.divergent)
    return votes.most_common(1)[0][0] if votes else dataset.signature


def _untrained(signature: Signature) -> Signature:
    """Without the trainable flags, which clients often do not tell."""
    return Signature(tuple(TensorSpec(t.name, t.shape, t.dtype) for t in signature))


def _check_round(round_: Round, expected: Signature) -> list[ClientMismatch]:
    found: dict[str, list[Mismatch]] = {record.id: [] for record in round_.records}
    shared = compare(expected, round_.dataset.signature)
    for record in round_.conforming:
        found[record.id].extend(shared)
    for record in round_.divergent:
        weights = round_.client(record)
        found[record.id].extend(compare(expected, weights.signature))
        for spec in weights.signature:
            if spec.is_float:
                found[record.id].extend(_nonfinite(spec, weights[spec.name]))
    for client, mismatch in _nonfinite_in_stacks(round_):
        found[client].append(mismatch)
    return [ClientMismatch(round_.number, c, m) for c, each in found.items() for m in each]


def _nonfinite_in_stacks(round_: Round) -> Iterator[tuple[str, Mismatch]]:
    clients = [record.id for record in round_.conforming]
    for spec in round_.dataset.signature:
        if not spec.is_float:
            continue
        for rows, block in client_blocks(round_, spec.name):
            for row in np.flatnonzero(~np.isfinite(block).all(axis=1)):
                values = block[row].reshape(spec.shape)
                for mismatch in _nonfinite(spec, values):
                    yield clients[rows.start + row], mismatch


def _nonfinite(spec: TensorSpec, values: np.ndarray) -> Iterator[Mismatch]:
    finite = np.isfinite(values)
    if finite.all():
        return
    nan = int(np.isnan(values).sum())
    infinite = int((~finite).sum()) - nan
    parts = [f"{count} {name}" for count, name in ((nan, "NaN"), (infinite, "infinite")) if count]
    first = [int(i) for i in np.argwhere(~finite)[0]]
    at = f", the first at {first}" if first else ""
    yield Mismatch(
        spec.name,
        MismatchKind.NONFINITE,
        "finite values",
        f"{' and '.join(parts)} of {values.size:,}{at}",
        "training diverged, or a value was divided by zero",
    )
