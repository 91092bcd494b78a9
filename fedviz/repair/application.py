"""Carrying out a repair plan, on signatures for a preview and on weights for a new dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedviz.dataset import Round, WeightDataset
from fedviz.errors import InvalidArgumentError
from fedviz.progress import Progress, ProgressCallback, silent
from fedviz.records import ClientRecord
from fedviz.repair.casting import cast_values
from fedviz.repair.plans import Repair, RepairKind, RepairOption, RepairPlan
from fedviz.signature import Signature, TensorSpec, match
from fedviz.writer import ClientEntry, RoundWriter, WeightDatasetWriter

__all__ = ["Preview", "apply_repairs", "preview"]


@dataclass(frozen=True)
class Preview:
    """What a dataset would be after a plan.

    Counts are of clients in rounds: a client that takes part in three rounds counts three times.
    ``share_of_examples`` is what is left of the examples, None where they are not known.
    """

    clients_before: int
    conforming_before: int
    clients_after: int
    conforming_after: int
    share_of_examples: float | None
    lossless: bool

    @property
    def agrees(self) -> bool:
        """Whether every client would have the dataset's signature."""
        return self.clients_after == self.conforming_after


def preview(plan: RepairPlan, dataset: WeightDataset) -> Preview:
    """What applying a plan would leave, from the signatures alone."""
    places = [(each, record) for each in dataset.rounds for record in each.records]
    left = [(r, rec) for r, rec in places if rec.id not in plan.dropped_clients(r.number)]
    conforming = [
        record
        for round_, record in left
        if _repaired_signature(plan, round_, record).agrees_with(dataset.signature)
    ]
    return Preview(
        clients_before=len(places),
        conforming_before=sum(record.conforming for _, record in places),
        clients_after=len(left),
        conforming_after=len(conforming),
        share_of_examples=_share(places, left),
        lossless=all(repair.choice.lossless for repair in plan.repairs),
    )


def _share(
    places: Iterable[tuple[Round, ClientRecord]], left: Iterable[tuple[Round, ClientRecord]]
) -> float | None:
    before = [record.num_examples for _, record in places]
    after = [record.num_examples for _, record in left]
    known = [n for n in before if n is not None]
    if len(known) < len(before) or not sum(known):
        return None
    return sum(n for n in after if n is not None) / sum(known)


def _repaired_signature(plan: RepairPlan, round_: Round, record: ClientRecord) -> Signature:
    repairs = plan.of_client(round_.number, record.id)
    own = round_.dataset.signature if record.conforming else round_.client(record).signature
    if not repairs:
        return own
    return Signature(tuple(part.spec for part in _parts(round_, own, repairs)))


@dataclass(frozen=True)
class _Part:
    """One tensor of a repaired client: what the reference and the client have, and what is done.

    ``expected`` is None for an extra tensor, ``own`` for one that the server lends.
    """

    expected: TensorSpec | None
    own: TensorSpec | None
    choices: Mapping[RepairKind, RepairOption]

    @property
    def is_lent(self) -> bool:
        """Whether the values are the server's."""
        return self.own is None or RepairKind.USE_SERVER in self.choices

    @property
    def spec(self) -> TensorSpec:
        """What the tensor is after the repair."""
        if self.own is None or self.expected is None:
            spec = self.expected or self.own
            assert spec is not None
            return spec
        if self.is_lent:
            return self.expected
        own, expected, done = self.own, self.expected, self.choices
        turned = RepairKind.TRANSPOSE in done or RepairKind.RESHAPE in done
        return TensorSpec(
            expected.name if RepairKind.RENAME in done else own.name,
            expected.shape if turned else own.shape,
            expected.dtype if RepairKind.CAST in done else own.dtype,
            own.trainable,
        )

    def values(
        self, weights: Mapping[str, np.ndarray], server: Mapping[str, np.ndarray] | None
    ) -> np.ndarray:
        """The tensor after the repair."""
        if self.is_lent:
            assert server is not None
            return server[self.spec.name]
        assert self.own is not None
        moved = self.choices.get(RepairKind.REORDER)
        values = weights[moved.source if moved else self.own.name]
        turned = self.choices.get(RepairKind.TRANSPOSE)
        if turned:
            values = np.ascontiguousarray(np.transpose(values, turned.axes))
        if RepairKind.CAST in self.choices:
            cast = cast_values(values, self.spec.numpy_dtype)
            assert cast is not None
            values = cast
        return values.reshape(self.spec.shape)


