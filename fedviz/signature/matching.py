"""Which tensors of two signatures are taken for the same one."""

from __future__ import annotations

import bisect
import functools
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from fedviz.signature.names import is_auxiliary, is_batch_statistic, name_parts, role, unnumbered
from fedviz.signature.specs import Signature, TensorSpec

__all__ = ["Matching", "Shift", "longest_increasing", "match"]

Pair = tuple[TensorSpec, TensorSpec]


@dataclass(frozen=True)
class Shift:
    """A run of tensors that one side has and the other has not, which renumbers those after it.

    ``names`` are the run's, as the side that has them calls them; ``followers`` counts the later
    tensors that are the same under other names.
    """

    names: tuple[str, ...]
    followers: int


@dataclass(frozen=True)
class Matching:
    """Two signatures and which tensors are taken for the same one.

    ``pairs`` holds the reference's spec and the found one, in the reference's order.
    """

    reference: Signature
    found: Signature
    pairs: tuple[Pair, ...]
    shift: Shift | None = None

    @functools.cached_property
    def counterparts(self) -> dict[str, TensorSpec]:
        """The found tensor for each of the reference's names that has one."""
        return {spec.name: other for spec, other in self.pairs}

    @functools.cached_property
    def missing(self) -> tuple[TensorSpec, ...]:
        """Tensors of the reference without a counterpart."""
        return tuple(s for s in self.reference if s.name not in self.counterparts)

    @functools.cached_property
    def extra(self) -> tuple[TensorSpec, ...]:
        """Found tensors without a counterpart."""
        paired = {other.name for _, other in self.pairs}
        return tuple(s for s in self.found if s.name not in paired)

    @functools.cached_property
    def displaced(self) -> frozenset[str]:
        """Names, as the reference has them, of the fewest tensors that stand out of order."""
        order = [self.found.index(other.name) for _, other in self.pairs]
        kept = longest_increasing(order)
        return frozenset(s.name for i, (s, _) in enumerate(self.pairs) if i not in kept)

    @functools.cached_property
    def sorted_by_name(self) -> bool:
        """Whether the found tensors are in the order of their names, and the reference's not."""
        names, expected = self.found.names, self.reference.names
        return list(names) == sorted(names) and list(expected) != sorted(expected)

    @functools.cached_property
    def trainable_apart(self) -> bool:
        """Whether one side lists the trainable tensors first, as Keras's ``weights`` does."""
        trainable = {s.name: _is_trainable(s, other) for s, other in self.pairs}
        expected = [s.name for s in self.reference if s.name in trainable]
        back = {other.name: s.name for s, other in self.pairs}
        found = [back[s.name] for s in self.found if s.name in back]
        first = sorted(expected, key=lambda name: not trainable[name])
        return found != expected and (found == first or _sorted(found, trainable) == expected)

    @functools.cached_property
    def conflicts(self) -> int:
        """How many tensors differ in anything but their name: the less, the better the match."""
        changed = sum((a.shape, a.dtype) != (b.shape, b.dtype) for a, b in self.pairs)
        return changed + len(self.missing) + len(self.extra) + len(self.displaced)


def _is_trainable(spec: TensorSpec, other: TensorSpec) -> bool:
    known = [s.trainable for s in (spec, other) if s.trainable is not None]
    return known[0] if known else not is_batch_statistic(spec.name)


def _sorted(names: Iterable[str], trainable: dict[str, bool]) -> list[str]:
    return sorted(names, key=lambda name: not trainable[name])


def match(reference: Signature, found: Signature) -> Matching:
    """The matching of two signatures that leaves the fewest conflicts.

    Tensors are matched by name: first by the very name, then by what is the same under the
    libraries' prefixes, suffixes and words, then by place. Where that leaves conflicts, two other
    readings are tried: the same tensors numbered on, and a run of tensors that is missing or
    extra and renumbers those after it.
    """
    by_name = Matching(reference, found, _pairs_by_name(reference, found))
    if not by_name.conflicts:
        return by_name
    candidates = [by_name, *_numbered_on(reference, found), *_shifted(reference, found)]
    return min(candidates, key=lambda matching: matching.conflicts)


def _pairs_by_name(reference: Signature, found: Signature) -> tuple[Pair, ...]:
    counterpart = {spec.name: found[spec.name] for spec in reference if spec.name in found}
    same_place = functools.partial(_same_place, reference, found)
    for pairs_of in (_same_words, _same_words_within, _same_without_numbers, same_place):
        taken = {other.name for other in counterpart.values()}
        left = [spec for spec in reference if spec.name not in counterpart]
        free = [spec for spec in found if spec.name not in taken]
        if not left or not free:
            break
        for spec, other in pairs_of(left, free):
            counterpart[spec.name] = other
    return tuple((s, counterpart[s.name]) for s in reference if s.name in counterpart)


def _same_words(left: list[TensorSpec], free: list[TensorSpec]) -> list[Pair]:
    return _unique_pairs(left, free, lambda spec: _words(spec.name))


def _same_without_numbers(left: list[TensorSpec], free: list[TensorSpec]) -> list[Pair]:
    return _unique_pairs(left, free, lambda spec: (unnumbered(spec.name), spec.shape, spec.dtype))


