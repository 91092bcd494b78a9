"""Which aggregators a report compares: those that the round has, and NumPy's, which cost little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedviz.aggregation.aggregators import known_aggregator
from fedviz.analysis.courses import aggregate_scores, metric_of
from fedviz.comparison import Candidate, Comparison, compare
from fedviz.dataset import Round
from fedviz.errors import FedvizError
from fedviz.figures.text import byte_size
from fedviz.progress import ProgressCallback, silent
from fedviz.signature import Signature

__all__ = ["RULES", "RuleRow", "RulesCompared", "compare_rules", "model_distance"]

RULES = ("median", "trimmed-mean", "geometric-median", "krum", "multi-krum", "norm-bounded-mean")
"""Computed for a report where the round does not have them: NumPy's, which need no TensorFlow."""

_MOST_BYTES = 512 * 2**20


@dataclass(frozen=True)
class RuleRow:
    """One aggregator of the comparison.

    Parameters
    ----------
    name : str
    title : str
        What the rule is called; empty where the name is not one of fedviz's.
    origin : {"in the file", "for this report", "not applied"}
    score : float or None
        The round's metric, where it was measured.
    from_server, from_reference : float
        ‖a − server‖ / ‖server‖, and the same to the aggregate that the report is about; NaN where
        one of them is absent.
    error : str
        Why it could not be applied; else empty.
    """

    name: str
    title: str
    origin: str
    score: float | None
    from_server: float
    from_reference: float
    error: str = ""


@dataclass(frozen=True)
class RulesCompared:
    """The rows, what was left out and why, and each client's influence on the weighted mean."""

    rows: tuple[RuleRow, ...]
    note: str
    influence: Mapping[str, float]


def model_distance(
    model: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray] | None, signature: Signature
) -> float:
    """‖model − other‖ / ‖other‖ over all float tensors, in float64; NaN without the other."""
    if other is None:
        return float("nan")
    difference = norm = 0.0
    for spec in signature:
        if spec.is_float:
            start = np.asarray(other[spec.name], "f8")
            difference += float(np.sum((np.asarray(model[spec.name], "f8") - start) ** 2))
            norm += float(np.sum(start**2))
    return float(np.sqrt(difference / norm)) if norm else float("nan")


def compare_rules(
    round_: Round, reference: str | None, progress: ProgressCallback = silent
) -> RulesCompared:
    """Set the round's aggregates beside the rules that cost little.

    Parameters
    ----------
    round_ : Round
    reference : str, optional
        The aggregate whose weighting is used, and from which distances are counted.
    progress : callable, optional
        It may raise ``JobCancelledError``.

    Returns
    -------
    RulesCompared
        A round of more than 512 MiB, or one that cannot be aggregated, has its own aggregates
        only, and a note that says why.
    """
    found, note = _computed(round_, reference, progress)
    applied = {} if found is None else {c.name: c for c in found.contenders}
    target: Mapping[str, np.ndarray] | None = (
        round_.aggregates[reference] if reference is not None else None
    )
    metric = metric_of(round_)
    scores = aggregate_scores(round_, metric) if metric else {}
    signature = round_.dataset.signature
    rows = [
        RuleRow(
            name,
            _title(each.aggregator),
            "in the file",
            scores.get(name),
            model_distance(each, round_.server, signature),
            model_distance(each, target, signature),
        )
        for name, each in round_.aggregates.items()
    ]
    nan = float("nan")
    for name, each in applied.items():
        title = _title(each.candidate.aggregator)
        if each.result is None:
            rows.append(RuleRow(name, title, "not applied", None, nan, nan, each.error))
            continue
        model = each.result.weights
        from_server = model_distance(model, round_.server, signature)
        from_reference = model_distance(model, target, signature)
        rows.append(RuleRow(name, title, "for this report", None, from_server, from_reference))
    influence = {} if found is None else dict(zip(found.clients, found.influence, strict=True))
    return RulesCompared(tuple(rows), note, influence)


def _title(aggregator: str) -> str:
    try:
        return known_aggregator(aggregator).title
    except FedvizError:
        return ""


def _computed(
    round_: Round, reference: str | None, progress: ProgressCallback
) -> tuple[Comparison | None, str]:
    size = len(round_.conforming) * sum(spec.nbytes for spec in round_.dataset.signature)
    if size > _MOST_BYTES:
        return None, (
            f"The clients' weights are {byte_size(size)}: other aggregators were not computed for "
            "this report. fedviz compare applies them."
        )
    weighting = round_.aggregates[reference].weighting if reference else "num_examples"
    candidates = [Candidate(name) for name in RULES]
    missing = [c for c in candidates if c.name(weighting) not in round_.aggregates]
    if not missing:
        return None, ""
    try:
        found = compare(
            round_.dataset,
            missing,
            round_.number,
            weighting,
            progress,
            divergent="leave-out",
            scored=False,
        )
    except FedvizError as error:
        return None, f"Other aggregators could not be applied: {error}"
    left = len(round_.divergent)
    note = f"Without the {left} divergent clients. " if left else ""
    return found, (
        f"{note}Those made for this report were computed by NumPy, weighted by {weighting} where "
        "the rule weights its clients; their scores were not measured."
    )
