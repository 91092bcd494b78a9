"""What averaging in the style of NumPy does with a round, found out by doing it on small copies.

Flower's ``aggregate`` adds the clients' arrays layer by layer, by position, with
``reduce(np.add, ...)``, and divides by the number of examples. Nothing there looks at names, and
NumPy broadcasts and upcasts without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce

import numpy as np

from fedviz.analysis.check import check
from fedviz.analysis.check_report import CheckReport
from fedviz.dataset import Round
from fedviz.signature import MismatchKind, Signature, TensorSpec, match

__all__ = [
    "ClientModel",
    "NumpyOutcome",
    "NumpyVerdict",
    "Remainder",
    "TensorVerdict",
    "distinct_models",
    "numpy_verdicts",
    "verdict_beside",
    "what_remains",
]


class NumpyOutcome(StrEnum):
    """What becomes of one tensor."""

    REFUSES = "refuses"
    BROADCASTS = "broadcasts"
    UPCASTS = "upcasts"
    POISONS = "poisons"
    DROPS = "drops"
    MISALIGNS = "misaligns"


@dataclass(frozen=True)
class TensorVerdict:
    """What becomes of the arrays at one position.

    ``outcomes`` is empty where the mean is what it should be. ``detail`` is NumPy's own error, or
    what was made of what. ``by_client`` says of each client that makes a difference what becomes
    of it and one that conforms, averaged alone. Nobody is in it where it happens without any:
    integers, whose mean is float64 whoever sends them.
    """

    position: int
    tensor: str
    outcomes: tuple[NumpyOutcome, ...]
    detail: str
    by_client: tuple[tuple[str, tuple[NumpyOutcome, ...]], ...]

    @property
    def clients(self) -> tuple[str, ...]:
        """Ids of the clients that make a difference."""
        return tuple(client for client, _ in self.by_client)


@dataclass(frozen=True)
class NumpyVerdict:
    """What becomes of a round: ``error`` is NumPy's first one, empty where it raises none."""

    error: str
    tensors: tuple[TensorVerdict, ...]

    @property
    def refuses(self) -> bool:
        """Whether the averaging ends with an error."""
        return bool(self.error)

    @property
    def silent(self) -> tuple[TensorVerdict, ...]:
        """The tensors that are spoilt without an error."""
        return tuple(
            t for t in self.tensors if t.outcomes and NumpyOutcome.REFUSES not in t.outcomes
        )


@dataclass(frozen=True)
class ClientModel:
    """Clients that no framework tells apart: one signature, and the same tensors not finite."""

    clients: tuple[str, ...]
    signature: Signature
    nonfinite: frozenset[str]


def distinct_models(round_: Round, report: CheckReport | None = None) -> tuple[ClientModel, ...]:
    """The clients of a round, grouped by signature and by which tensors are not finite.

    Parameters
    ----------
    round_ : Round
    report : CheckReport, optional
        A check of this round that looked at the values; by default one is made.
    """
    report = report or check(round_.dataset, round=round_.number, look_at="finiteness")
    nonfinite: dict[str, set[str]] = {}
    for each in report.mismatches:
        if each.round == round_.number and each.mismatch.kind is MismatchKind.NONFINITE:
            nonfinite.setdefault(each.client, set()).add(each.mismatch.tensor)
    groups: dict[tuple[Signature, frozenset[str]], list[str]] = {}
    for record in round_.records:
        own = round_.dataset.signature
        signature = own if record.conforming else round_.client(record).signature
        key = (signature, frozenset(nonfinite.get(record.id, ())))
        groups.setdefault(key, []).append(record.id)
    return tuple(
        ClientModel(tuple(clients), signature, names)
        for (signature, names), clients in groups.items()
    )


def numpy_verdicts(
    round_: Round,
    report: CheckReport | None = None,
    *,
    models: Sequence[ClientModel] | None = None,
) -> NumpyVerdict:
    """What NumPy-style averaging would do with a round, tensor by tensor.

    Every distinct model of the round takes part once, with the weight 1: weights change no shape
    and no dtype. Its arrays are small: along each axis, counted from the last, the sizes that
    occur at a position are replaced by 2, 3 and so on, equal sizes by equal ones, and 0 and 1 by
    themselves, so that NumPy broadcasts and refuses as it would the real ones. An array is filled
    with a number that stands for its tensor, or with NaN where the client's is not finite.

    Parameters
    ----------
    round_ : Round
    report : CheckReport, optional
        See :func:`distinct_models`.
    models : sequence of ClientModel, optional
        The distinct models, where they are known already.

    References
    ----------
    Flower, ``flwr/server/strategy/aggregate.py``, ``aggregate``.
    """
    models = distinct_models(round_, report) if models is None else models
    return _verdict(round_.dataset.signature, models)