def _unique_pairs(
    left: list[TensorSpec], free: list[TensorSpec], key: Callable[[TensorSpec], Hashable]
) -> list[Pair]:
    """Pairs of specs whose key is the same, and nobody else's."""
    by_key = {key(spec): spec for spec in free}
    counts = Counter(map(key, left))
    counts_free = Counter(map(key, free))
    return [
        (spec, by_key[key(spec)])
        for spec in left
        if counts[key(spec)] == counts_free[key(spec)] == 1
    ]


def _words(name: str) -> tuple[str, ...]:
    return (*name_parts(name)[:-1], role(name))


def _same_words_within(left: list[TensorSpec], free: list[TensorSpec]) -> list[Pair]:
    """Names of which one ends in the other: a prefix such as ``model/`` or ``module.``."""
    inner = _within(left, free)
    outer = {spec.name: other for other, spec in _within(free, left)}
    pairs = {spec.name: (spec, other) for spec, other in inner}
    for spec in left:
        if spec.name in outer and spec.name not in pairs:
            pairs[spec.name] = (spec, outer[spec.name])
    counts = Counter(other.name for _, other in pairs.values())
    return [pair for pair in pairs.values() if counts[pair[1].name] == 1]


def _within(shorter: list[TensorSpec], longer: list[TensorSpec]) -> list[Pair]:
    endings: dict[tuple[str, ...], list[TensorSpec]] = {}
    for spec in longer:
        words = _words(spec.name)
        for start in range(1, len(words)):
            endings.setdefault(words[start:], []).append(spec)
    pairs = []
    for spec in shorter:
        words = _words(spec.name)
        candidates = endings.get(words, [])
        # A lone word such as "kernel" says little: the type must agree, too.
        if len(candidates) == 1 and (len(words) > 1 or _same_type(spec, candidates[0])):
            pairs.append((spec, candidates[0]))
    return pairs


def _same_place(
    reference: Signature, found: Signature, left: list[TensorSpec], free: list[TensorSpec]
) -> list[Pair]:
    """Tensors at the same place among the weights proper, alike in type or in role."""
    there = {place: spec for spec, place in _places(found, free)}
    return [
        (spec, there[place])
        for spec, place in _places(reference, left)
        if place in there and _alike(spec, there[place])
    ]


def _places(signature: Signature, chosen: Sequence[TensorSpec]) -> list[tuple[TensorSpec, int]]:
    names = {spec.name for spec in chosen}
    weights = [spec for spec in signature if not is_auxiliary(spec)]
    return [(spec, place) for place, spec in enumerate(weights) if spec.name in names]


def _alike(spec: TensorSpec, other: TensorSpec) -> bool:
    permuted = sorted(spec.shape) == sorted(other.shape) and role(spec.name) == role(other.name)
    return _same_type(spec, other) or (permuted and spec.dtype == other.dtype)


def _same_type(spec: TensorSpec, other: TensorSpec) -> bool:
    return (spec.shape, spec.dtype) == (other.shape, other.dtype)


def _kin(spec: TensorSpec) -> tuple[object, ...]:
    """What stays of a tensor when its layers are numbered anew."""
    return unnumbered(spec.name), spec.shape, spec.dtype


def _numbered_on(reference: Signature, found: Signature) -> list[Matching]:
    """The same tensors in the same order, all under other numbers."""
    if len(reference) != len(found) or set(reference.names) == set(found.names):
        return []
    if list(map(_kin, reference)) != list(map(_kin, found)):
        return []
    return [Matching(reference, found, tuple(zip(reference, found, strict=True)))]


def _shifted(reference: Signature, found: Signature) -> list[Matching]:
    """One run of tensors is missing or extra, and those after it are renumbered."""
    if len(reference) == len(found):
        return []
    ours, theirs = list(map(_kin, reference)), list(map(_kin, found))
    short = min(len(ours), len(theirs))
    before = _common_start(ours, theirs)
    after = min(_common_start(ours[::-1], theirs[::-1]), short - before)
    if before + after < short:
        return []
    pairs = (
        *zip(reference.tensors[:before], found.tensors[:before], strict=True),
        *zip(
            reference.tensors[len(ours) - after :],
            found.tensors[len(theirs) - after :],
            strict=True,
        ),
    )
    longer = reference if len(ours) > len(theirs) else found
    run = longer.names[before : len(longer) - after]
    followers = sum(a.name != b.name for a, b in pairs[before:])
    return [Matching(reference, found, pairs, Shift(run, followers) if followers else None)]


def _common_start(a: Sequence[object], b: Sequence[object]) -> int:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def longest_increasing(values: Sequence[int]) -> set[int]:
    """Indices of a longest increasing subsequence (patience sorting, O(n log n))."""
    tails: list[int] = []
    tail_indices: list[int] = []
    previous: list[int | None] = []
    for i, value in enumerate(values):
        pile = bisect.bisect_left(tails, value)
        previous.append(tail_indices[pile - 1] if pile else None)
        if pile == len(tails):
            tails.append(value)
            tail_indices.append(i)
        else:
            tails[pile], tail_indices[pile] = value, i
    kept: set[int] = set()
    at = tail_indices[-1] if tail_indices else None
    while at is not None:
        kept.add(at)
        at = previous[at]
    return kept
