"""Checking a dataset: every mismatch of every client, in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedviz.analysis.check_report import (
    CheckReport,
    ClientMismatch,
    MismatchGroup,
    Observation,
    group_by_pattern,
)
from fedviz.analysis.value_checks import Finding, findings_in_round
from fedviz.dataset import Round, WeightDataset
from fedviz.errors import (
    DatasetFormatError,
    InvalidArgumentError,
    NewerFormatError,
    UnknownNameError,
    located,
)
from fedviz.importers.template import read_template
from fedviz.progress import Progress, ProgressCallback, silent
from fedviz.signature import (
    Difference,
    Mismatch,
    MismatchKind,
    Signature,
    TensorSpec,
    compare_signatures,
    match,
    probable_cause,
)

__all__ = [
    "CheckReport",
    "ClientMismatch",
    "MismatchGroup",
    "Observation",
    "Reference",
    "check",
    "group_by_pattern",
    "reference_signature",
]

LookAt = Literal["signatures", "finiteness", "values"]
"""How much of a dataset a check reads: the index only, also every value, or every value also
against the server model."""


@dataclass(frozen=True)
class Reference:
    """What clients are compared with: a signature, and what it is called."""

    name: str
    signature: Signature


def check(
    dataset: WeightDataset | str | Path,
    reference: str | Reference = "server",
    *,
    round: int | None = None,
    look_at: LookAt = "values",
    progress: ProgressCallback = silent,
) -> CheckReport:
    """Compare every client of every round with one reference.

    Parameters
    ----------
    dataset : WeightDataset or path
        What is checked.
    reference : str or Reference
        ``server`` (the dataset's own signature), ``majority`` (the signature that most clients
        have), the id of a client, or the path of a file with weights. Any other signature, such
        as an architecture's, as a :class:`Reference`; :func:`fedviz.reference.resolve_reference`
        knows the architectures' names.
    round : int, optional
        Only this round; -1 is the last.
    look_at : {"values", "finiteness", "signatures"}
        ``signatures`` reads no weights. ``finiteness`` reads every value and finds NaN and
        infinite ones. ``values`` also compares with the round's server model, where it has one:
        tensors of one shape that are in each other's place, and frozen tensors that moved.
    progress : callable
        Told of every round.

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
            return check(opened, reference, round=round, look_at=look_at, progress=progress)
    if look_at not in ("signatures", "finiteness", "values"):
        raise InvalidArgumentError(
            f"look_at: expected signatures, finiteness or values, found {look_at}."
        )
    rounds = dataset.rounds if round is None else (dataset.round(round),)
    if isinstance(reference, str):
        reference = Reference(reference, reference_signature(dataset, reference))
    checker = _Checker(reference.signature, look_at)
    for position, each in enumerate(rounds):
        progress(Progress(position, len(rounds), f"checking round {each.number}"))
        checker.look_at_round(each)
    clients = dict.fromkeys(record.id for each in rounds for record in each.records)
    return CheckReport(
        reference.name,
        reference.signature,
        len(clients),
        tuple(checker.mismatches),
        tuple(checker.observations),
        tuple(clients),
    )


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
        return _signature_of_file(Path(reference))
    raise UnknownNameError(
        located(
            f"there is no reference {reference}; expected server, majority, the id of a client "
            "or the path of a file with weights",
            file=dataset.path,
        )
    )


def _signature_of_file(path: Path) -> Signature:
    """The signature of a fedviz file, with a server model or without, or of a weights file."""
    if path.suffix in (".h5", ".hdf5"):
        try:
            with WeightDataset(path) as other:
                return other.signature
        except NewerFormatError:
            raise
        except DatasetFormatError:
            # Keras writes files of that name, too.
            pass
    return read_template(path)[1]


def _majority(dataset: WeightDataset) -> Signature:
    votes: Counter[Signature] = Counter()
    for each in dataset.rounds:
        votes[dataset.signature] += len(each.conforming)
        votes.update(_untrained(each.client(record).signature) for record in each.divergent)
    return votes.most_common(1)[0][0] if votes else dataset.signature


def _untrained(signature: Signature) -> Signature:
    """Without the trainable flags, which clients often do not tell."""
    return Signature(tuple(TensorSpec(t.name, t.shape, t.dtype) for t in signature))


class _Checker:
    """Collects what is found; each signature is compared once, however many clients have it."""

    def __init__(self, expected: Signature, look_at: LookAt) -> None:
        self.mismatches: list[ClientMismatch] = []
        self.observations: list[Observation] = []
        self._expected = expected
        self._look_at = look_at
        self._compared: dict[Signature, list[Mismatch]] = {}

    def look_at_round(self, round_: Round) -> None:
        """Add what is found in a round, client by client in the order of its table."""
        found: dict[str, list[Mismatch]] = {record.id: [] for record in round_.records}
        shared = self._compare(round_.dataset.signature)
        for record in round_.conforming:
            found[record.id].extend(shared)
        for record in round_.divergent:
            found[record.id].extend(self._compare(round_.client(record).signature))
        if self._look_at != "signatures":
            for finding in findings_in_round(round_, against_server=self._look_at == "values"):
                self._add(finding, round_, found)
        self.mismatches.extend(
            ClientMismatch(round_.number, c, m) for c, each in found.items() for m in each
        )

    def _compare(self, signature: Signature) -> list[Mismatch]:
        found = self._compared.get(signature)
        if found is None:
            found = self._compared[signature] = compare_signatures(self._expected, signature)
        return found

    def _add(self, finding: Finding, round_: Round, found: dict[str, list[Mismatch]]) -> None:
        if finding.evidence.distance:
            self.observations.extend(_observations(finding, round_))
        else:
            found[finding.client].append(_value_mismatch(finding, self._expected))


def _value_mismatch(finding: Finding, expected: Signature) -> Mismatch:
    evidence, spec = finding.evidence, finding.spec
    kind = MismatchKind.NONFINITE if evidence.nonfinite else MismatchKind.ORDER
    rule, cause = _cause(kind, finding, expected)
    if evidence.nonfinite:
        actual = str(evidence.nonfinite)
        return Mismatch(spec.name, kind, "finite values", actual, cause, rule, evidence.nonfinite)
    return Mismatch(
        spec.name,
        kind,
        f"values of {spec.name}",
        f"values of {evidence.nearest}",
        cause,
        rule,
        values_of=evidence.nearest,
    )


def _observations(finding: Finding, round_: Round) -> Iterator[Observation]:
    _, cause = _cause(None, finding, round_.dataset.signature)
    if cause:
        yield Observation(
            round_.number,
            finding.client,
            finding.spec.name,
            "frozen",
            "the server model's values",
            f"values at a distance of {finding.evidence.distance:.3g}",
            cause,
        )


def _cause(kind: MismatchKind | None, finding: Finding, expected: Signature) -> tuple[str, str]:
    matching = match(expected, expected)
    difference = Difference(kind, finding.spec, finding.spec, matching, finding.evidence)
    return probable_cause(difference)