def verdict_beside(reference: Signature, model: ClientModel) -> NumpyVerdict:
    """What becomes of clients that are averaged with one that has the reference's signature.

    See :func:`numpy_verdicts`, which says it of all clients of a round together.
    """
    conforming = ClientModel((), reference, frozenset())
    return _verdict(reference, [conforming, model])


def _verdict(reference: Signature, models: Sequence[ClientModel]) -> NumpyVerdict:
    if not models:
        return NumpyVerdict("", ())
    identities = [_identities(reference, model.signature) for model in models]
    length = max(len(reference), *(len(model.signature) for model in models))
    shortest = min(len(model.signature) for model in models)
    verdicts = []
    for position in range(length):
        if position >= shortest:
            verdicts.append(_dropped(position, reference, models, shortest))
        else:
            arrays = _Position(position, reference, models, identities)
            verdicts.append(arrays.verdict())
    errors = [v.detail for v in verdicts if NumpyOutcome.REFUSES in v.outcomes]
    return NumpyVerdict(errors[0] if errors else "", tuple(verdicts))


def _identities(reference: Signature, signature: Signature) -> list[str]:
    """Which of the reference's tensors each of a client's is; its own name if it is none."""
    names = {other.name: spec.name for spec, other in match(reference, signature).pairs}
    return [names.get(spec.name, spec.name) for spec in signature]


def _dropped(
    position: int, reference: Signature, models: Sequence[ClientModel], shortest: int
) -> TensorVerdict:
    """What lies beyond the shortest list: ``zip`` ends with it."""
    if position < len(reference):
        tensor = reference.tensors[position].name
        causes = [m for m in models if len(m.signature) == shortest]
        detail = f"zip ends after {shortest} arrays: the mean has no {tensor}"
    else:
        causes = [m for m in models if len(m.signature) > position]
        tensor = causes[0].signature.tensors[position].name
        detail = f"zip ends after {shortest} arrays: {tensor} is left out"
    dropped = (NumpyOutcome.DROPS,)
    by_client = tuple((client, dropped) for model in causes for client in model.clients)
    return TensorVerdict(position, tensor, dropped, detail, by_client)


class _Position:
    """The arrays that all clients have at one position, as small copies."""

    def __init__(
        self,
        position: int,
        reference: Signature,
        models: Sequence[ClientModel],
        identities: Sequence[Sequence[str]],
    ) -> None:
        self._position = position
        self._models = models
        self._specs = [model.signature.tensors[position] for model in models]
        beyond = position >= len(reference)
        self._expected = self._specs[0] if beyond else reference.tensors[position]
        self._names = [own[position] for own in identities]
        self._sizes = _small_sizes([spec.shape for spec in [self._expected, *self._specs]])

    def verdict(self) -> TensorVerdict:
        outcomes, detail = self._averaged(range(len(self._models)))
        alone = self._averaged([], with_expected=True)[0]
        by_client = []
        for i, model in enumerate(self._models):
            with_model = self._averaged([i], with_expected=True)[0]
            if outcomes and with_model != alone:
                by_client += [(client, with_model) for client in model.clients]
        return TensorVerdict(
            self._position, self._expected.name, outcomes, detail, tuple(by_client)
        )

    def _averaged(
        self, models: Sequence[int], with_expected: bool = False
    ) -> tuple[tuple[NumpyOutcome, ...], str]:
        expected = self._small(self._expected, self._expected.name, finite=True)
        arrays = [expected] if with_expected else []
        specs = [self._expected] if with_expected else []
        for i in models:
            finite = self._specs[i].name not in self._models[i].nonfinite
            arrays.append(self._small(self._specs[i], self._names[i], finite=finite))
            specs.append(self._specs[i])
        try:
            mean = _flower_mean(arrays)
        except (ValueError, TypeError) as error:
            return (NumpyOutcome.REFUSES,), _error_at_full_size(specs, error)
        return self._outcomes(mean, expected, arrays, specs)

    def _outcomes(
        self,
        mean: np.ndarray,
        expected: np.ndarray,
        arrays: Sequence[np.ndarray],
        specs: Sequence[TensorSpec],
    ) -> tuple[tuple[NumpyOutcome, ...], str]:
        outcomes, details = [], []
        shapes = {array.shape for array in arrays}
        if len({expected.shape, mean.shape, *shapes}) > 1:
            shape = np.broadcast_shapes(*(spec.shape for spec in specs))
            outcomes.append(NumpyOutcome.BROADCASTS)
            details.append(f"{_types(specs)} become one of shape {list(shape)}")
        if mean.dtype != expected.dtype:
            outcomes.append(NumpyOutcome.UPCASTS)
            details.append(f"{self._expected.dtype} becomes {mean.dtype.name}")
        if not np.isfinite(mean.astype("f8")).all():
            outcomes.append(NumpyOutcome.POISONS)
            details.append("the mean is NaN wherever one client's value is not finite")
        elif mean.size and not (mean.astype("f8") == expected.reshape(-1)[:1].astype("f8")).all():
            outcomes.append(NumpyOutcome.MISALIGNS)
            details.append(f"mixes {', '.join(dict.fromkeys([self._expected.name, *self._names]))}")
        return tuple(outcomes), "; ".join(details)

    def _small(self, spec: TensorSpec, name: str, *, finite: bool) -> np.ndarray:
        axes = range(-len(spec.shape), 0)
        shape = tuple(self._sizes[axis][size] for axis, size in zip(axes, spec.shape, strict=True))
        value = np.nan if not finite and spec.is_float else self._marker(name)
        return np.full(shape, value).astype(spec.numpy_dtype)

    def _marker(self, name: str) -> int:
        """A number for each tensor that occurs here: 1 for the expected one, then 0, 2, 3, ..."""
        others = [n for n in dict.fromkeys(self._names) if n != self._expected.name]
        if name == self._expected.name:
            return 1
        place = others.index(name)
        return place + 1 if place else 0


