"""Probable causes: small rules that read the pattern of one difference.

The first rule that has something to say wins, so the special ones stand before the general. Each
is listed with an example in ``docs/mismatches.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedviz.signature.matching import Matching
from fedviz.signature.mismatch import MismatchKind, NonFiniteCount
from fedviz.signature.names import (
    is_batch_statistic,
    is_bias,
    is_counter,
    is_optimizer_slot,
    is_pytorch_name,
    layer_of,
    role,
    unnumbered,
)
from fedviz.signature.specs import TensorSpec

__all__ = ["CAUSE_RULES", "CauseRule", "Difference", "ValueEvidence", "probable_cause"]


@dataclass(frozen=True)
class ValueEvidence:
    """What a tensor's values show; the fields that do not apply keep their defaults.

    ``nearest`` names the tensor whose server value the client's is nearest to, and
    ``times_nearer`` how many times nearer that is than the tensor's own server value.
    ``distance`` is ‖client − server‖ of a tensor that no optimizer should move.
    """

    nonfinite: NonFiniteCount | None = None
    nearest: str = ""
    times_nearer: float = 1.0
    distance: float = 0.0


@dataclass(frozen=True)
class Difference:
    """What a cause is guessed from.

    ``expected`` is None for an extra tensor and ``found`` for a missing one. ``kind`` is None for
    an observation, which is no mismatch.
    """

    kind: MismatchKind | None
    expected: TensorSpec | None
    found: TensorSpec | None
    matching: Matching
    values: ValueEvidence = ValueEvidence()

    @property
    def spec(self) -> TensorSpec:
        """The tensor, as the reference has it if it does."""
        spec = self.expected or self.found
        assert spec is not None
        return spec

    @property
    def both(self) -> tuple[TensorSpec, TensorSpec]:
        """The expected and the found tensor, of a difference that has both."""
        assert self.expected is not None
        assert self.found is not None
        return self.expected, self.found


@dataclass(frozen=True)
class CauseRule:
    """A named guess at why tensors differ.

    ``kinds`` are the kinds of mismatch that it reads, None standing for observations. ``says``
    gives the cause, None where the rule does not apply, and an empty text where it does and the
    cause stands at another tensor already.
    """

    name: str
    kinds: frozenset[MismatchKind | None]
    says: Callable[[Difference], str | None]


def probable_cause(difference: Difference) -> tuple[str, str]:
    """The name of the first rule that applies and what it says; two empty texts if none does."""
    for rule in CAUSE_RULES:
        if difference.kind in rule.kinds:
            cause = rule.says(difference)
            if cause is not None:
                return rule.name, cause
    return "", ""


# --- missing and extra tensors ------------------------------------------------------------------


def _shifted_layers(difference: Difference) -> str | None:
    """Said at the first tensor of the run; those after it are silent."""
    shift = difference.matching.shift
    if shift is None:
        return None
    if difference.kind is MismatchKind.NAME:
        return "" if _follows_shift(difference) else None
    if difference.spec.name not in shift.names:
        return None
    if difference.spec.name != shift.names[0]:
        return ""
    what = "missing" if difference.kind is MismatchKind.MISSING else "extra"
    return (
        f"{_counted(len(shift.names), 'tensor')} {what} here, and the next "
        f"{_counted(shift.followers, 'tensor')} are the same under shifted names"
    )


def _follows_shift(difference: Difference) -> bool:
    expected, found = difference.both
    same_kin = unnumbered(expected.name) == unnumbered(found.name)
    moved = difference.matching.reference.index(expected.name) != difference.matching.found.index(
        found.name
    )
    return same_kin and moved


def _optimizer_slot(difference: Difference) -> str | None:
    if not is_optimizer_slot(difference.spec.name):
        return None
    return "a slot of the optimizer, saved along with the weights; it is no weight"


def _counter(difference: Difference) -> str | None:
    if not is_counter(difference.spec):
        return None
    return "a counter (of steps, batches or seeds), no weight; averaging it means nothing"


def _batch_statistics(difference: Difference) -> str | None:
    spec = difference.spec
    if not is_batch_statistic(spec.name) and spec.trainable is not False:
        return None
    if difference.kind is MismatchKind.MISSING:
        return "not trainable: trainable_weights were sent instead of weights"
    return "not trainable: weights were sent instead of trainable_weights"


def _bias(difference: Difference) -> str | None:
    matched = difference.matching.counterparts
    if not is_bias(difference.spec.name):
        return None
    names = (
        matched
        if difference.kind is MismatchKind.MISSING
        else {found.name for found in matched.values()}
    )
    if not any(layer_of(name) == layer_of(difference.spec.name) for name in names):
        return None
    if difference.kind is MismatchKind.MISSING:
        return "a layer built with use_bias=False"
    return "a layer built with use_bias=True, and without a bias in the reference"


def _whole_layer(difference: Difference) -> str | None:
    """Said at the layer's first tensor; the others of it are silent."""
    missing = difference.kind is MismatchKind.MISSING
    matching = difference.matching
    whole, gone = (
        (matching.reference, matching.missing) if missing else (matching.found, matching.extra)
    )
    layer = layer_of(difference.spec.name)
    names = [spec.name for spec in whole if layer_of(spec.name) == layer]
    if not layer or not set(names) <= {spec.name for spec in gone}:
        return None
    if difference.spec.name != names[0]:
        return ""
    return f"the whole layer {layer} is {'missing' if missing else 'extra'}"


