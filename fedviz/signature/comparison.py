"""Every difference between two signatures."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from fedviz.signature.causes import Difference, probable_cause
from fedviz.signature.matching import Matching, match
from fedviz.signature.mismatch import Mismatch, MismatchKind
from fedviz.signature.specs import Signature, TensorSpec

__all__ = ["compare_matched", "compare_signatures"]


def compare_signatures(reference: Signature, found: Signature) -> list[Mismatch]:
    """Every difference of ``found`` from ``reference``, not only the first.

    Tensors are matched by name, also through the prefixes, suffixes and words of the libraries,
    and then by place; see :func:`~fedviz.signature.matching.match`. Among the matched ones the
    order is compared: the fewest tensors are named whose removal leaves the others in the
    reference's order.

    Parameters
    ----------
    reference, found : Signature
        What is expected, and what a client has.

    Returns
    -------
    list of Mismatch
        In the reference's order, extra tensors last. Empty where the signatures agree.
    """
    return [] if reference.agrees_with(found) else compare_matched(match(reference, found))


def compare_matched(matching: Matching) -> list[Mismatch]:
    """Every difference between two signatures whose tensors are matched already."""
    mismatches: list[Mismatch] = []
    for spec in matching.reference:
        other = matching.counterparts.get(spec.name)
        if other is None:
            mismatches.append(_missing(spec, matching))
        else:
            mismatches.extend(_differences(spec, other, matching))
    mismatches.extend(_extra(spec, matching) for spec in matching.extra)
    return mismatches


def _differences(spec: TensorSpec, other: TensorSpec, matching: Matching) -> Iterator[Mismatch]:
    mismatch = functools.partial(_mismatch, spec, other, matching)
    if spec.name != other.name:
        yield mismatch(MismatchKind.NAME, spec.name, other.name)
    if spec.rank != other.rank:
        yield mismatch(MismatchKind.RANK, spec.tff_type, other.tff_type)
    elif spec.shape != other.shape:
        yield mismatch(MismatchKind.SHAPE, spec.tff_type, other.tff_type)
    if spec.dtype != other.dtype:
        yield mismatch(MismatchKind.DTYPE, spec.dtype, other.dtype)
    if spec.name in matching.displaced:
        yield mismatch(
            MismatchKind.ORDER,
            f"position {matching.reference.index(spec.name)}",
            f"position {matching.found.index(other.name)}",
        )


def _missing(spec: TensorSpec, matching: Matching) -> Mismatch:
    return _mismatch(spec, None, matching, MismatchKind.MISSING, spec.tff_type, "nothing")


def _extra(spec: TensorSpec, matching: Matching) -> Mismatch:
    return _mismatch(None, spec, matching, MismatchKind.EXTRA, "nothing", spec.tff_type)


def _mismatch(
    spec: TensorSpec | None,
    other: TensorSpec | None,
    matching: Matching,
    kind: MismatchKind,
    expected: str,
    actual: str,
) -> Mismatch:
    difference = Difference(kind, spec, other, matching)
    rule, cause = probable_cause(difference)
    return Mismatch(difference.spec.name, kind, expected, actual, cause, rule)
