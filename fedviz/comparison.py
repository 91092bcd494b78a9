"""Several aggregators on one round, side by side: what each makes of the same clients."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedviz.aggregation.aggregators import known_aggregator
from fedviz.aggregation.average import AverageResult, average
from fedviz.aggregation.cohort import WEIGHTINGS, Cohort, Divergent, validated_cohort
from fedviz.analysis.gram import gram_matrix, leave_one_out_influence, pairwise_distances
from fedviz.analysis.stored import stacks_of_round
from fedviz.dataset import WeightDataset
from fedviz.describe import table_text
from fedviz.errors import FedvizError, InvalidArgumentError, JobCancelledError, UnknownNameError
from fedviz.progress import Progress, ProgressCallback, silent
from fedviz.results import aggregate_name, measured
from fedviz.signature import Signature

__all__ = [
    "DEFAULT_CANDIDATES",
    "Candidate",
    "Comparison",
    "Contender",
    "compare",
    "comparison_text",
    "parse_candidate",
]


@dataclass(frozen=True)
class Candidate:
    """An aggregator with its parameters.

    Parameters
    ----------
    aggregator : str
    parameters : mapping of str to object
    weighting : str
        Its own, empty for that of the comparison.
    """

    aggregator: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    weighting: str = ""

    def name(self, weighting: str) -> str:
        """As the aggregate is called in a dataset, in a comparison of that weighting."""
        return aggregate_name(self.aggregator, self.weighting or weighting, self.parameters)

    def __str__(self) -> str:
        """As :func:`parse_candidate` reads it."""
        own = {"weighting": self.weighting} if self.weighting else {}
        settings = [f"{name}={value}" for name, value in {**self.parameters, **own}.items()]
        return ":".join([self.aggregator, *settings])


DEFAULT_CANDIDATES = (
    Candidate("mean"),
    Candidate("mean", weighting="uniform"),
    Candidate("median"),
    Candidate("trimmed-mean"),
    Candidate("krum"),
    Candidate("geometric-median"),
    Candidate("robust"),
)
"""What is compared where nobody chose: the means, and one rule of each kind."""


@dataclass(frozen=True)
class Contender:
    """What one candidate made of the round.

    Parameters
    ----------
    name : str
    candidate : Candidate
    result : AverageResult or None
        None where it could not be applied.
    scores : dict of str to float
        ``loss`` and ``accuracy`` on held-out examples, where the dataset has some.
    error : str
        Why it could not be applied; else empty.
    """

    name: str
    candidate: Candidate
    result: AverageResult | None
    scores: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several aggregators on one round.

    Parameters
    ----------
    round : int
    weighting : str
    clients : tuple of str
        The conforming clients, in the order of their rows.
    contenders : tuple of Contender
        In the order in which they were asked for.
    distances : ndarray of shape (k, k), float64
        ‖a − b‖ between the models of those that could be applied, over all float tensors; NaN
        where a value is not finite.
    by_tensor : mapping of str to ndarray of shape (k, k), float64
    server_distances : ndarray of shape (k,), float64
        ‖a − server‖; NaN without a server model.
    influence : ndarray of shape (clients,), float64
        How far the weighted mean moves when a client is left out; 0 for one of weight 0.
    """

    round: int
    weighting: str
    clients: tuple[str, ...]
    contenders: tuple[Contender, ...]
    distances: np.ndarray
    by_tensor: Mapping[str, np.ndarray]
    server_distances: np.ndarray
    influence: np.ndarray

    @property
    def applied(self) -> tuple[Contender, ...]:
        """Those that made a model: the rows of the distances."""
        return tuple(each for each in self.contenders if each.result is not None)

    def without_models(self) -> Comparison:
        """The same without the models' weights: a few numbers, cheap to keep and to send."""
        contenders = tuple(
            each
            if each.result is None
            else dataclasses.replace(each, result=dataclasses.replace(each.result, weights={}))
            for each in self.contenders
        )
        return dataclasses.replace(self, contenders=contenders)

    def to_json(self) -> dict[str, Any]:
        """What ``fedviz compare --json`` prints."""
        names = [each.name for each in self.applied]
        to_server = dict(zip(names, map(_known, self.server_distances), strict=True))
        return {
            "round": self.round,
            "weighting": self.weighting,
            "clients": list(self.clients),
            "aggregators": [
                {
                    "name": each.name,
                    "aggregator": each.candidate.aggregator,
                    "parameters": dict(each.candidate.parameters),
                    "weighting": each.candidate.weighting or self.weighting,
                    "seconds": each.result.seconds if each.result else None,
                    "engine": each.result.engine if each.result else None,
                    "distance_to_server": to_server.get(each.name),
                    "scores": dict(each.scores),
                    "measurements": each.result.measurements if each.result else {},
                    "error": each.error,
                }
                for each in self.contenders
            ],
            "distances": _known_rows(self.distances),
            "distances_by_tensor": {n: _known_rows(d) for n, d in self.by_tensor.items()},
            "influence": dict(zip(self.clients, map(_known, self.influence), strict=True)),
        }


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _known_rows(values: np.ndarray) -> list[list[float | None]]:
    return [[_known(value) for value in row] for row in values]


