"""Two types laid side by side, leaf by leaf."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from fedviz.signature.matching import longest_increasing
from fedviz.tff_types.types import (
    FederatedType,
    FunctionType,
    SequenceType,
    StructType,
    TffType,
)

__all__ = ["LeafDiff", "LeafStatus", "diff_types"]


class LeafStatus(StrEnum):
    """What became of one leaf."""

    SAME = "same"
    CHANGED = "changed"
    MISSING = "missing"
    EXTRA = "extra"
    MOVED = "moved"
    RENAMED = "renamed"


@dataclass(frozen=True)
class LeafDiff:
    """One line of two types laid side by side.

    ``path`` leads to the leaf as the expected type has it (as the found one has it, for an extra
    leaf): names, ``[2]`` for the third unnamed element, ``*`` for a sequence's element,
    ``parameter`` and ``result`` of a function, ``@`` for the placement.
    """

    path: tuple[str, ...]
    expected: str | None
    found: str | None
    status: LeafStatus

    @property
    def label(self) -> str:
        """The path in one line."""
        return " › ".join(self.path)


def diff_types(expected: TffType, found: TffType) -> list[LeafDiff]:
    """Two types leaf by leaf: the elements of structs by name first, then by position.

    Returns
    -------
    list of LeafDiff
        In the expected type's order, what is extra last in its struct. All are ``same`` exactly
        where the types are equal.
    """
    return list(_diff((), expected, found))


def _diff(path: tuple[str, ...], expected: TffType, found: TffType) -> Iterator[LeafDiff]:
    if isinstance(expected, StructType) and isinstance(found, StructType):
        yield from _diff_structs(path, expected, found)
    elif isinstance(expected, SequenceType) and isinstance(found, SequenceType):
        yield from _diff((*path, "*"), expected.element, found.element)
    elif isinstance(expected, FunctionType) and isinstance(found, FunctionType):
        yield from _diff_parameters((*path, "parameter"), expected.parameter, found.parameter)
        yield from _diff((*path, "result"), expected.result, found.result)
    elif isinstance(expected, FederatedType) and isinstance(found, FederatedType):
        yield from _diff(path, expected.member, found.member)
        yield _leaf((*path, "@"), _placement(expected), _placement(found))
    else:
        yield _leaf(path, str(expected), str(found))


def _leaf(path: tuple[str, ...], expected: str, found: str) -> LeafDiff:
    status = LeafStatus.SAME if expected == found else LeafStatus.CHANGED
    return LeafDiff(path, expected, found, status)


def _placement(federated: FederatedType) -> str:
    braces = "" if federated.all_equal else "{}"
    return f"{braces}@{federated.placement}"


def _diff_parameters(
    path: tuple[str, ...], expected: TffType | None, found: TffType | None
) -> Iterator[LeafDiff]:
    if expected is not None and found is not None:
        yield from _diff(path, expected, found)
    elif expected is not None:
        yield from _one_sided(path, expected, LeafStatus.MISSING)
    elif found is not None:
        yield from _one_sided(path, found, LeafStatus.EXTRA)


def _diff_structs(
    path: tuple[str, ...], expected: StructType, found: StructType
) -> Iterator[LeafDiff]:
    pairs = _aligned(expected, found)
    paired_here = sorted(pairs)
    kept = longest_increasing([pairs[i] for i in paired_here])
    in_order = {paired_here[k] for k in kept}
    for i, (name, element) in enumerate(expected.elements):
        here = (*path, _step(name, i))
        if i not in pairs:
            yield from _one_sided(here, element, LeafStatus.MISSING)
            continue
        other_name, other = found.elements[pairs[i]]
        for leaf in _diff(here, element, other):
            yield _with_status(leaf, renamed=name != other_name, moved=i not in in_order)
    paired = set(pairs.values())
    for j, (name, element) in enumerate(found.elements):
        if j not in paired:
            yield from _one_sided((*path, _step(name, j)), element, LeafStatus.EXTRA)


def _aligned(expected: StructType, found: StructType) -> dict[int, int]:
    """Positions of the elements that belong together."""
    positions = {
        name: j for j, (name, _) in reversed(list(enumerate(found.elements))) if name is not None
    }
    pairs: dict[int, int] = {}
    for i, (name, _) in enumerate(expected.elements):
        j = None if name is None else positions.pop(name, None)
        if j is not None:
            pairs[i] = j
    paired = set(pairs.values())
    for i, ((name, element), (other_name, other)) in enumerate(
        zip(expected.elements, found.elements, strict=False)
    ):
        both_named = name is not None and other_name is not None
        # Another name and another type as well is another element.
        if i not in pairs and i not in paired and (not both_named or element == other):
            pairs[i] = i
    return pairs


def _step(name: str | None, position: int) -> str:
    return f"[{position}]" if name is None else name


def _with_status(leaf: LeafDiff, *, renamed: bool, moved: bool) -> LeafDiff:
    if leaf.status is not LeafStatus.SAME or not (renamed or moved):
        return leaf
    status = LeafStatus.RENAMED if renamed else LeafStatus.MOVED
    return LeafDiff(leaf.path, leaf.expected, leaf.found, status)


def _one_sided(path: tuple[str, ...], tree: TffType, status: LeafStatus) -> Iterator[LeafDiff]:
    if isinstance(tree, StructType) and tree.elements:
        for i, (name, element) in enumerate(tree.elements):
            yield from _one_sided((*path, _step(name, i)), element, status)
    elif status is LeafStatus.MISSING:
        yield LeafDiff(path, str(tree), None, status)
    else:
        yield LeafDiff(path, None, str(tree), status)
