"""What a report says, in numbers: everything is read and computed here, nothing is drawn."""

from __future__ import annotations

import datetime
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from fedviz._version import __version__
from fedviz.analysis.aggregates import AggregateComparison, compare_aggregates
from fedviz.analysis.before_after import BeforeAfter, before_after
from fedviz.analysis.check import CheckReport, MismatchGroup, check, group_by_pattern
from fedviz.analysis.courses import MetricCourses, client_scores, metric_courses, metric_of
from fedviz.analysis.health import RoundHealth, round_health
from fedviz.analysis.readable import readable_rounds
from fedviz.analysis.statistics import RoundSummary, TensorSummary, summarise_round
from fedviz.dataset import Round, WeightDataset
from fedviz.progress import Progress, ProgressCallback, silent
from fedviz.report.rules import RulesCompared, compare_rules

__all__ = [
    "MOST_ROWS",
    "ClientRow",
    "ReportContents",
    "TensorRow",
    "TensorView",
    "report_contents",
]

MOST_ROWS = 15
"""Clients and tensors that are listed: those that stand out most."""

_MOST_VIEWS = 4
_LIBRARIES = ("numpy", "scipy", "h5py", "plotly")


@dataclass(frozen=True)
class ClientRow:
    """One client; NaN where something is not known."""

    id: str
    num_examples: int | None
    update: float
    distance: float
    influence: float
    score: float
    nonfinite: int
    divergent: bool