def parse_candidate(text: str) -> Candidate:
    """A candidate as the command takes it: ``krum``, ``krum:f=2`` or ``mean:weighting=uniform``.

    Raises
    ------
    UnknownNameError
        There is no such aggregator, parameter or weighting.
    InvalidArgumentError
        A parameter outside its range or without a value.
    """
    name, *settings = text.split(":")
    rule = known_aggregator(name)
    parameters: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise InvalidArgumentError(f"{text}: expected {name}:PARAMETER=VALUE.")
        parameters[key] = value
    weighting = parameters.pop("weighting", "")
    if weighting and weighting not in WEIGHTINGS:
        raise UnknownNameError(
            f"{text}: there is no weighting {weighting}; there are {', '.join(WEIGHTINGS)}."
        )
    return Candidate(name, rule.checked(parameters), weighting)


def compare(
    dataset: WeightDataset,
    candidates: Sequence[Candidate],
    round: int = -1,
    weighting: str = "num_examples",
    progress: ProgressCallback = silent,
    *,
    divergent: Divergent = "refuse",
    scored: bool = True,
) -> Comparison:
    """Apply several aggregators to one round.

    Parameters
    ----------
    dataset : WeightDataset
    candidates : sequence of Candidate
    round : int, default -1
        -1 is the last.
    weighting : {"num_examples", "uniform"}
    progress : callable, optional
        It may raise ``JobCancelledError``.
    divergent : {"refuse", "leave-out"}
    scored : bool, default True
        Whether to measure the models on held-out examples, where the dataset's recipe names some.

    Returns
    -------
    Comparison
        An aggregator that cannot be applied (too few clients, no server model, ...) is part of it,
        with the error's text.

    Raises
    ------
    InvalidArgumentError
        No candidates, or one of them twice.
    CohortError
        There is nobody to aggregate.
    """
    names = [candidate.name(weighting) for candidate in candidates]
    if not names or len(set(names)) < len(names):
        raise InvalidArgumentError(
            f"aggregators: expected one or more, each once; found {', '.join(names) or 'none'}."
        )
    cohort = validated_cohort(dataset.round(round), weighting, divergent)
    contenders = []
    for done, candidate in enumerate(candidates):
        report = _part(progress, done, len(candidates) + 1, names[done])
        contenders.append(_contend(cohort, candidate, weighting, divergent, scored, report))
    report = _part(progress, len(candidates), len(candidates) + 1, "influence of each client")
    made = [each.result.weights for each in contenders if each.result is not None]
    return Comparison(
        round=cohort.round.number,
        weighting=weighting,
        clients=cohort.ids,
        contenders=tuple(contenders),
        server_distances=_server_distances(cohort, made),
        influence=_influence(cohort, report),
        **_distances(dataset.signature, made),
    )


_STEPS = 1000


def _part(progress: ProgressCallback, done: int, total: int, name: str) -> ProgressCallback:
    """The callback of one part of the work; it has been told that the part begins."""

    def report(inner: Progress) -> None:
        steps = _STEPS * done + round(_STEPS * inner.fraction)
        message = f"{name}: {inner.message}" if inner.message else name
        progress(Progress(steps, _STEPS * total, message))

    report(Progress(0, 1, ""))
    return report