def _part_of_layer(difference: Difference) -> str | None:
    matching = difference.matching
    layer = layer_of(difference.spec.name)
    both = layer in {layer_of(s.name) for s in matching.reference} & {
        layer_of(s.name) for s in matching.found
    }
    if not layer or not both:
        return None
    verb = "lacks" if difference.kind is MismatchKind.MISSING else "has one tensor more,"
    return f"the layer {layer} {verb} {role(difference.spec.name)}: built with other options"


# --- shapes -------------------------------------------------------------------------------------


def _squeezed(difference: Difference) -> str | None:
    expected, found = difference.both
    if [s for s in expected.shape if s != 1] != [s for s in found.shape if s != 1]:
        return None
    silent = _broadcast(expected, found)
    return "an axis of length 1 was added or squeezed" + (f"; {silent}" if silent else "")


def _broadcastable(difference: Difference) -> str | None:
    silent = _broadcast(*difference.both)
    return f"broadcastable though different: {silent}" if silent else None


def _broadcast(expected: TensorSpec, found: TensorSpec) -> str:
    try:
        shape = np.broadcast_shapes(expected.shape, found.shape)
    except ValueError:
        return ""
    return f"NumPy makes {list(shape)} of the two without an error"


def _transposed(difference: Difference) -> str | None:
    expected, found = difference.both
    if expected.rank != 2 or found.shape != expected.shape[::-1]:
        return None
    return "transposed: stored as [out, in], as PyTorch does"


def _channels(difference: Difference) -> str | None:
    expected, found = difference.both
    if expected.rank < 3 or expected.rank != found.rank:
        return None
    directions = {
        "first where the reference has them last": _channels_first(expected.shape) == found.shape,
        "last where the reference has them first": _channels_first(found.shape) == expected.shape,
    }
    for direction, holds in directions.items():
        if holds:
            return f"channels {direction}: a kernel of another layout, such as PyTorch's"
    return None


def _channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A kernel's shape [*kernel, in, out] as [out, in, *kernel]."""
    return (shape[-1], shape[-2], *shape[:-2])


def _permuted_axes(difference: Difference) -> str | None:
    expected, found = difference.both
    return "the axes are permuted" if sorted(expected.shape) == sorted(found.shape) else None


def _flattened(difference: Difference) -> str | None:
    expected, found = difference.both
    if expected.size != found.size or expected.size == 0:
        return None
    return f"reshaped: the same number of values, {expected.size:,}"


def _kernel_size(difference: Difference) -> str | None:
    expected, found = difference.both
    if expected.rank < 3 or expected.shape[-2:] != found.shape[-2:]:
        return None
    sizes = _times(expected.shape[:-2]), _times(found.shape[:-2])
    return f"another kernel size: {sizes[0]} expected, {sizes[1]} found"