@dataclass(frozen=True)
class TensorRow:
    """One float tensor: ``spread`` and ``moved`` are shares of its own size; NaN if not known."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    spread: float
    moved: float
    furthest: str
    nonfinite: int


@dataclass(frozen=True, eq=False)
class TensorView:
    """One tensor before and after averaging, of the client furthest off and of the nearest."""

    tensor: str
    clients: tuple[str, str]
    values: BeforeAfter


@dataclass(frozen=True, eq=False)
class ReportContents:
    """Everything that a report says.

    ``unreadable`` holds what is wrong with rounds other than the report's own, which does not
    keep a report from being made. ``versions`` and ``made`` are for the method notes.
    """

    dataset: WeightDataset
    round: Round
    aggregate: str | None
    health: RoundHealth
    summary: RoundSummary
    check: CheckReport
    groups: tuple[MismatchGroup, ...]
    courses: MetricCourses | None
    metric: str | None
    clients: tuple[ClientRow, ...]
    tensors: tuple[TensorRow, ...]
    views: tuple[TensorView, ...]
    aggregates: AggregateComparison
    rules: RulesCompared
    unreadable: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    made: str


def report_contents(
    dataset: WeightDataset, round: int = -1, progress: ProgressCallback = silent
) -> ReportContents:
    """Read and compute what a report of one round says.

    Parameters
    ----------
    dataset : WeightDataset
    round : int, default -1
        Its number; -1 is the last.
    progress : callable, optional
        It may raise ``JobCancelledError``.

    Raises
    ------
    UnknownNameError
        There is no such round.
    DatasetFormatError
        The round is damaged. Damage in other rounds is part of the report.
    """
    chosen = dataset.round(round)
    names = list(chosen.aggregates)
    aggregate = names[-1] if names else None
    progress(Progress(0, 5, "reading the weights"))
    summary = summarise_round(chosen, chosen.aggregates[aggregate] if aggregate else None)
    progress(Progress(1, 5, "comparing the signatures"))
    found = check(dataset, round=chosen.number)
    progress(Progress(2, 5, "comparing aggregators"))
    rules = compare_rules(chosen, aggregate, _inner(progress, 2))
    progress(Progress(3, 5, "comparing the clients with the aggregate"))
    aggregates = compare_aggregates(
        chosen, chosen.aggregates[aggregate] if aggregate else None, None, summary
    )
    progress(Progress(4, 5, "reading the tensors that stand out"))
    _, unreadable = readable_rounds(dataset)
    tensors = _tensor_rows(chosen, summary)
    return ReportContents(
        dataset=dataset,
        round=chosen,
        aggregate=aggregate,
        health=round_health(chosen, summary),
        summary=summary,
        check=found,
        groups=group_by_pattern(found),
        courses=metric_courses(dataset),
        metric=metric_of(chosen),
        clients=_client_rows(chosen, summary, rules),
        tensors=tensors,
        views=_views(chosen, tensors, summary, aggregate),
        aggregates=aggregates,
        rules=rules,
        unreadable=unreadable,
        versions=_versions(),
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _inner(progress: ProgressCallback, step: int) -> ProgressCallback:
    """Reports of one step, told as a fraction of it."""

    def report(each: Progress) -> None:
        progress(Progress(step, 5, f"comparing aggregators: {each.message}"))

    return report


def _client_rows(
    round_: Round, summary: RoundSummary, rules: RulesCompared
) -> tuple[ClientRow, ...]:
    """The clients that stand out: divergent ones, those with NaN, then the furthest off."""
    metric = metric_of(round_)
    scores = client_scores(round_, metric) if metric else {}
    nan = float("nan")
    rows = []
    for record in round_.records:
        row = record.row
        rows.append(
            ClientRow(
                record.id,
                record.num_examples,
                nan if row is None else float(summary.updates[row]),
                nan if row is None else float(summary.distances[row]),
                rules.influence.get(record.id, nan),
                scores.get(record.id, nan),
                0 if row is None else int(summary.nonfinite[row]),
                row is None,
            )
        )
    return tuple(sorted(rows, key=_standing_out)[:MOST_ROWS])


def _standing_out(row: ClientRow) -> tuple[bool, bool, float]:
    far = row.distance if np.isfinite(row.distance) else row.update
    return not row.divergent, not row.nonfinite, -float(np.nan_to_num(far))


def _tensor_rows(round_: Round, summary: RoundSummary) -> tuple[TensorRow, ...]:
    """The tensors on which the clients disagree most."""
    ids = [record.id for record in round_.conforming]
    rows = []
    for each in summary.tensors:
        spec = round_.dataset.signature[each.name]
        furthest = _furthest(each.distances, each.updates)
        rows.append(
            TensorRow(
                each.name,
                spec.shape,
                spec.dtype,
                each.spread,
                each.moved,
                "" if furthest is None else ids[furthest],
                int(each.nonfinite.sum()),
            )
        )
    order = sorted(rows, key=lambda row: (not row.nonfinite, -np.nan_to_num(row.spread)))
    return tuple(order[:MOST_ROWS])


def _furthest(distances: np.ndarray, updates: np.ndarray) -> int | None:
    """The client furthest off: from the aggregate, or from the server model without one."""
    values = distances if np.isfinite(distances).any() else updates
    return int(np.nanargmax(values)) if np.isfinite(values).any() else None


def _views(
    round_: Round, tensors: Sequence[TensorRow], summary: RoundSummary, aggregate: str | None
) -> tuple[TensorView, ...]:
    """The largest tensor, then those on which the clients disagree most."""
    if not round_.conforming:
        return ()
    drawable = [row for row in tensors if 0 not in row.shape]
    largest = max(drawable, key=lambda row: math.prod(row.shape), default=None)
    others = [row for row in drawable if row is not largest]
    by_name = {each.name: each for each in summary.tensors}
    views = []
    for row in [largest, *others][:_MOST_VIEWS] if largest else []:
        pair = _furthest_and_nearest(round_, by_name[row.name])
        views.append(TensorView(row.name, pair, before_after(round_, row.name, pair, aggregate)))
    return tuple(views)


def _furthest_and_nearest(round_: Round, tensor: TensorSummary) -> tuple[str, str]:
    values = tensor.distances if np.isfinite(tensor.distances).any() else tensor.updates
    ranked = np.argsort(np.nan_to_num(values, nan=-1.0), kind="stable")
    first, last = round_.conforming[ranked[-1]].id, round_.conforming[ranked[0]].id
    return first, last


def _versions() -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, Any]] = [("fedviz", __version__), ("Python", platform.python_version())]
    return tuple(found + [(name, metadata.version(name)) for name in _LIBRARIES])
