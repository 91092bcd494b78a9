"""How a model and its clients move over the rounds, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedviz.analysis.heatmap import MatrixLayout, layout_for
from fedviz.analysis.models import Models, Role
from fedviz.analysis.reduction import ReducedMatrix, block_steps, reduce_by
from fedviz.analysis.scales import shared_limit
from fedviz.analysis.statistics import RoundSummary, relative_distance
from fedviz.dataset import Round, WeightDataset, WeightMap
from fedviz.errors import FedvizError
from fedviz.signature import TensorSpec

__all__ = [
    "MOST_LINES",
    "Foremost",
    "RoundCourses",
    "TensorInRound",
    "TensorOverRounds",
    "foremost",
    "round_courses",
    "tensor_over_rounds",
]

_CELLS = 96
"""Cells a side of a small multiple."""

MOST_LINES = 40
"""Courses that are shown one by one; more can neither be told apart nor drawn at once."""

_BAND = (5.0, 95.0)

# A start of so many bytes stays in memory, a larger one is read again in each round.
_KEPT_START_BYTES = 256 << 20


@dataclass(frozen=True, eq=False)
class RoundCourses:
    """All float tensors over all rounds; NaN where a number is not known.

    Attributes
    ----------
    rounds : tuple of int
    tensors, clients : tuple of str
    drift : ndarray of shape (rounds, tensors), float64
        ‖now − start‖ / ‖start‖: the round's aggregate, or its server model without one, against
        the first server model that can be read.
    moved : ndarray of shape (rounds, tensors), float64
        ‖aggregate − server‖ / ‖server‖ within the round.
    updates : ndarray of shape (rounds, tensors), float64
        Mean over the clients of ‖client − server‖.
    disagreement : ndarray of shape (rounds, tensors), float64
        Standard deviation across the clients, over the tensor's rms.
    client_updates : ndarray of shape (rounds, clients), float64
        Norm of each client's whole update.
    damaged : tuple of (int, str)
        Rounds that cannot be read, and why; the others are whole.
    """

    rounds: tuple[int, ...]
    tensors: tuple[str, ...]
    clients: tuple[str, ...]
    drift: np.ndarray
    moved: np.ndarray
    updates: np.ndarray
    disagreement: np.ndarray
    client_updates: np.ndarray
    damaged: tuple[tuple[int, str], ...]


def round_courses(
    dataset: WeightDataset,
    aggregate: str | None,
    summarise: Callable[[Round, str | None], RoundSummary] | None,
) -> RoundCourses:
    """Follow every float tensor over the rounds.

    Parameters
    ----------
    dataset : WeightDataset
    aggregate : str, optional
        Name of the aggregate that is followed, in the rounds that have it.
    summarise : callable, optional
        Gives a round's summary. Without it clients are not read: of a large file only the server
        models and aggregates, and what needs clients is NaN.
    """
    specs = [spec for spec in dataset.signature if spec.is_float]
    shape = (len(dataset.rounds), len(specs))
    drift, moved, updates, spread = (np.full(shape, np.nan) for _ in range(4))
    ids = dict(_ids(dataset))
    clients = np.full((shape[0], len(ids)), np.nan)
    damaged = []
    start: Mapping[str, np.ndarray] | None = None
    for i, each in enumerate(dataset.rounds):
        try:
            start = start or _start(each.server, specs)
            found = each.aggregates.get(aggregate) if aggregate else None
            for j, spec in enumerate(specs):
                drift[i, j], moved[i, j] = _moves(start, each.server, found, spec.name)
            if summarise is None:
                continue
            summary = summarise(each, aggregate if found is not None else None)
            updates[i] = [_mean(tensor.updates) for tensor in summary.tensors]
            spread[i] = [tensor.spread for tensor in summary.tensors]
            places = [ids[record.id] for record in each.conforming]
            clients[i, places] = summary.updates
        except FedvizError as error:
            damaged.append((each.number, str(error)))
            drift[i] = moved[i] = updates[i] = spread[i] = np.nan
    return RoundCourses(
        tuple(each.number for each in dataset.rounds),
        tuple(spec.name for spec in specs),
        tuple(ids),
        drift,
        moved,
        updates,
        spread,
        clients,
        tuple(damaged),
    )


def _start(
    server: WeightMap | None, specs: Sequence[TensorSpec]
) -> Mapping[str, np.ndarray] | None:
    """The server model; half of a hundred rounds' time went into reading the first one again."""
    if server is None or sum(spec.nbytes for spec in specs) > _KEPT_START_BYTES:
        return server
    return {spec.name: server[spec.name] for spec in specs}