def _classes(difference: Difference) -> str | None:
    expected, found = difference.both
    if not _differs_in_outputs(expected, found) or not _in_last_layer(difference):
        return None
    return f"another number of classes: {expected.shape[-1]:,} expected, {found.shape[-1]:,} found"


def _units(difference: Difference) -> str | None:
    expected, found = difference.both
    if not _differs_in_outputs(expected, found):
        return None
    return (
        f"another number of units in this layer: {expected.shape[-1]:,} expected, "
        f"{found.shape[-1]:,} found"
    )


def _differs_in_outputs(expected: TensorSpec, found: TensorSpec) -> bool:
    return expected.rank > 0 and expected.shape[:-1] == found.shape[:-1]


def _in_last_layer(difference: Difference) -> bool:
    weights = [s for s in difference.matching.reference if not is_optimizer_slot(s.name)]
    return layer_of(weights[-1].name) == layer_of(difference.spec.name)


def _input_width(difference: Difference) -> str | None:
    expected, found = difference.both
    if not _differs_in_inputs(expected, found):
        return None
    widths = f"{expected.shape[-2]:,} expected, {found.shape[-2]:,} found"
    if layer_of(difference.matching.reference.tensors[0].name) == layer_of(expected.name):
        return f"another input width: {widths}; other features, image sizes or channels"
    return f"another input width: {widths}; the layer before it is another, or the images' size"


def _differs_in_inputs(expected: TensorSpec, found: TensorSpec) -> bool:
    if expected.rank < 2 or expected.rank != found.rank:
        return False
    return (*expected.shape[:-2], expected.shape[-1]) == (*found.shape[:-2], found.shape[-1])


def _another_width(difference: Difference) -> str | None:
    expected, found = difference.both
    if expected.rank < 2 or expected.rank != found.rank or expected.shape[:-2] != found.shape[:-2]:
        return None
    return "another number of units in this layer and in the one before it"


# --- dtypes -------------------------------------------------------------------------------------


def _integer(difference: Difference) -> str | None:
    expected, found = difference.both
    if not expected.is_float or found.is_float:
        return None
    return "an integer where a real number belongs: quantised, or a counter"


def _real_number(difference: Difference) -> str | None:
    expected, found = difference.both
    if expected.is_float or not found.is_float:
        return None
    return "a real number where an integer belongs: a counter or a mask that was averaged or cast"


def _numpy_float64(difference: Difference) -> str | None:
    expected, found = difference.both
    if (expected.dtype, found.dtype) != ("float32", "float64"):
        return None
    return "NumPy noise or arithmetic made float64 of it"


def _precision(difference: Difference) -> str | None:
    expected, found = difference.both
    if not (expected.is_float and found.is_float):
        return None
    return "trained or saved in another precision"


# --- order --------------------------------------------------------------------------------------


def _permuted_values(difference: Difference) -> str | None:
    values = difference.values
    if not values.nearest:
        return None
    nearer = f"{values.times_nearer:,.0f} times" if math.isfinite(values.times_nearer) else "far"
    return (
        f"the values are permuted among tensors of one shape: {nearer} nearer to the server's "
        f"{values.nearest} than to its own"
    )


def _sorted_by_name(difference: Difference) -> str | None:
    return "sorted by name" if difference.matching.sorted_by_name else None


def _trainable_apart(difference: Difference) -> str | None:
    if not difference.matching.trainable_apart:
        return None
    return "two orders of Keras: weights lists the trainable first, get_weights() layer by layer"


def _another_order(difference: Difference) -> str | None:
    return "listed in another order" if not difference.values.nearest else None


# --- names --------------------------------------------------------------------------------------


def _colon_zero(difference: Difference) -> str | None:
    expected, found = difference.both
    if expected.name.removesuffix(":0") != found.name.removesuffix(":0"):
        return None
    return "TensorFlow's :0 is on the name of one and not of the other"


def _prefix(difference: Difference) -> str | None:
    expected, found = difference.both
    shorter, longer = sorted((expected.name, found.name), key=len)
    if not longer.endswith(shorter) or longer[-len(shorter) - 1] not in "/.":
        return None
    prefix = longer[: -len(shorter)]
    verb = "added" if longer == found.name else "left out"
    return f"renamed: the prefix {prefix} was {verb}; saved from a wrapper or a submodel"