def _parts(round_: Round, own: Signature, repairs: Sequence[Repair]) -> list[_Part]:
    """The tensors of a repaired client, in order."""
    reference = round_.dataset.signature
    matching = match(reference, own)
    choices: dict[str, dict[RepairKind, RepairOption]] = {}
    left_out, by_position = set(), False
    for repair in repairs:
        option = repair.choice
        if option.kind is RepairKind.DROP_TENSOR:
            left_out.add(repair.tensor)
        elif option.kind is RepairKind.REORDER and not option.source:
            by_position = True
        else:
            choices.setdefault(repair.tensor, {})[option.kind] = option
    expected = {other.name: spec for spec, other in matching.pairs}
    parts = []
    for other in own:
        spec = expected.get(other.name)
        if spec is not None:
            parts.append(_Part(spec, other, choices.get(spec.name, {})))
        elif other.name not in left_out:
            parts.append(_Part(None, other, {}))
    lent = [
        spec for spec in matching.missing if RepairKind.USE_SERVER in choices.get(spec.name, {})
    ]
    parts += [_Part(spec, None, {}) for spec in lent]
    if by_position or lent:
        last = len(reference)
        parts.sort(key=lambda p: reference.index(p.expected.name) if p.expected else last)
    return parts


def apply_repairs(
    plan: RepairPlan,
    dataset: WeightDataset,
    out: str | Path,
    progress: ProgressCallback = silent,
) -> None:
    """Write a new dataset in which the plan is carried out; the old one stays as it is.

    Everything else is kept: all rounds, server models, aggregates (they are those of the old
    clients), metrics and label counts of the clients that are left, and the ground truth. The
    recipe gains ``repair``, which says what was done. Memory holds one client.

    Parameters
    ----------
    plan : RepairPlan
    dataset : WeightDataset
    out : path
        A new file; an existing one is replaced when the new one is complete.
    progress : callable
        Told of every client; it may raise ``JobCancelledError``.

    Raises
    ------
    InvalidArgumentError
        ``out`` is the dataset's own file.
    StorageError, LockedFileError
        The file cannot be written.
    """
    out = Path(out)
    if out.exists() and out.samefile(dataset.path):
        raise InvalidArgumentError(
            f"{out.name}: a repair is written into a new file; choose another name."
        )
    recipe = {**dataset.recipe, "repair": _noted(plan, dataset)}
    with WeightDatasetWriter(out, dataset.signature, recipe) as writer:
        for round_ in dataset.rounds:
            _write_round(plan, round_, writer, progress)
        if dataset.ground_truth:
            writer.write_ground_truth(dataset.ground_truth)


def _noted(plan: RepairPlan, dataset: WeightDataset) -> dict[str, Any]:
    return {
        "file": dataset.path.name,
        "repairs": [
            {
                "round": repair.round,
                "client": repair.client,
                "tensor": repair.tensor,
                "mismatch": repair.mismatch.kind.value,
                "repair": repair.choice.kind.value,
                "lossless": repair.choice.lossless,
            }
            for repair in plan.repairs
        ],
    }


def _write_round(
    plan: RepairPlan, round_: Round, writer: WeightDatasetWriter, progress: ProgressCallback
) -> None:
    dropped = plan.dropped_clients(round_.number)
    kept = [record for record in round_.records if record.id not in dropped]
    entries = [
        ClientEntry(r.id, r.num_examples, _repaired_signature(plan, round_, r)) for r in kept
    ]
    with writer.round(entries, round_.server) as new:
        for position, record in enumerate(kept):
            progress(Progress(position, len(kept), f"round {round_.number}, client {record.id}"))
            weights = round_.client(record)
            repairs = plan.of_client(round_.number, record.id)
            if not repairs:
                new.write_client(record.id, weights)
                continue
            parts = _parts(round_, weights.signature, repairs)
            arrays = [part.values(weights, round_.server) for part in parts]
            new.write_client(record.id, arrays)
        _write_the_rest(round_, kept, new)


def _write_the_rest(round_: Round, kept: Sequence[ClientRecord], new: RoundWriter) -> None:
    for name, aggregate in round_.aggregates.items():
        new.write_aggregate(
            name,
            aggregate,
            aggregator=aggregate.aggregator,
            weighting=aggregate.weighting,
            parameters=aggregate.parameters,
            measurements=aggregate.measurements,
        )
    ids = {record.id for record in kept}
    metrics = [m for m in round_.metrics if m.role != "client" or m.subject in ids]
    if metrics:
        new.write_metrics(metrics)
    if round_.label_counts is not None:
        rows = [i for i, record in enumerate(round_.records) if record.id in ids]
        new.write_label_counts(round_.label_counts[rows])
