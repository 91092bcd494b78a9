"""A repair plan as a person decides on it: clients with the same mismatches in one row.

A plan has a repair for each mismatch of each client, thousands of them. Here a row has a few ways
to deal with all mismatches of its clients. This module knows no Streamlit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from fedviz.dashboard.wording import plain
from fedviz.dataset import WeightDataset
from fedviz.figures.text import counted, percentage
from fedviz.repair import Repair, RepairKind, RepairOption, RepairPlan
from fedviz.signature import MismatchKind

__all__ = ["RepairRow", "Way", "chosen_plan", "repair_rows", "row_cost", "row_text"]

_LABELS = {
    RepairKind.RENAME: "Rename",
    RepairKind.REORDER: "Reorder",
    RepairKind.TRANSPOSE: "Transpose",
    RepairKind.RESHAPE: "Reshape",
    RepairKind.CAST: "Cast",
    RepairKind.DROP_TENSOR: "Drop tensor",
    RepairKind.USE_SERVER: "Use server's",
    RepairKind.DROP_CLIENT: "Leave out",
}
_NOT_OWN = (RepairKind.USE_SERVER, RepairKind.DROP_CLIENT)
_PROBLEMS = {
    MismatchKind.SHAPE: "has another shape",
    MismatchKind.RANK: "has another rank",
    MismatchKind.DTYPE: "has another dtype",
    MismatchKind.MISSING: "is missing",
    MismatchKind.EXTRA: "is not expected",
    MismatchKind.ORDER: "is in another place",
    MismatchKind.NAME: "has another name",
    MismatchKind.NONFINITE: "is not finite",
}


@dataclass(frozen=True)
class Way:
    """One way to deal with the mismatches of a client: for each repair the index of an option."""

    label: str
    picks: tuple[int, ...]


@dataclass(frozen=True)
class RepairRow:
    """Clients with the same mismatches and the same options.

    Parameters
    ----------
    places : tuple of (int, str)
        Round and client.
    indices : tuple of tuple of int
        For each place, which repairs of the plan are its own.
    repairs : tuple of tuple of Repair
        The same repairs themselves.
    ways : tuple of Way
        What can be done, the safest first.
    """

    places: tuple[tuple[int, str], ...]
    indices: tuple[tuple[int, ...], ...]
    repairs: tuple[tuple[Repair, ...], ...]
    ways: tuple[Way, ...]

    @property
    def clients(self) -> tuple[str, ...]:
        """Ids of the clients, each once."""
        return tuple(dict.fromkeys(client for _, client in self.places))

    def options(self, way: int) -> list[RepairOption]:
        """The options of one way, of all places."""
        picks = self.ways[way].picks
        return [
            repair.options[pick]
            for repairs in self.repairs
            for repair, pick in zip(repairs, picks, strict=True)
        ]


def repair_rows(plan: RepairPlan) -> tuple[RepairRow, ...]:
    """The plan's repairs in rows: those of most clients first, and a client's together."""
    by_place: dict[tuple[int, str], list[int]] = {}
    for index, repair in enumerate(plan.repairs):
        by_place.setdefault((repair.round, repair.client), []).append(index)
    alike: dict[tuple[object, ...], list[tuple[int, str]]] = {}
    for place, indices in by_place.items():
        pattern = tuple(_pattern(plan.repairs[i]) for i in indices)
        alike.setdefault(pattern, []).append(place)
    rows = []
    for places in alike.values():
        owned = tuple(tuple(by_place[place]) for place in places)
        repairs = tuple(tuple(plan.repairs[i] for i in own) for own in owned)
        rows.append(RepairRow(tuple(places), owned, repairs, _ways(repairs[0])))
    order = {client: i for i, client in enumerate(dict.fromkeys(r.client for r in plan.repairs))}
    return tuple(sorted(rows, key=lambda row: (-len(row.clients), order[row.clients[0]])))


def _pattern(repair: Repair) -> tuple[object, ...]:
    found = repair.mismatch
    actual = "" if found.kind is MismatchKind.NONFINITE else found.actual
    kinds = tuple(option.kind for option in repair.options)
    return repair.tensor, found.kind, found.expected, actual, kinds


def _ways(repairs: Sequence[Repair]) -> tuple[Way, ...]:
    own = _picks(repairs, lambda kind: kind not in _NOT_OWN, _is_server)
    server = _picks(repairs, _is_server, lambda kind: kind not in _NOT_OWN)
    left_out = _picks(repairs, _is_dropped)
    safest: tuple[int, ...] | None = (0,) * len(repairs)
    if any(repair.options[0].kind is RepairKind.DROP_CLIENT for repair in repairs):
        safest = left_out
    ways: dict[tuple[int, ...], str] = {}
    for picks in (safest, own, left_out, server):
        if picks is not None and picks not in ways:
            label = _label(repairs, picks, is_servers=picks == server != own)
            ways[picks] = label if label not in ways.values() else f"{label} anyway"
    return tuple(Way(label, picks) for picks, label in ways.items())


def _is_server(kind: RepairKind) -> bool:
    return kind is RepairKind.USE_SERVER


def _is_dropped(kind: RepairKind) -> bool:
    return kind is RepairKind.DROP_CLIENT


def _picks(
    repairs: Iterable[Repair], *wanted: Callable[[RepairKind], bool]
) -> tuple[int, ...] | None:
    """For each repair the first option that is wanted; None where one has no such option."""
    picks = []
    for repair in repairs:
        found = [
            i for like in wanted for i, option in enumerate(repair.options) if like(option.kind)
        ]
        if not found:
            return None
        picks.append(found[0])
    return tuple(picks)


def _label(repairs: Sequence[Repair], picks: tuple[int, ...], *, is_servers: bool) -> str:
    kinds = {repair.options[pick].kind for repair, pick in zip(repairs, picks, strict=True)}
    if len(kinds) == 1:
        return _LABELS[kinds.pop()]
    return _LABELS[RepairKind.USE_SERVER] if is_servers else "Repair"


def chosen_plan(plan: RepairPlan, rows: Iterable[RepairRow], ways: Iterable[int]) -> RepairPlan:
    """The plan with the chosen way of every row."""
    repairs = list(plan.repairs)
    for row, way in zip(rows, ways, strict=True):
        for indices in row.indices:
            for index, pick in zip(indices, row.ways[way].picks, strict=True):
                if repairs[index].chosen != pick:
                    repairs[index] = dataclasses.replace(repairs[index], chosen=pick)
    return RepairPlan(tuple(repairs))


# --- in words -----------------------------------------------------------------------------------


def row_text(row: RepairRow, way: int) -> str:
    """What a way does, as Markdown: ``Transpose `dense/kernel```."""
    repairs = row.repairs[0]
    picked = [
        (repair.options[pick].kind, repair)
        for repair, pick in zip(repairs, row.ways[way].picks, strict=True)
    ]
    if picked[0][0] is RepairKind.DROP_CLIENT:
        first = repairs[0]
        more = f", and {len(repairs) - 1} more" if len(repairs) > 1 else ""
        return f"Leave out: {plain(first.tensor)} {_PROBLEMS[first.mismatch.kind]}{more}"
    picked.sort(key=lambda each: list(RepairKind).index(each[0]))
    phrases = [
        _phrase(kind, [repair for _, repair in group])
        for kind, group in groupby(picked, lambda each: each[0])
    ]
    text = ", ".join(phrases)
    return text[0].upper() + text[1:]


def _phrase(kind: RepairKind, repairs: Sequence[Repair]) -> str:
    tensors = plain(repairs[0].tensor) if len(repairs) == 1 else f"{len(repairs):,} tensors"
    if kind is RepairKind.REORDER:
        by_value = bool(repairs[0].mismatch.values_of)
        return f"put the values of {tensors} back" if by_value else "bring the tensors into order"
    if kind is RepairKind.USE_SERVER:
        return f"take {tensors} from the server model"
    if kind is RepairKind.CAST:
        return f"cast {tensors} to {repairs[0].mismatch.expected}"
    return f"{'drop' if kind is RepairKind.DROP_TENSOR else kind.value} {tensors}"


def row_cost(row: RepairRow, way: int, dataset: WeightDataset) -> str:
    """What a way costs: what is lost, and how far the result lies from the cohort's mean."""
    options = row.options(way)
    if options[0].kind is RepairKind.DROP_CLIENT:
        return _examples_lost(row, dataset)
    parts = [_loss(options)]
    distances = [option.distance for option in options if option.distance is not None]
    if distances:
        most = "at most " if len(distances) > 1 else ""
        parts.append(f"{most}{percentage(max(distances), 0)} from the cohort's mean")
    return "; ".join(parts)


def _loss(options: Sequence[RepairOption]) -> str:
    lossy = {option.kind for option in options if not option.lossless}
    if RepairKind.USE_SERVER in lossy:
        return "the client's update of it is lost"
    if RepairKind.CAST in lossy:
        return "values are rounded"
    return "the server model has none" if lossy else "lossless"


def _examples_lost(row: RepairRow, dataset: WeightDataset) -> str:
    examples = {
        (number, record.id): record.num_examples
        for number in {number for number, _ in row.places}
        for record in dataset.round(number).records
    }
    counts = [examples[place] for place in row.places]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return "its examples are lost" if len(counts) == 1 else "their examples are lost"
    verb = "is" if sum(known) == 1 else "are"
    return f"{counted(sum(known), 'example')} {verb} lost"
