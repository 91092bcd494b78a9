"""Averages a round's clients through TFF: validates, computes, and says what was done."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fedviz.dataset import Round, WeightDataset
from fedviz.errors import (
    CohortError,
    EngineError,
    InvalidArgumentError,
    UnknownNameError,
    located,
)
from fedviz.progress import Progress, ProgressCallback, silent
from fedviz.records import ClientRecord
from fedviz.signature import TensorSpec

__all__ = [
    "AGGREGATORS",
    "WEIGHTINGS",
    "AggregatorSpec",
    "AverageResult",
    "Cohort",
    "average",
    "validated_cohort",
]

WEIGHTINGS: Mapping[str, str] = {
    "num_examples": "each client weighs as many examples as it trained on",
    "uniform": "each client weighs the same",
}
"""What may weight the clients, with one line about each."""

# One computation's result is one message, and a message holds 2 GB at most.
_RESULT_BYTES = 512 << 20


@dataclass(frozen=True)
class Cohort:
    """The clients of one round that are aggregated.

    ``records`` and ``weights`` (float64, not negative, with a positive sum) belong together and
    are in the order of the rows. ``left_out`` are the ids of the divergent clients.
    """

    round: Round
    records: tuple[ClientRecord, ...]
    weights: np.ndarray
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Aggregation:
    """What an aggregator made of the float tensors: arrays by name, and what it measured."""

    tensors: Mapping[str, np.ndarray]
    measurements: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AggregatorSpec:
    """A rule that turns clients' weights into one model.

    Parameters
    ----------
    name : str
        As the library and the command take it.
    description : str
        One line.
    formula : str
        What it computes, for x_i the clients' weights and w_i their weights in the mean.
    aggregate : callable
        From the cohort, the float tensors' specs, the parameters and a progress callback.
    parameters : mapping of str to str
        The parameters it takes, with one line about each.
    """

    name: str
    description: str
    formula: str
    aggregate: Callable[
        [Cohort, Sequence[TensorSpec], Mapping[str, Any], ProgressCallback], Aggregation
    ]
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AverageResult:
    """One model made of a round's clients.

    Parameters
    ----------
    weights : dict of str to ndarray
        The model, in the signature's order, shapes and dtypes.
    aggregator, weighting : str
        How it was made.
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
        ``total_weight``; ``zero_weight_clients`` (ids); ``kept_tensors`` (names of the integer and
        bool tensors, which are not averaged) and ``kept_from`` (``server`` or the client's id);
        ``nonfinite_values`` (how many values of the model are NaN or infinite); and what the
        aggregator measured.
    """

    weights: dict[str, np.ndarray]
    aggregator: str
    weighting: str
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
    divergent: Literal["refuse", "leave-out"] = "refuse",
) -> AverageResult:
    """Aggregate the clients of one round through TFF.

    Integer and bool tensors (counters, masks) are not averaged. They are the server model's; in a
    round without a server model they are those of the client with the largest weight, the first
    such in the order of the file. ``measurements["kept_tensors"]`` names them.

    A client with zero examples is part of the cohort with weight 0, and its values are not read.

    Parameters
    ----------
    dataset : WeightDataset or path
        The dataset.
    round : int, default -1
        Number of the round; -1 is the last.
    weighting : {"num_examples", "uniform"}
        What each client weighs, see :data:`WEIGHTINGS`.
    aggregator : str, default "mean"
        A key of :data:`AGGREGATORS`.
    parameters : mapping, optional
        The aggregator's parameters.
    progress : callable, optional
        Called before each step; it may raise ``JobCancelledError``.
    divergent : {"refuse", "leave-out"}
        What to do in a round in which clients have another signature. TFF would refuse it.

    Returns
    -------
    AverageResult

    Raises
    ------
    UnknownNameError
        No such round, weighting, aggregator or parameter.
    CohortError
        No clients, divergent clients, or weights that make no mean.
    EngineError
        TFF or its worker failed; the next call starts a new one.
    StorageError
        The file is gone or was replaced.
    """
    spec = _known(AGGREGATORS, aggregator, "aggregator")
    parameters = _checked_parameters(spec, parameters or {})
    with _opened(dataset) as opened:
        cohort = validated_cohort(opened.round(round), weighting, divergent)
        floats = [tensor for tensor in opened.signature if tensor.is_float]
        startup_seconds = _start_tff(len(floats), progress)
        started = time.perf_counter()
        aggregation = _aggregate(spec, cohort, floats, parameters, progress)
        kept, kept_from = _kept_tensors(cohort)
        weights = {n: {**aggregation.tensors, **kept}[n] for n in opened.signature.names}
        bytes_read = _bytes_read(cohort, floats, kept)
    values = [np.asarray(weights[tensor.name], np.float64) for tensor in floats]
    zero = tuple(r.id for r, w in zip(cohort.records, cohort.weights, strict=True) if w == 0)
    return AverageResult(
        weights=weights,
        aggregator=aggregator,
        weighting=weighting,
        round=cohort.round.number,
        clients=tuple(record.id for record in cohort.records),
        left_out=cohort.left_out,
        engine=_engine_description(),
        seconds=time.perf_counter() - started,
        bytes_read=bytes_read,
        l2_norm=math.sqrt(sum(float(np.vdot(value, value)) for value in values)),
        measurements={
            "total_weight": float(cohort.weights.sum()),
            "zero_weight_clients": list(zero),
            "kept_tensors": list(kept),
            "kept_from": kept_from,
            "startup_seconds": startup_seconds,
            "nonfinite_values": sum(int(np.sum(~np.isfinite(value))) for value in values),
            **aggregation.measurements,
        },
    )


def validated_cohort(
    round: Round,
    weighting: str = "num_examples",
    divergent: Literal["refuse", "leave-out"] = "refuse",
) -> Cohort:
    """The clients of a round with their weights, if an aggregate can be made of them.

    Raises
    ------
    UnknownNameError
        No such weighting.
    CohortError
        No clients; divergent ones that are not to be left out; a client whose number of examples
        is not known, negative or not a number; or weights that sum to zero.
    """
    _known(WEIGHTINGS, weighting, "weighting")
    if divergent not in ("refuse", "leave-out"):
        raise InvalidArgumentError(f"divergent: expected refuse or leave-out, found {divergent}.")
    _check_conforming(round, divergent)
    records = round.conforming
    weights = np.ones(len(records)) if weighting == "uniform" else _num_examples(round, records)
    if not weights.sum() > 0:
        raise CohortError(
            _placed(round, "all clients have zero examples; weight them with weighting=uniform")
        )
    return Cohort(round, records, weights, tuple(record.id for record in round.divergent))


def _check_conforming(round: Round, divergent: str) -> None:
    if not round.records:
        raise CohortError(_placed(round, "there are no clients to average"))
    if round.divergent and divergent == "refuse":
        raise CohortError(
            _placed(
                round,
                f"{len(round.divergent)} of {len(round.records)} clients have another signature "
                f"than the dataset ({_listed([r.id for r in round.divergent])}); TFF refuses such "
                "a round. Look at them with fedviz check, or leave them out "
                "(--leave-out-divergent, divergent='leave-out')",
            )
        )
    if not round.conforming:
        raise CohortError(
            _placed(round, "no client has the dataset's signature; look at them with fedviz check")
        )


def _num_examples(round: Round, records: Sequence[ClientRecord]) -> np.ndarray:
    unknown = [record.id for record in records if record.num_examples is None]
    if unknown:
        raise CohortError(
            _placed(
                round,
                f"num_examples is not known of {len(unknown)} clients ({_listed(unknown)}); "
                "weight the clients with weighting=uniform, or write the dataset with num_examples",
            )
        )
    weights = np.array([record.num_examples for record in records], np.float64)
    for record, weight in zip(records, weights, strict=True):
        if not (np.isfinite(weight) and weight >= 0):
            raise CohortError(
                _placed(
                    round,
                    f"num_examples is {record.num_examples}; expected a number from 0",
                    client=record.id,
                )
            )
    return weights


def _start_tff(steps: int, progress: ProgressCallback) -> float:
    """Load TFF and start its worker, if that has not been done yet; return the seconds it took."""
    progress(Progress(0, steps, "starting TensorFlow Federated"))
    started = time.perf_counter()
    from fedviz.aggregation import context

    context.worker()
    return time.perf_counter() - started


def _checked_parameters(spec: AggregatorSpec, parameters: Mapping[str, Any]) -> dict[str, Any]:
    for name in parameters:
        if name not in spec.parameters:
            known = ", ".join(spec.parameters) or "none"
            raise UnknownNameError(
                f"the aggregator {spec.name} has no parameter {name}; it has {known}."
            )
    return dict(parameters)


def _aggregate(
    spec: AggregatorSpec,
    cohort: Cohort,
    floats: Sequence[TensorSpec],
    parameters: Mapping[str, Any],
    progress: ProgressCallback,
) -> Aggregation:
    try:
        return spec.aggregate(cohort, floats, parameters, progress)
    except EngineError as error:
        raise EngineError(_placed(cohort.round, str(error))) from error


def _federated_mean(
    cohort: Cohort,
    floats: Sequence[TensorSpec],
    parameters: Mapping[str, Any],  # noqa: ARG001 - the mean has none
    progress: ProgressCallback,
) -> Aggregation:
    from fedviz.aggregation.federated_mean import federated_mean_in_memory, federated_mean_of_rows
    from fedviz.aggregation.memory_map import mapped_tensor

    mapped = {spec.name: mapped_tensor(cohort.round, spec) for spec in floats}
    means: dict[str, np.ndarray] = {}
    for group in _groups([spec for spec in floats if mapped[spec.name] is not None]):
        progress(Progress(len(means), len(floats), f"averaging {group[0].name}"))
        tensors = [tensor for spec in group if (tensor := mapped[spec.name]) is not None]
        result = federated_mean_of_rows(tensors, cohort.weights)
        means.update(zip((spec.name for spec in group), result, strict=True))
    rows = np.flatnonzero(cohort.weights)
    in_memory = [spec for spec in floats if mapped[spec.name] is None]
    for spec in in_memory:
        progress(Progress(len(means), len(floats), f"averaging {spec.name}"))
        values = cohort.round.read_stack(spec.name)
        clients = [[values[row]] for row in rows]
        means[spec.name] = federated_mean_in_memory(clients, cohort.weights[rows])[0]
    progress(Progress(len(floats), len(floats), "averaged"))
    return Aggregation(means, {"tensors_averaged_in_memory": [spec.name for spec in in_memory]})


def _groups(specs: Sequence[TensorSpec]) -> Iterator[list[TensorSpec]]:
    """Tensors that are averaged in one computation: as many as its result may hold."""
    group: list[TensorSpec] = []
    for spec in specs:
        if group and sum(s.nbytes for s in group) + spec.nbytes > _RESULT_BYTES:
            yield group
            group = []
        group.append(spec)
    if group:
        yield group


def _kept_tensors(cohort: Cohort) -> tuple[dict[str, np.ndarray], str]:
    """The integer and bool tensors, and whose they are."""
    signature = cohort.round.dataset.signature
    names = [spec.name for spec in signature if not spec.is_float]
    if not names:
        return {}, ""
    if cohort.round.server is not None:
        server = cohort.round.server
        return {name: server[name] for name in names}, "server"
    heaviest = cohort.records[int(np.argmax(cohort.weights))].id
    client = cohort.round.clients[heaviest]
    return {name: client[name] for name in names}, heaviest


def _bytes_read(
    cohort: Cohort, floats: Sequence[TensorSpec], kept: Mapping[str, np.ndarray]
) -> int:
    rows = int(np.count_nonzero(cohort.weights))
    return rows * sum(s.nbytes for s in floats) + sum(array.nbytes for array in kept.values())


def _engine_description() -> str:
    from fedviz.aggregation import context

    return context.worker().description


@contextlib.contextmanager
def _opened(dataset: WeightDataset | str | os.PathLike[str]) -> Iterator[WeightDataset]:
    """The dataset itself, or one that is opened here and closed afterwards."""
    if isinstance(dataset, WeightDataset):
        yield dataset
    else:
        with WeightDataset.open(os.fspath(dataset)) as opened:
            yield opened


def _known(known: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in known:
        raise UnknownNameError(f"there is no {kind} {name}; there are {', '.join(known)}.")
    return known[name]


def _listed(ids: Sequence[str], limit: int = 12) -> str:
    return ", ".join(ids[:limit]) + (" …" if len(ids) > limit else "")


def _placed(round: Round, message: str, client: str | None = None) -> str:
    return located(message, file=round.dataset.path, round=round.number, client=client)


AGGREGATORS: Mapping[str, AggregatorSpec] = {
    "mean": AggregatorSpec(
        name="mean",
        description="TFF's federated mean, weighted by the chosen weighting",
        formula="sum_i w_i x_i / sum_i w_i",
        aggregate=_federated_mean,
    ),
}
"""The aggregators by name, in the order in which they are shown."""
