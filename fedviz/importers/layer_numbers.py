"""The numbers that Keras puts behind the names of layers, which go on from model to model.

Models that one process makes one after another are called ``dense``, ``dense_1``, then
``dense_2``, ``dense_3``, unless the session was cleared between them.
"""

from __future__ import annotations

import re

from fedviz.importers.keras_layers import KINDS_WITH_VARIABLES
from fedviz.signature import Signature

__all__ = ["differ_in_layer_numbers"]

# Keras 1 writes classes without underscores, and variables behind the layer's number: dense_1_W.
_KINDS = KINDS_WITH_VARIABLES | {kind.replace("_", "") for kind in KINDS_WITH_VARIABLES}
_KINDS |= {f"convolution{n}d" for n in (1, 2, 3)}
_VARIABLES_OF_KERAS_1 = "W|b|U|gamma|beta|running_mean|running_std|alphas|[WUbV]_[a-z]"
_NUMBERED = re.compile(
    r"(?P<way>forward_|backward_)?(?P<kind>[a-z][a-z0-9_]*?)(?:_(?P<number>[0-9]{1,9}))?"
    rf"(?P<variable>_(?:{_VARIABLES_OF_KERAS_1}))?"
)


def differ_in_layer_numbers(reference: Signature, found: Signature) -> bool:
    """Whether two models are the same but for the numbers that Keras gave their layers.

    They have as many tensors, of the same shapes and dtypes in the same order, and each name
    differs only in numbers behind Keras's own kinds of layers. The numbers of a kind have all
    moved by the same count, as those of a model made later have: two layers that changed places
    have not.

    Parameters
    ----------
    reference, found : Signature
        Names as Keras writes them, steps parted by ``/``.
    """
    if len(reference) != len(found) or reference.names == found.names:
        return False
    if any((a.shape, a.dtype) != (b.shape, b.dtype) for a, b in zip(reference, found, strict=True)):
        return False
    moved: dict[str, int] = {}
    return all(
        _moves_alike(ours, theirs, moved)
        for ours, theirs in zip(reference.names, found.names, strict=True)
    )


def _moves_alike(ours: str, theirs: str, moved: dict[str, int]) -> bool:
    """Whether two names agree but for numbers that move as ``moved`` says, which learns of new."""
    steps, other_steps = ours.split("/"), theirs.split("/")
    if len(steps) != len(other_steps):
        return False
    for step, other in zip(steps, other_steps, strict=True):
        a, b = _parsed(step), _parsed(other)
        if a is None or b is None:
            if step != other:
                return False
            continue
        (kind, number), (other_kind, other_number) = a, b
        if kind != other_kind or moved.setdefault(kind, other_number - number) != (
            other_number - number
        ):
            return False
    return True


def _parsed(step: str) -> tuple[str, int] | None:
    """A step of a name without its number, and the number, if Keras may have given it."""
    found = _NUMBERED.fullmatch(step)
    if found is None or found["kind"] not in _KINDS:
        return None
    nameless = f"{found['way'] or ''}{found['kind']}{found['variable'] or ''}"
    return nameless, int(found["number"] or 0)