def _ids(dataset: WeightDataset) -> list[tuple[str, int]]:
    """The clients' ids and places; those of a damaged round are not known."""
    found: dict[str, None] = {}
    for each in dataset.rounds:
        try:
            found.update(dict.fromkeys(record.id for record in each.records))
        except FedvizError:
            continue
    return [(client, place) for place, client in enumerate(found)]


def _moves(
    start: Mapping[str, np.ndarray] | None,
    server: WeightMap | None,
    aggregate: WeightMap | None,
    tensor: str,
) -> tuple[float, float]:
    nan = float("nan")
    if start is None or server is None:
        return nan, nan
    origin, before = start[tensor], server[tensor]
    now = before if aggregate is None else aggregate[tensor]
    moved = nan if aggregate is None else relative_distance(now, before)
    return relative_distance(now, origin), moved


@dataclass(frozen=True, eq=False)
class Foremost:
    """Courses that stand out, and where all of them lie.

    Attributes
    ----------
    names : tuple of str
        As they were given, but not all where they are many.
    values : ndarray of shape (rounds, names), float64
    band : ndarray of shape (2, rounds), float64, or None
        The 5th and 95th percentile of all courses, NaN in a round without values; None where all
        are among the names.
    """

    names: tuple[str, ...]
    values: np.ndarray
    band: np.ndarray | None


def foremost(values: np.ndarray, names: Sequence[str], selected: str) -> Foremost:
    """The selected course and those that reach highest, :data:`MOST_LINES` in all.

    Parameters
    ----------
    values : ndarray of shape (rounds, names), float64
    names : sequence of str
    selected : str
        Is always among them, if it is one of the names.
    """
    if len(names) <= MOST_LINES:
        return Foremost(tuple(names), values, None)
    tops = np.where(np.isfinite(values), values, -np.inf).max(axis=0)
    is_selected = np.array([name == selected for name in names])
    first = np.lexsort((-tops, ~is_selected))[:MOST_LINES]
    kept = np.sort(first)
    band = np.full((2, len(values)), np.nan)
    for i, row in enumerate(values):
        if np.isfinite(row).any():
            band[:, i] = np.percentile(row[np.isfinite(row)], _BAND)
    return Foremost(tuple(names[i] for i in kept), values[:, kept], band)


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


@dataclass(frozen=True, eq=False)
class TensorInRound:
    """One tensor in one round, small; no matrix where the round has none or cannot be read."""

    round: int
    matrix: ReducedMatrix | None


@dataclass(frozen=True, eq=False)
class TensorOverRounds:
    """One tensor in several rounds, on one scale from −limit to +limit."""

    layout: MatrixLayout
    limit: float
    panels: tuple[TensorInRound, ...]


def tensor_over_rounds(
    dataset: WeightDataset,
    tensor: str,
    aggregate: str | None,
    role: Role,
    rounds: Sequence[int],
    percentile: float = 99.5,
) -> TensorOverRounds:
    """Small multiples of one tensor; a damaged round leaves its place empty.

    Parameters
    ----------
    dataset : WeightDataset
    tensor : str
    aggregate : str, optional
    role : {"aggregate", "server", "aggregate-server"}
    rounds : sequence of int
    percentile : float
        Of the absolute values of all rounds, block by block, that the scale reaches to.
    """
    layout = layout_for(dataset.signature[tensor].shape, tensor)
    panels = [
        TensorInRound(number, _matrix(dataset.round(number), tensor, layout, aggregate, role))
        for number in rounds
    ]
    shown = [panel.matrix.values for panel in panels if panel.matrix is not None]
    return TensorOverRounds(layout, shared_limit(shown, percentile), tuple(panels))


def _matrix(
    round_: Round, tensor: str, layout: MatrixLayout, aggregate: str | None, role: Role
) -> ReducedMatrix | None:
    try:
        known = aggregate if aggregate in round_.aggregates else None
        if not round_.records:
            return None
        first = (round_.conforming or round_.records)[0].id
        models = Models(round_, tensor, layout, (first, first), known)
        if role not in models.available((role,)):
            return None
        steps = block_steps(layout.shape, _CELLS)
        rows, columns = slice(0, layout.shape[0]), slice(0, layout.shape[1])
        values = models.matrices((role,), rows, columns)[role]
        return reduce_by(values, steps, "signed-extreme", gap=layout.gap)
    except FedvizError:
        return None
