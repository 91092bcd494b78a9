"""Faults that are injected into clients on purpose, with their ground truth known.

A fault is written ``CLIENT:KIND[:ARG]``, such as ``c03:nan:0.01``. Structural faults change a
client's signature; the others change its values, or its labels before it trains.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedviz.errors import InvalidArgumentError, UnknownNameError, located
from fedviz.records import FaultKind, InjectedFault
from fedviz.signature import DTYPES, Signature, TensorSpec

__all__ = ["Fault", "apply_fault", "faulty_signature", "is_structural", "parse_fault"]

NUM_CELLS = 5
"""Cells that ``nan`` and ``inf`` hit where no share is given."""

SCALE_FACTOR = 10.0
"""What ``scale`` multiplies an update by where no factor is given."""

EXTRA_NAME = "extra/scale"
"""Name of the tensor that ``extra`` adds where none is given."""

_STRUCTURAL = frozenset(
    {
        FaultKind.TRANSPOSE,
        FaultKind.DTYPE,
        FaultKind.MISSING,
        FaultKind.EXTRA,
        FaultKind.ORDER,
    }
)
_WITHOUT_ARGUMENT = frozenset({FaultKind.ORDER, FaultKind.SIGN_FLIP, FaultKind.LABEL_FLIP})


@dataclass(frozen=True)
class Fault:
    """What to do to which client.

    Parameters
    ----------
    client : str
        The client's id.
    kind : FaultKind
        What is done.
    argument : str
        The kind's own, empty for its default: ``transpose`` and ``missing`` take a tensor's name,
        ``extra`` the name of the added tensor, ``dtype`` a dtype (float64), ``nan`` and ``inf``
        a share of all cells (5 cells), ``scale`` a factor (10). The others take none.

    Raises
    ------
    InvalidArgumentError
        No client, or an argument that the kind does not take.
    """

    client: str
    kind: FaultKind
    argument: str = ""

    def __post_init__(self) -> None:
        if not self.client:
            raise InvalidArgumentError(f"fault {self}: expected CLIENT:KIND[:ARG], found no client")
        _check_argument(self)

    def __str__(self) -> str:
        parts = (self.client, self.kind.value, self.argument)
        return ":".join(parts if self.argument else parts[:2])


def parse_fault(text: str) -> Fault:
    """The fault that a text such as ``c03:nan:0.01`` names.

    Raises
    ------
    InvalidArgumentError
        The text is not ``CLIENT:KIND[:ARG]``, or the argument is not one of its kind.
    UnknownNameError
        There is no such kind of fault.
    """
    client, separator, rest = text.partition(":")
    kind, _, argument = rest.partition(":")
    if not separator:
        raise InvalidArgumentError(
            f"fault {text!r}: expected CLIENT:KIND[:ARG], such as c03:transpose"
        )
    kinds = [known.value for known in FaultKind]
    if kind not in kinds:
        raise UnknownNameError(
            f"fault {text!r}: there is no kind {kind!r}; there are {', '.join(kinds)}"
        )
    return Fault(client, FaultKind(kind), argument)


def is_structural(kind: FaultKind) -> bool:
    """Whether a fault of this kind changes the client's signature."""
    return kind in _STRUCTURAL


def faulty_signature(fault: Fault, signature: Signature) -> Signature:
    """The signature that a client with this fault has.

    Parameters
    ----------
    fault : Fault
        Of any kind; one that is not structural leaves the signature as it is.
    signature : Signature
        The signature of the client before.

    Raises
    ------
    InvalidArgumentError
        The fault would change nothing here: no tensor to transpose, all of that dtype already,
        a single tensor to reorder or to leave out, a name that is in use.
    UnknownNameError
        The tensor that the fault names is not there.
    """
    change = _SIGNATURE_CHANGES.get(fault.kind)
    return signature if change is None else change(fault, signature)


def apply_fault(
    fault: Fault,
    weights: Mapping[str, NDArray[Any]],
    server: Mapping[str, NDArray[Any]] | None,
    rng: np.random.Generator,
) -> tuple[dict[str, NDArray[Any]], InjectedFault]:
    """The weights of a client with the fault in them, and the ground truth of it.

    Parameters
    ----------
    fault : Fault
        What to do. A label flip happens before training: it leaves the weights as they are.
    weights : mapping of name to ndarray
        The client's weights, in order.
    server : mapping of name to ndarray, or None
        The server model of the round; ``scale`` and ``sign-flip`` change the update from it.
    rng : Generator
        Chooses the cells of ``nan`` and ``inf``.

    Returns
    -------
    weights : dict of name to ndarray
        In the faulty client's own order. Arrays that the fault does not touch are not copied.
    record : InjectedFault
        With the tensors that were touched; none where the whole model is.

    Raises
    ------
    InvalidArgumentError, UnknownNameError
        As :func:`faulty_signature`; or ``scale`` and ``sign-flip`` without a server model.
    """
    if is_structural(fault.kind):
        faulty, tensors = _restructured(fault, weights)
    elif fault.kind in (FaultKind.NAN, FaultKind.INF):
        faulty, tensors = _with_nonfinite_cells(fault, weights, rng)
    elif fault.kind in (FaultKind.SCALE, FaultKind.SIGN_FLIP):
        faulty, tensors = _with_scaled_update(fault, weights, server), ()
    else:
        faulty, tensors = dict(weights), ()
    return faulty, InjectedFault(fault.client, fault.kind, fault.argument, tensors)


