"""Every aggregator by name: TFF's mean over mapped rows, TFF's own processes, and robust rules.

Reading this table loads neither TensorFlow nor TFF.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fedviz.aggregation.cohort import Cohort, Divergent, validated_cohort
from fedviz.aggregation.machines import (
    LostWorkerWarning,
    WorkerAddress,
    engine_of,
    listed_workers,
)
from fedviz.aggregation.mappable import mappable, needs_copy
from fedviz.aggregation.tff_aggregators import TFF_AGGREGATORS, TffAggregator
from fedviz.analysis.stored import stacks_of_round
from fedviz.dataset import Round
from fedviz.errors import CohortError, UnknownNameError, located
from fedviz.parameters import Rule
from fedviz.progress import Progress, ProgressCallback, silent
from fedviz.robust import RULES, RobustRule, run_server_updates
from fedviz.robust.rules import aggregate as apply_rule
from fedviz.signature import TensorSpec

__all__ = ["AGGREGATORS", "Aggregation", "Aggregator", "Request", "known_aggregator"]


@dataclass(frozen=True)
class Aggregation:
    """What an aggregator made of the float tensors: arrays by name, and what it measured.

    ``engine`` is what ran it, where that is not the worker of this machine.
    """

    tensors: Mapping[str, np.ndarray]
    measurements: Mapping[str, Any] = field(default_factory=dict)
    engine: str = ""


@dataclass(frozen=True)
class Request:
    """What an aggregator is asked for.

    Parameters
    ----------
    cohort : Cohort
        Whom to aggregate.
    earlier : tuple of Cohort
        Those of the rounds before, whose state is handed on; none for most.
    specs : tuple of TensorSpec
        The float tensors.
    weighting : str
    divergent : {"refuse", "leave-out"}
    parameters : mapping of str to object
    progress : callable
    """

    cohort: Cohort
    earlier: tuple[Cohort, ...]
    specs: tuple[TensorSpec, ...]
    weighting: str
    divergent: Divergent
    parameters: Mapping[str, Any]
    progress: ProgressCallback


@dataclass(frozen=True, kw_only=True)
class Aggregator(Rule):
    """A rule, and how it is applied to a round.

    Parameters
    ----------
    engine : {"tff", "numpy"}
        What computes it.
    aggregate : callable
        From a request to an aggregation.
    history : {"none", "optional", "always"}
        Whether the rounds before count: what an optimiser or an adaptive norm remembers.
    on_machines : bool, default False
        Whether the workers of other machines compute it, where ``FEDVIZ_TFF_WORKERS`` lists some.
    """

    engine: Literal["tff", "numpy"]
    aggregate: Callable[[Request], Aggregation]
    history: Literal["none", "optional", "always"] = "none"
    on_machines: bool = False

    def check_cohort(self, cohort: Cohort, parameters: Mapping[str, Any]) -> None:
        """Refuse a cohort that the rule cannot be applied to.

        Raises
        ------
        CohortError
            Too few clients, or no server model where one is needed.
        """
        smallest = self.minimum_cohort(parameters)
        if cohort.num_clients < smallest:
            raise _refused(
                cohort.round,
                f"{self.name} needs {self.cohort}, here {smallest} clients of weight above 0; "
                f"found {cohort.num_clients}",
            )
        if self.needs_server and cohort.round.server is None:
            raise _refused(cohort.round, f"{self.name} needs the server model; this round has none")


def _refused(round_: Round, message: str) -> CohortError:
    return CohortError(located(message, file=round_.dataset.path, round=round_.number))


def known_aggregator(name: str) -> Aggregator:
    """The aggregator of a name.

    Raises
    ------
    UnknownNameError
        There is none.
    """
    if name not in AGGREGATORS:
        raise UnknownNameError(
            f"there is no aggregator {name}; there are {', '.join(AGGREGATORS)}."
        )
    return AGGREGATORS[name]


def _federated_mean(request: Request) -> Aggregation:
    workers = listed_workers()
    if workers:
        return _mean_on_machines(request.cohort, request.specs, request.progress, workers)
    return Aggregation(_mean(request.cohort, request.specs, request.progress))


def _mean(
    cohort: Cohort, specs: Sequence[TensorSpec], progress: ProgressCallback
) -> dict[str, np.ndarray]:
    from fedviz.aggregation.federated_mean import federated_mean_of_rows
    from fedviz.aggregation.memory_map import mapped_tensors

    def report(index: int) -> None:
        progress(Progress(index, len(specs), f"averaging {specs[index].name}"))

    with mappable(cohort, progress) as mapped:
        tensors = mapped_tensors(mapped.round, specs)
        means = federated_mean_of_rows(tensors, cohort.weights, progress=report)
        mapped.round.dataset.check_unchanged()
    progress(Progress(len(specs), len(specs), "averaged"))
    return {spec.name: mean for spec, mean in zip(specs, means, strict=True)}


def _mean_on_machines(
    cohort: Cohort,
    specs: Sequence[TensorSpec],
    progress: ProgressCallback,
    workers: Sequence[WorkerAddress],
) -> Aggregation:
    from fedviz.aggregation.mean_on_machines import federated_mean_on_machines
    from fedviz.aggregation.memory_map import mapped_tensors

    def report(done: int, total: int, worker: str) -> None:
        progress(Progress(done, total, f"averaging on {len(workers)} machines, last {worker}"))

    # A copy of what cannot be mapped would lie on this machine, where the others do not see it.
    if needs_copy(cohort):
        raise _refused(
            cohort.round,
            "its tensors are not in one piece each, so that the machines of FEDVIZ_TFF_WORKERS "
            "cannot map them; unset it to average here, which copies them first, or make a dataset "
            "of it with fedviz import",
        )
    tensors = mapped_tensors(cohort.round, specs)
    means, dealt = federated_mean_on_machines(tensors, cohort.weights, workers, report)
    cohort.round.dataset.check_unchanged()
    for loss in dealt.losses():
        warnings.warn(f"lost TFF worker {loss}.", LostWorkerWarning, stacklevel=2)
    return Aggregation(
        {spec.name: mean for spec, mean in zip(specs, means, strict=True)},
        {"workers": dict(dealt.portions), "lost_workers": dealt.losses()},
        engine_of(workers),
    )


def _by_tff(row: TffAggregator, request: Request) -> Aggregation:
    from fedviz.aggregation.tff_processes import RoundInput, aggregate_with_process

    with contextlib.ExitStack() as stack:
        mapped = [
            stack.enter_context(mappable(cohort, request.progress))
            for cohort in (*request.earlier, request.cohort)
        ]
        rounds = [RoundInput(each.round, each.weights, each.round.server) for each in mapped]
        tensors, measurements = aggregate_with_process(
            rounds, request.specs, row, request.parameters, request.progress
        )
        for each in mapped:
            each.round.dataset.check_unchanged()
    return Aggregation(tensors, measurements)


def _by_rule(rule: RobustRule, request: Request) -> Aggregation:
    names = [spec.name for spec in request.specs]
    with (
        mappable(request.cohort, request.progress) as cohort,
        stacks_of_round(cohort.round, names) as stacks,
    ):
        result = apply_rule(
            rule.name,
            stacks,
            cohort.weights,
            cohort.round.server,
            request.parameters,
            request.progress,
        )
    return Aggregation(result.tensors, _by_id(result.measurements, cohort.ids))


def _by_optimiser(rule: RobustRule, request: Request) -> Aggregation:
    workers = listed_workers()

    def mean_of(round_: Round) -> Mapping[str, np.ndarray]:
        cohort = validated_cohort(round_, request.weighting, request.divergent)
        if workers:
            return _mean_on_machines(cohort, request.specs, silent, workers).tensors
        return _mean(cohort, request.specs, silent)

    round_ = request.cohort.round
    result = run_server_updates(
        rule.name,
        round_.dataset,
        round_.number,
        mean_of,
        request.progress,
        **request.parameters,
    )
    engine = engine_of(workers) if workers else ""
    return Aggregation(result.tensors, result.measurements, engine)


def _by_id(measurements: Mapping[str, Any], ids: Sequence[str]) -> dict[str, Any]:
    """Measurements in which clients are named by their ids, where a rule names them by rows."""
    named = dict(measurements)
    for key in ("nonfinite_clients", "chosen", "clipped"):
        if key in named:
            named[key] = [ids[row] for row in named[key]]
    for key in ("norms", "factors", "scores", "coefficients"):
        if key in named:
            named[key] = {ids[int(row)]: value for row, value in named[key].items()}
    return named


def _of_tff(row: TffAggregator) -> Aggregator:
    apply = functools.partial(_by_tff, row)
    return Aggregator(**_told_of(row), engine="tff", aggregate=apply, history="optional")


def _of_rule(rule: RobustRule) -> Aggregator:
    if rule.over_rounds:
        apply = functools.partial(_by_optimiser, rule)
        return Aggregator(
            **_told_of(rule), engine="tff", aggregate=apply, history="always", on_machines=True
        )
    apply = functools.partial(_by_rule, rule)
    return Aggregator(**_told_of(rule), engine="numpy", aggregate=apply)


def _told_of(rule: Rule) -> dict[str, Any]:
    return {field.name: getattr(rule, field.name) for field in dataclasses.fields(Rule)}


_MEAN = Aggregator(
    name="mean",
    title="Federated mean",
    description="TFF's mean over the memory-mapped clients, in shards",
    formula="Σ w_i x_i / Σ w_i",
    source="tff.federated_aggregate and tff.federated_map; McMahan et al., Communication-Efficient "
    "Learning of Deep Networks from Decentralized Data, AISTATS 2017",
    protects_against="nothing: the mean follows any client",
    engine="tff",
    aggregate=_federated_mean,
    on_machines=True,
)

AGGREGATORS: Mapping[str, Aggregator] = {
    each.name: each
    for each in (
        _MEAN,
        *map(_of_tff, TFF_AGGREGATORS.values()),
        *map(_of_rule, RULES.values()),
    )
}
"""The aggregators by name, in the order in which they are shown."""