def _contend(
    cohort: Cohort,
    candidate: Candidate,
    weighting: str,
    divergent: Divergent,
    scored: bool,
    progress: ProgressCallback,
) -> Contender:
    name, dataset = candidate.name(weighting), cohort.round.dataset
    try:
        result = average(
            dataset,
            cohort.round.number,
            candidate.weighting or weighting,
            candidate.aggregator,
            candidate.parameters,
            progress,
            divergent=divergent,
        )
    except JobCancelledError:
        raise
    except FedvizError as error:
        return Contender(name, candidate, None, error=str(error))
    metrics = measured(result, dataset, name) if scored else []
    return Contender(name, candidate, result, {each.name: each.value for each in metrics})


def _distances(signature: Signature, models: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
    squares = {s.name: np.zeros((len(models), len(models))) for s in signature if s.is_float}
    # With themselves too: a model that is not finite has no distance, not even to itself.
    for (i, one), (j, other) in itertools.combinations_with_replacement(enumerate(models), 2):
        for name, square in squares.items():
            square[i, j] = square[j, i] = _squared_distance(one[name], other[name])
    total = sum(squares.values(), np.zeros((len(models), len(models))))
    return {
        "distances": np.sqrt(total),
        "by_tensor": {name: np.sqrt(square) for name, square in squares.items()},
    }


def _squared_distance(one: np.ndarray, other: np.ndarray) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        difference = one.astype("f8") - other.astype("f8")
        square = float(np.vdot(difference, difference))
    return square if np.isfinite(square) else np.nan


def _server_distances(cohort: Cohort, models: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    server = cohort.round.server
    if server is None:
        return np.full(len(models), np.nan)
    names = [spec.name for spec in cohort.round.dataset.signature if spec.is_float]
    start = {name: server[name] for name in names}
    return np.sqrt(
        [sum(_squared_distance(model[name], start[name]) for name in names) for model in models]
    )


def _influence(cohort: Cohort, progress: ProgressCallback) -> np.ndarray:
    floats = [spec.name for spec in cohort.round.dataset.signature if spec.is_float]
    server = cohort.round.server
    with stacks_of_round(cohort.round, floats, progress) as stacks:
        if server is None:
            # Seen from the origin, the distances between alike models would drown.
            gram = pairwise_distances(stacks, progress=progress).gram
        else:
            centre = {name: server[name] for name in floats}
            gram = gram_matrix(stacks, centre, per_tensor=False, progress=progress).total
    return leave_one_out_influence(gram, cohort.weights)


def comparison_text(found: Comparison) -> str:
    """What ``fedviz compare`` says to people."""
    names = [each.name for each in found.applied]
    to_server = dict(zip(names, found.server_distances, strict=True))
    metrics = list(dict.fromkeys(name for each in found.contenders for name in each.scores))
    rows = [
        (
            each.name,
            *(_number(each.scores.get(metric)) for metric in metrics),
            _number(to_server.get(each.name)),
            f"{each.result.seconds:.2f} s" if each.result else "",
        )
        for each in found.contenders
    ]
    lines = [
        f"round {found.round}, {len(found.clients)} clients, weighted by {found.weighting}",
        "",
        *table_text(("aggregator", *metrics, "from the server model", "time"), rows),
        *(f"{each.name}: {each.error}" for each in found.contenders if each.error),
    ]
    if len(names) > 1:
        distances = [(n, *map(_number, row)) for n, row in zip(names, found.distances, strict=True)]
        lines += ["", "distances between the models", *table_text(("", *names), distances)]
    influence = sorted(zip(found.influence, found.clients, strict=True), reverse=True)
    strongest = [(client, _number(value)) for value, client in influence[:_MOST_CLIENTS]]
    lines += [
        "",
        "how far the mean moves when a client is left out",
        *table_text(("client", "distance"), strongest),
    ]
    return "\n".join(lines)


_MOST_CLIENTS = 20


def _number(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.4g}"