def _check_argument(fault: Fault) -> None:
    kind, argument = fault.kind, fault.argument
    if not argument:
        return
    if kind in _WITHOUT_ARGUMENT:
        raise InvalidArgumentError(f"fault {fault}: {kind.value} takes no argument")
    if kind is FaultKind.DTYPE and argument not in DTYPES:
        raise InvalidArgumentError(
            f"fault {fault}: expected a dtype, one of {', '.join(DTYPES)}, found {argument!r}"
        )
    if kind in (FaultKind.NAN, FaultKind.INF) and not 0 < _number(fault) <= 1:
        raise InvalidArgumentError(
            f"fault {fault}: expected a share of cells above 0 and at most 1, found {argument}"
        )
    if kind is FaultKind.SCALE and not math.isfinite(_number(fault)):
        raise InvalidArgumentError(f"fault {fault}: expected a finite factor, found {argument}")


def _number(fault: Fault) -> float:
    try:
        return float(fault.argument)
    except ValueError:
        raise InvalidArgumentError(
            f"fault {fault}: expected a number, found {fault.argument!r}"
        ) from None


def _named(fault: Fault, signature: Signature) -> TensorSpec:
    try:
        return signature[fault.argument]
    except UnknownNameError as error:
        raise UnknownNameError(f"fault {fault}: {error}") from None


def _transposed(fault: Fault, signature: Signature) -> Signature:
    target = _tensor_to_transpose(fault, signature)
    return _with_spec(signature, dataclasses.replace(target, shape=target.shape[::-1]))


def _tensor_to_transpose(fault: Fault, signature: Signature) -> TensorSpec:
    if fault.argument:
        candidates = [_named(fault, signature)]
    else:
        candidates = sorted(signature, key=lambda spec: spec.rank != 2)
    changing = [spec for spec in candidates if spec.shape != spec.shape[::-1]]
    if not changing:
        raise InvalidArgumentError(
            f"fault {fault}: no tensor changes its shape when it is transposed; "
            "name a kernel that is not square"
        )
    return changing[0]


def _with_dtype(fault: Fault, signature: Signature) -> Signature:
    dtype = fault.argument or "float64"
    specs = tuple(
        dataclasses.replace(spec, dtype=dtype) if spec.is_float else spec for spec in signature
    )
    if specs == signature.tensors:
        raise InvalidArgumentError(
            f"fault {fault}: every real tensor is {dtype} already; choose another dtype"
        )
    return Signature(specs)


def _with_missing(fault: Fault, signature: Signature) -> Signature:
    if len(signature) < 2:
        raise InvalidArgumentError(f"fault {fault}: the model has one tensor, and none would stay")
    if fault.argument:
        target = _named(fault, signature)
    else:
        biases = [spec for spec in signature if spec.name.endswith("bias")]
        target = (biases or list(signature))[-1]
    return Signature(tuple(spec for spec in signature if spec is not target))


def _with_extra(fault: Fault, signature: Signature) -> Signature:
    name = fault.argument or EXTRA_NAME
    if name in signature:
        raise InvalidArgumentError(
            located(f"fault {fault}: the model has one already; choose another name", tensor=name)
        )
    last = signature.tensors[-1]
    return Signature((*signature, TensorSpec(name, last.shape[-1:], last.dtype)))


def _reordered(fault: Fault, signature: Signature) -> Signature:
    """Sorted by name, as a dict of weights often is; reversed where that changes nothing."""
    if len(signature) < 2:
        raise InvalidArgumentError(f"fault {fault}: one tensor has only one order")
    by_name = tuple(sorted(signature, key=lambda spec: spec.name))
    return Signature(by_name if by_name != signature.tensors else by_name[::-1])


_SIGNATURE_CHANGES: Mapping[FaultKind, Callable[[Fault, Signature], Signature]] = {
    FaultKind.TRANSPOSE: _transposed,
    FaultKind.DTYPE: _with_dtype,
    FaultKind.MISSING: _with_missing,
    FaultKind.EXTRA: _with_extra,
    FaultKind.ORDER: _reordered,
}


