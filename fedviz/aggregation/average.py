"""Averages a round's clients: validates, computes, and says what was done."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedviz.aggregation.aggregators import Aggregation, Aggregator, Request, known_aggregator
from fedviz.aggregation.cohort import Cohort, Divergent, validated_cohort
from fedviz.aggregation.integers import INTEGER_POLICIES, integer_tensors
from fedviz.aggregation.machines import listed_workers
from fedviz.aggregation.mappable import needs_copy
from fedviz.dataset import WeightDataset, opened_dataset
from fedviz.errors import EngineError, InvalidArgumentError, located
from fedviz.progress import Progress, ProgressCallback, silent
from fedviz.signature import TensorSpec

__all__ = ["AverageResult", "average"]


@dataclass(frozen=True)
class AverageResult:
    """One model made of a round's clients.

    Parameters
    ----------
    weights : dict of str to ndarray
        The model, in the signature's order, shapes and dtypes.
    aggregator, weighting : str
        How it was made.
    parameters : dict
        The aggregator's, those that were given.
    round : int
        Number of the round.
    clients : tuple of str
        Ids of the clients it was made of.
    left_out : tuple of str
        Ids of the divergent clients, which were left out.
    engine : str
        What ran the computation.
    seconds : float
        Wall time of the computation, without the time that loading TFF and starting a worker took
        where they were not running; that is ``measurements["startup_seconds"]``.
    bytes_read : int
        Bytes of the clients' weights that went into it.
    l2_norm : float
        Euclidean norm of all float tensors, in float64.
    measurements : dict
        ``total_weight``; ``zero_weight_clients`` (ids); of the integer and bool tensors
        ``kept_tensors`` and ``rounded_tensors`` (names) and ``kept_from`` (``server`` or the
        client's id); ``copied`` (whether the round had to be copied to be mapped);
        ``nonfinite_values`` (how many values of the model are NaN or infinite); on several
        machines ``workers`` (how many portions each did) and ``lost_workers`` (one line each); and
        what the aggregator measured.
    """

    weights: dict[str, np.ndarray]
    aggregator: str
    weighting: str
    parameters: dict[str, Any]
    round: int
    clients: tuple[str, ...]
    left_out: tuple[str, ...]
    engine: str
    seconds: float
    bytes_read: int
    l2_norm: float
    measurements: dict[str, Any]


def average(
    dataset: WeightDataset | str | os.PathLike[str],
    round: int = -1,
    weighting: str = "num_examples",
    aggregator: str = "mean",
    parameters: Mapping[str, Any] | None = None,
    progress: ProgressCallback = silent,
    *,
    divergent: Divergent = "refuse",
    integers: str = "keep",
    history: bool = False,
) -> AverageResult:
    """Aggregate the clients of one round.

    A client with zero examples is part of the cohort with weight 0, and its values are not read.
    A round whose tensors cannot be mapped into memory is copied first.

    Parameters
    ----------
    dataset : WeightDataset or path
        The dataset.
    round : int, default -1
        Number of the round; -1 is the last.
    weighting : {"num_examples", "uniform"}
        What each client weighs, see :data:`~fedviz.aggregation.cohort.WEIGHTINGS`.
    aggregator : str, default "mean"
        A key of :data:`~fedviz.aggregation.aggregators.AGGREGATORS`.
    parameters : mapping, optional
        The aggregator's parameters.
    progress : callable, optional
        Called before each step; it may raise ``JobCancelledError``.
    divergent : {"refuse", "leave-out"}
        What to do in a round in which clients have another signature.
    integers : {"keep", "round"}
        What becomes of integer and bool tensors (counters, masks). They are the server model's; in
        a round without one, those of the client with the largest weight, the first such in the
        order of the file. Or they are averaged and rounded.
    history : bool, default False
        Run an adaptive TFF aggregator over the rounds before too, and hand on its state, as a
        server does. Server optimisers (FedAvgM, ...) always do.

    Returns
    -------
    AverageResult

    Raises
    ------
    UnknownNameError
        No such round, weighting, aggregator or parameter.
    InvalidArgumentError
        A parameter outside its range.
    CohortError
        No clients, too few for the aggregator, divergent clients, weights that make no mean, or no
        server model where the aggregator needs one.
    EngineError
        TFF or its worker failed; the next call starts a new one. Or no worker is left of those in
        ``FEDVIZ_TFF_WORKERS``.
    StorageError
        The file is gone or was replaced, before or meanwhile, or a copy has no room.

    Warns
    -----
    LostWorkerWarning
        A worker of another machine was lost; the others did its work.
    """
    rule = known_aggregator(aggregator)
    settings = rule.checked(parameters or {})
    _check_choices(rule, integers, history)
    with opened_dataset(dataset) as opened:
        cohort = validated_cohort(opened.round(round), weighting, divergent)
        rule.check_cohort(cohort, settings)
        earlier = _earlier(cohort, weighting, divergent) if history else ()
        floats = tuple(tensor for tensor in opened.signature if tensor.is_float)
        startup_seconds = _start_tff(rule, len(floats), progress) if rule.engine == "tff" else 0.0
        started = time.perf_counter()
        request = Request(cohort, earlier, floats, weighting, divergent, settings, progress)
        aggregation = _aggregate(rule, request)
        others, measured = integer_tensors(cohort, integers)
        copied = needs_copy(cohort)
        weights = {n: {**aggregation.tensors, **others}[n] for n in opened.signature.names}
        bytes_read = _bytes_read(cohort, floats, others)
    seconds = time.perf_counter() - started
    zero = [i for i, w in zip(cohort.ids, cohort.weights, strict=True) if w == 0]
    return AverageResult(
        weights=weights,
        aggregator=aggregator,
        weighting=weighting,
        parameters=settings,
        round=cohort.round.number,
        clients=cohort.ids,
        left_out=cohort.left_out,
        engine=aggregation.engine or _engine_description(rule),
        seconds=seconds,
        bytes_read=bytes_read,
        l2_norm=_norm(weights, floats),
        measurements={
            "total_weight": float(cohort.weights.sum()),
            "zero_weight_clients": zero,
            **measured,
            "startup_seconds": startup_seconds,
            "copied": copied,
            "nonfinite_values": _count_nonfinite(weights, floats),
            **aggregation.measurements,
        },
    )


def _check_choices(rule: Aggregator, integers: str, history: bool) -> None:
    if integers not in INTEGER_POLICIES:
        expected = " or ".join(INTEGER_POLICIES)
        raise InvalidArgumentError(f"integers: expected {expected}, found {integers}.")
    if history and rule.history == "none":
        raise InvalidArgumentError(
            f"history: {rule.name} remembers nothing of the rounds before; leave it out."
        )


def _earlier(cohort: Cohort, weighting: str, divergent: Divergent) -> tuple[Cohort, ...]:
    number = cohort.round.number
    rounds = [each for each in cohort.round.dataset.rounds if each.number < number]
    return tuple(validated_cohort(each, weighting, divergent) for each in rounds)


def _start_tff(rule: Aggregator, steps: int, progress: ProgressCallback) -> float:
    """Load TFF and start its worker, if that has not been done yet; return the seconds it took."""
    progress(Progress(0, steps, "starting TensorFlow Federated"))
    started = time.perf_counter()
    from fedviz.aggregation import context

    if not (rule.on_machines and listed_workers()):
        context.worker()
    return time.perf_counter() - started


def _aggregate(rule: Aggregator, request: Request) -> Aggregation:
    try:
        return rule.aggregate(request)
    except EngineError as error:
        round_ = request.cohort.round
        message = located(str(error), file=round_.dataset.path, round=round_.number)
        raise EngineError(message) from error


def _bytes_read(
    cohort: Cohort, floats: tuple[TensorSpec, ...], others: Mapping[str, np.ndarray]
) -> int:
    return cohort.num_clients * sum(s.nbytes for s in floats) + sum(
        array.nbytes for array in others.values()
    )


def _norm(weights: Mapping[str, np.ndarray], floats: tuple[TensorSpec, ...]) -> float:
    # Not by a product: the threads that NumPy makes products with look for more work for a tenth of
    # a second, and keep the worker's next mean from a processor.
    values = (weights[spec.name].reshape(-1) for spec in floats)
    squares = (np.einsum("i,i->", v, v, dtype=np.float64, casting="safe") for v in values)
    return math.sqrt(sum(float(square) for square in squares))


def _count_nonfinite(weights: Mapping[str, np.ndarray], floats: tuple[TensorSpec, ...]) -> int:
    return sum(int(np.count_nonzero(~np.isfinite(weights[spec.name]))) for spec in floats)


def _engine_description(rule: Aggregator) -> str:
    if rule.engine == "numpy":
        return "NumPy"
    from fedviz.aggregation import context

    return context.worker().description