def _pytorch_names(difference: Difference) -> str | None:
    expected, found = difference.both
    if is_pytorch_name(expected.name) == is_pytorch_name(found.name):
        return None
    theirs, ours = ("PyTorch", "Keras") if is_pytorch_name(found.name) else ("Keras", "PyTorch")
    return f"{theirs}'s names where the reference has {ours}'s"


def _numbered(difference: Difference) -> str | None:
    expected, found = difference.both
    if unnumbered(expected.name) != unnumbered(found.name):
        return None
    return "numbered on: built after another model in the same session"


def _suffix(difference: Difference) -> str | None:
    expected, found = difference.both
    shorter, longer = sorted((expected.name, found.name), key=len)
    if not longer.startswith(shorter):
        return None
    verb = "added" if longer == found.name else "left out"
    return f"renamed: the suffix {longer[len(shorter) :]} was {verb}"


def _another_name(_: Difference) -> str:
    return "the same tensor under another name"


# --- values -------------------------------------------------------------------------------------


def _overflow(difference: Difference) -> str | None:
    count = difference.values.nonfinite
    if count is None or count.num_nan or difference.spec.dtype != "float16":
        return None
    return "overflow: float16 holds 65,504 at most"


def _all_nonfinite(difference: Difference) -> str | None:
    count = difference.values.nonfinite
    if count is None or count.num_nan != count.size:
        return None
    return "every value is NaN: training diverged, or the tensor was never initialised"


def _diverged(difference: Difference) -> str | None:
    if difference.values.nonfinite is None:
        return None
    return "training diverged, or a value was divided by zero"


def _frozen_moved(difference: Difference) -> str | None:
    if not difference.values.distance or is_batch_statistic(difference.spec.name):
        return None
    return "frozen, and yet it moved: this client trained it, or started from another model"


# ------------------------------------------------------------------------------------------------


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _times(sizes: tuple[int, ...]) -> str:
    return "×".join(map(str, sizes))


def _rules(
    kinds: set[MismatchKind | None], **rules: Callable[[Difference], str | None]
) -> tuple[CauseRule, ...]:
    frozen = frozenset(kinds)
    return tuple(CauseRule(name.replace("_", "-"), frozen, says) for name, says in rules.items())


CAUSE_RULES: tuple[CauseRule, ...] = (
    *_rules(
        {MismatchKind.MISSING, MismatchKind.EXTRA, MismatchKind.NAME},
        shifted_layers=_shifted_layers,
    ),
    *_rules(
        {MismatchKind.MISSING, MismatchKind.EXTRA},
        optimizer_slot=_optimizer_slot,
        counter=_counter,
        batch_statistics=_batch_statistics,
        bias=_bias,
        whole_layer=_whole_layer,
        part_of_layer=_part_of_layer,
    ),
    *_rules(
        {MismatchKind.SHAPE, MismatchKind.RANK},
        squeezed=_squeezed,
        broadcastable=_broadcastable,
        transposed=_transposed,
        channels=_channels,
        permuted_axes=_permuted_axes,
        reshaped=_flattened,
        kernel_size=_kernel_size,
        classes=_classes,
        units=_units,
        input_width=_input_width,
        another_width=_another_width,
    ),
    *_rules(
        {MismatchKind.DTYPE},
        integer=_integer,
        real_number=_real_number,
        numpy_float64=_numpy_float64,
        precision=_precision,
    ),
    *_rules(
        {MismatchKind.ORDER},
        permuted_values=_permuted_values,
        sorted_by_name=_sorted_by_name,
        trainable_apart=_trainable_apart,
        another_order=_another_order,
    ),
    *_rules(
        {MismatchKind.NAME},
        colon_zero=_colon_zero,
        prefix=_prefix,
        pytorch_names=_pytorch_names,
        numbered=_numbered,
        suffix=_suffix,
        another_name=_another_name,
    ),
    *_rules(
        {MismatchKind.NONFINITE},
        overflow=_overflow,
        all_nonfinite=_all_nonfinite,
        diverged=_diverged,
    ),
    *_rules({None}, frozen_moved=_frozen_moved),
)
"""All rules, in the order in which they are asked."""