def _with_spec(signature: Signature, changed: TensorSpec) -> Signature:
    return Signature(tuple(changed if s.name == changed.name else s for s in signature))


def _restructured(
    fault: Fault, weights: Mapping[str, NDArray[Any]]
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    before = Signature.of(weights)
    after = faulty_signature(fault, before)
    faulty = {spec.name: _made_to(spec, weights) for spec in after}
    # A dtype is the whole model's, so no tensor is named for it.
    whole = fault.kind is FaultKind.DTYPE
    return faulty, () if whole else _touched(before, after)


def _touched(before: Signature, after: Signature) -> tuple[str, ...]:
    """Tensors that are gone, new, of another type or, all else equal, at another place."""
    changed = [s.name for s in before if s.name not in after or after[s.name] != s]
    added = [s.name for s in after if s.name not in before]
    moved = [n for n, m in zip(before.names, after.names, strict=False) if n != m]
    return tuple(changed + added or moved)


def _made_to(spec: TensorSpec, weights: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """A client's tensor with the shape and dtype of ``spec``; ones where the client has none."""
    if spec.name not in weights:
        return np.ones(spec.shape, spec.numpy_dtype)
    array = np.asarray(weights[spec.name])
    if array.shape != spec.shape:
        array = np.ascontiguousarray(array.T)
    return array if array.dtype == spec.numpy_dtype else _cast(array, spec)


def _cast(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Real numbers as another dtype: integers are rounded, clipped to their range, NaN is 0."""
    if spec.is_float or spec.dtype == "bool":
        with np.errstate(over="ignore"):
            return array.astype(spec.numpy_dtype)
    limits = np.iinfo(spec.numpy_dtype)
    # float64 has no 2^63 - 1: the number just below it is the greatest that may be cast.
    highest = float(limits.max) if limits.bits < 64 else np.nextafter(float(limits.max), 0.0)
    values = np.nan_to_num(array.astype(np.float64), posinf=highest, neginf=float(limits.min))
    return np.clip(np.rint(values), float(limits.min), highest).astype(spec.numpy_dtype)


def _with_nonfinite_cells(
    fault: Fault, weights: Mapping[str, NDArray[Any]], rng: np.random.Generator
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    names = [spec.name for spec in Signature.of(weights) if spec.is_float and spec.size]
    if not names:
        raise InvalidArgumentError(f"fault {fault}: the model has no real numbers to replace")
    ends = np.cumsum([weights[name].size for name in names])
    cells = np.sort(rng.choice(ends[-1], size=_num_cells(fault, int(ends[-1])), replace=False))
    tensor_of_cell = np.searchsorted(ends, cells, side="right")
    faulty = dict(weights)
    for index in np.unique(tensor_of_cell):
        start = ends[index] - weights[names[index]].size
        places = cells[tensor_of_cell == index] - start
        faulty[names[index]] = _replaced(weights[names[index]], places, fault.kind, rng)
    return faulty, tuple(names[index] for index in np.unique(tensor_of_cell))


def _num_cells(fault: Fault, total: int) -> int:
    wanted = round(_number(fault) * total) if fault.argument else NUM_CELLS
    return min(max(wanted, 1), total)


def _replaced(
    array: NDArray[Any], places: NDArray[Any], kind: FaultKind, rng: np.random.Generator
) -> NDArray[Any]:
    flat = array.ravel().copy()
    if kind is FaultKind.NAN:
        flat[places] = np.nan
    else:
        flat[places] = rng.choice(np.array([-np.inf, np.inf]), size=places.size)
    return flat.reshape(array.shape)


def _with_scaled_update(
    fault: Fault, weights: Mapping[str, NDArray[Any]], server: Mapping[str, NDArray[Any]] | None
) -> dict[str, NDArray[Any]]:
    if server is None:
        raise InvalidArgumentError(
            f"fault {fault}: {fault.kind.value} changes the update, and there is no server model "
            "to tell the update from the weights"
        )
    if fault.kind is FaultKind.SIGN_FLIP:
        factor = -1.0
    else:
        factor = _number(fault) if fault.argument else SCALE_FACTOR
    return {
        spec.name: _scaled(weights[spec.name], server[spec.name], factor)
        if spec.is_float
        else weights[spec.name]
        for spec in Signature.of(weights)
    }


def _scaled(client: NDArray[Any], server: NDArray[Any], factor: float) -> NDArray[Any]:
    """Server + factor × update, in float64, rounded to the client's dtype."""
    start = server.astype(np.float64)
    update = client.astype(np.float64) - start
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(start + factor * update).astype(client.dtype)
