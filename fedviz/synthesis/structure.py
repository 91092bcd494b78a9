"""Faults that change a client's signature: transposed, cast, left out, added, reordered."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedviz.errors import InvalidArgumentError, UnknownNameError, located
from fedviz.records import FaultKind
from fedviz.signature import Signature, TensorSpec
from fedviz.synthesis.fault import Fault

__all__ = ["faulty_signature", "restructured"]

EXTRA_NAME = "extra/scale"
"""Name of the tensor that ``extra`` adds where none is given."""


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


def restructured(
    fault: Fault, weights: Mapping[str, NDArray[Any]]
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """The weights with a structural fault in them, and the tensors that it touched."""
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
