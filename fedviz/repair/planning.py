"""Finding what can be done about each mismatch, and what it costs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from fedviz.analysis.blocks import client_blocks
from fedviz.analysis.check import check
from fedviz.analysis.check_report import CheckReport
from fedviz.analysis.statistics import relative_distance
from fedviz.dataset import Round, WeightDataset
from fedviz.errors import InvalidArgumentError, located
from fedviz.repair.casting import cast_values
from fedviz.repair.plans import Repair, RepairKind, RepairOption, RepairPlan
from fedviz.signature import Mismatch, MismatchKind, TensorSpec, match
from fedviz.signature.names import is_auxiliary, is_batch_statistic

__all__ = ["repair_plan"]

FARTHEST = 1.0
"""A repaired tensor that is farther from the cohort's mean than this, relative to the mean's norm,
is doubted: leaving the client out is then the safer choice."""


def repair_plan(
    dataset: WeightDataset, report: CheckReport | None = None, *, round: int | None = None
) -> RepairPlan:
    """What can be done about the mismatches of a dataset, the safest option chosen for each.

    Parameters
    ----------
    dataset : WeightDataset
    report : CheckReport, optional
        A check of the dataset against its own signature; by default one is made.
    round : int, optional
        Only this round; -1 is the last. The mismatches of the others stay.

    Raises
    ------
    InvalidArgumentError
        The report's reference is not the dataset's own signature, which is what a dataset's
        clients, server models and aggregates share.
    """
    report = report or check(dataset, round=round)
    if not report.signature.agrees_with(dataset.signature):
        raise InvalidArgumentError(
            located(
                f"a repair needs a check against the server model; this one is against "
                f"{report.reference}",
                file=dataset.path,
            )
        )
    number = None if round is None else dataset.round(round).number
    by_place: dict[tuple[int, str], list[Mismatch]] = {}
    for each in report.mismatches:
        if number in (None, each.round):
            by_place.setdefault((each.round, each.client), []).append(each.mismatch)
    cohorts = {number: _Cohort(dataset.round(number)) for number, _ in by_place}
    return RepairPlan(
        tuple(
            repair
            for (number, client), mismatches in by_place.items()
            for repair in _ClientRepairs(cohorts[number], client).of(mismatches)
        )
    )


class _Cohort:
    """A round, and the mean of its conforming clients, tensor by tensor."""

    def __init__(self, round_: Round) -> None:
        self.round = round_
        self._means: dict[str, np.ndarray | None] = {}

    def distance(self, tensor: str, values: np.ndarray) -> float | None:
        """Relative distance of a tensor's values to the mean; None where there is no mean."""
        if tensor not in self._means:
            self._means[tensor] = self._mean(tensor)
        mean = self._means[tensor]
        distance = None if mean is None else relative_distance(values, mean)
        return None if distance is None or np.isnan(distance) else distance

    def _mean(self, tensor: str) -> np.ndarray | None:
        spec = self.round.dataset.signature[tensor]
        total, count = np.zeros(spec.size), 0
        with np.errstate(invalid="ignore", over="ignore"):
            for _, block in client_blocks(self.round, tensor):
                finite = block[np.isfinite(block).all(axis=1)]
                total += finite.sum(axis=0, dtype="f8")
                count += len(finite)
        if count:
            return (total / count).reshape(spec.shape)
        server = self.server_value(tensor)
        return None if server is None else server.astype("f8")

    def server_value(self, tensor: str) -> np.ndarray | None:
        """The server model's tensor, if it can stand in: it is known and finite."""
        if self.round.server is None:
            return None
        value = self.round.server[tensor]
        finite = bool(np.isfinite(value.astype("f8")).all())
        return value if finite else None