def _flower_mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """One layer of Flower's ``aggregate``, every client with one example."""
    weighted = [array * 1 for array in arrays]
    return np.asarray(reduce(np.add, weighted) / len(arrays))


def _small_sizes(shapes: Sequence[tuple[int, ...]]) -> Mapping[int, Mapping[int, int]]:
    """For each axis, counted from the last: what stands for each size that occurs there."""
    sizes: dict[int, dict[int, int]] = {}
    for shape in shapes:
        for axis, size in zip(range(-len(shape), 0), shape, strict=True):
            known = sizes.setdefault(axis, {0: 0, 1: 1})
            known.setdefault(size, len(known))
    return sizes


def _error_at_full_size(specs: Sequence[TensorSpec], error: Exception) -> str:
    """The error with the real shapes in it: NumPy compares those before it allocates anything."""
    shape: tuple[int, ...] = specs[0].shape
    for spec in specs[1:]:
        try:
            shape = np.broadcast_shapes(shape, spec.shape)
        except ValueError:
            return _error_of_adding(shape, spec.shape)
    return f"{type(error).__name__}: {error}"


def _error_of_adding(shape: tuple[int, ...], other: tuple[int, ...]) -> str:
    try:
        np.add(np.broadcast_to(0.0, shape), np.broadcast_to(0.0, other))
    except ValueError as error:
        return f"ValueError: {error}".strip()
    raise AssertionError(f"NumPy adds {shape} and {other}")


def _types(specs: Sequence[TensorSpec]) -> str:
    return " and ".join(dict.fromkeys(spec.tff_type for spec in specs))


# --- what remains -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Remainder:
    """What is left of a round when something is left out.

    ``left_out`` are client ids or tensor names. ``share_of_examples`` is None where the numbers
    of examples are not known.
    """

    left_out: tuple[str, ...]
    num_clients: int
    num_tensors: int
    share_of_examples: float | None
    share_of_parameters: float


def what_remains(round_: Round, report: CheckReport) -> tuple[Remainder, Remainder]:
    """What remains of a round without the clients, or without the tensors, that have a mismatch.

    Parameters
    ----------
    round_ : Round
    report : CheckReport
        A check that covers the round.

    Returns
    -------
    without_clients, without_tensors : Remainder
    """
    here = [each for each in report.mismatches if each.round == round_.number]
    clients = tuple(dict.fromkeys(each.client for each in here))
    concerned = {each.mismatch.tensor for each in here}
    signature = report.signature
    tensors = tuple(name for name in signature.names if name in concerned)
    kept = sum(spec.size for spec in signature if spec.name not in concerned)
    share = kept / signature.num_parameters if signature.num_parameters else 1.0
    total = len(round_.records)
    return (
        Remainder(
            clients, total - len(clients), len(signature), _share_of_examples(round_, clients), 1.0
        ),
        Remainder(tensors, total, len(signature) - len(tensors), 1.0, share),
    )


def _share_of_examples(round_: Round, left_out: Sequence[str]) -> float | None:
    examples = {record.id: record.num_examples for record in round_.records}
    known = [n for n in examples.values() if n is not None]
    if len(known) < len(examples) or not sum(known):
        return None
    out = set(left_out)
    kept = sum(n for client, n in examples.items() if n is not None and client not in out)
    return kept / sum(known)