class _ClientRepairs:
    """Finds what can be done about the mismatches of one client."""

    def __init__(self, cohort: _Cohort, client: str) -> None:
        self._cohort = cohort
        self._round = cohort.round
        self._client = client
        self._weights = cohort.round.clients[client]
        reference = cohort.round.dataset.signature
        self._matching = match(reference, self._weights.signature)
        self._own_names = {other.name: spec.name for spec, other in self._matching.pairs}

    def of(self, mismatches: Sequence[Mismatch]) -> Iterator[Repair]:
        """The repairs; one for all tensors that stand in another order."""
        reordered = False
        for mismatch in mismatches:
            if mismatch.kind is MismatchKind.ORDER and not mismatch.values_of:
                if reordered:
                    continue
                reordered = True
            tensor, options = self._tensor_and_options(mismatch)
            yield Repair(self._round.number, self._client, tensor, mismatch, tuple(options))

    def _tensor_and_options(self, mismatch: Mismatch) -> tuple[str, Iterator[RepairOption]]:
        tensor = mismatch.tensor
        # Only where values are not finite does a mismatch call a tensor as the client does.
        if mismatch.kind is MismatchKind.NONFINITE:
            tensor = self._own_names.get(tensor, "")
        if mismatch.kind is MismatchKind.EXTRA or not tensor:
            return mismatch.tensor, self._without(mismatch.tensor)
        return tensor, self._options(mismatch, tensor)

    def _without(self, own_name: str) -> Iterator[RepairOption]:
        yield RepairOption(
            RepairKind.DROP_TENSOR, f"leave {own_name} out: the reference has none", False
        )
        yield self._drop_client()

    def _options(self, mismatch: Mismatch, tensor: str) -> Iterator[RepairOption]:
        if mismatch.kind is MismatchKind.ORDER and not mismatch.values_of:
            return iter([self._reorder(), self._drop_client()])
        own = list(self._own_values(mismatch, tensor))
        safe = [o for o in own if o.distance is None or o.distance <= FARTHEST]
        doubtful = [o for o in own if o not in safe]
        if self._is_unlearned(tensor):
            return iter([*safe, *self._use_server(tensor), self._drop_client(), *doubtful])
        return iter([*safe, self._drop_client(), *doubtful, *self._use_server(tensor)])

    def _reorder(self) -> RepairOption:
        description = "bring the tensors into the reference's order"
        return RepairOption(RepairKind.REORDER, description, True)

    def _is_unlearned(self, tensor: str) -> bool:
        """Whether the server's tensor is as good as the client's: nothing is learned in it."""
        spec = self._matching.reference[tensor]
        return spec.trainable is False or is_batch_statistic(tensor) or is_auxiliary(spec)

    def _own_values(self, mismatch: Mismatch, tensor: str) -> Iterator[RepairOption]:
        """What can be done with the values that the client sent."""
        if mismatch.kind is MismatchKind.NAME:
            yield self._kept(RepairKind.RENAME, f"rename {mismatch.actual} to {tensor}", tensor)
        elif mismatch.kind is MismatchKind.ORDER:
            yield self._values_brought_back(mismatch, tensor)
        elif mismatch.kind in (MismatchKind.SHAPE, MismatchKind.RANK):
            yield from self._reshaped(tensor)
        elif mismatch.kind is MismatchKind.DTYPE:
            yield from self._cast(tensor)

    def _kept(self, kind: RepairKind, description: str, tensor: str) -> RepairOption:
        expected, found = self._specs(tensor)
        same = expected.shape == found.shape
        values = self._weights[found.name] if same else None
        distance = None if values is None else self._cohort.distance(tensor, values)
        return RepairOption(kind, description, True, distance)

    def _specs(self, tensor: str) -> tuple[TensorSpec, TensorSpec]:
        return self._matching.reference[tensor], self._matching.counterparts[tensor]

    def _values_brought_back(self, mismatch: Mismatch, tensor: str) -> RepairOption:
        """Take the values from the tensor that holds them: the nearest to the server's."""
        spec = self._matching.reference[tensor]
        kin = [
            other.name
            for own, other in self._matching.pairs
            if (own.shape, own.dtype) == (spec.shape, spec.dtype) == (other.shape, other.dtype)
        ]
        distances = {
            name: relative_distance(self._weights[name], self._server_or_zero(tensor))
            for name in kin
        }
        source = min(kin, key=lambda name: (np.isnan(distances[name]), distances[name]))
        return RepairOption(
            RepairKind.REORDER,
            f"put the values of {source} into {tensor}, which now holds those of "
            f"{mismatch.values_of}",
            True,
            self._cohort.distance(tensor, self._weights[source]),
            source=source,
        )

    def _server_or_zero(self, tensor: str) -> np.ndarray:
        value = self._cohort.server_value(tensor)
        spec = self._matching.reference[tensor]
        return np.zeros(spec.shape) if value is None else value

    def _reshaped(self, tensor: str) -> Iterator[RepairOption]:
        expected, found = self._specs(tensor)
        if expected.size != found.size:
            return
        values = self._weights[found.name]
        options = [
            RepairOption(
                RepairKind.TRANSPOSE,
                f"transpose {list(found.shape)} to {list(expected.shape)}, axes {list(axes)}",
                True,
                self._cohort.distance(tensor, np.transpose(values, axes)),
                axes=axes,
            )
            for axes in _permutations(found.shape, expected.shape)
        ]
        if not options:
            options = [
                RepairOption(
                    RepairKind.RESHAPE,
                    f"reshape {list(found.shape)} to {list(expected.shape)}",
                    True,
                    self._cohort.distance(tensor, values.reshape(expected.shape)),
                )
            ]
        # Of several ways to turn the axes, the one that fits the cohort is the likeliest.
        yield min(options, key=_distance_or_last)

    def _cast(self, tensor: str) -> Iterator[RepairOption]:
        expected, found = self._specs(tensor)
        values = self._weights[found.name]
        cast = cast_values(values, expected.numpy_dtype)
        if cast is None:
            return
        with np.errstate(over="ignore", invalid="ignore"):
            back = cast_values(cast, found.numpy_dtype)
        lossless = back is not None and np.array_equal(back, values, equal_nan=found.is_float)
        distance = None
        if expected.shape == found.shape:
            distance = self._cohort.distance(tensor, cast)
        rounding = "every value stays" if lossless else "values are rounded"
        yield RepairOption(
            RepairKind.CAST,
            f"cast {found.dtype} to {expected.dtype}: {rounding}",
            lossless,
            distance,
        )

    def _use_server(self, tensor: str) -> list[RepairOption]:
        value = self._cohort.server_value(tensor)
        if value is None:
            return []
        return [
            RepairOption(
                RepairKind.USE_SERVER,
                "put the server model's tensor in its place: this client's update of it is 0",
                False,
                self._cohort.distance(tensor, value),
            )
        ]

    def _drop_client(self) -> RepairOption:
        examples = self._weights.record.num_examples
        cost = "" if examples is None else f" and its {examples:,} examples"
        return RepairOption(
            RepairKind.DROP_CLIENT, f"leave the client{cost} out of this round", False
        )


def _distance_or_last(option: RepairOption) -> float:
    return float("inf") if option.distance is None else option.distance


def _permutations(found: tuple[int, ...], expected: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Orders of the axes that make one shape of the other; of up to six axes."""
    if len(found) != len(expected) or len(found) > 6:
        return
    for axes in itertools.permutations(range(len(found))):
        if tuple(found[axis] for axis in axes) == expected:
            yield axes
