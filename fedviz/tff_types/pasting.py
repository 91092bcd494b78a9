"""The types within a pasted text: a TFF error with everything around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fedviz.errors import InvalidArgumentError
from fedviz.tff_types.parsing import check_length, parse_type
from fedviz.tff_types.types import DTYPE_NAMES, TffType

__all__ = ["PastedTypes", "parse_paste"]


@dataclass(frozen=True)
class PastedTypes:
    """The types that a pasted text quotes; ``found`` is None where there is only one."""

    expected: TffType
    found: TffType | None


# What TFF writes between two types where the first is the one that was found.
_FOUND_FIRST = ("is not assignable to", "is not equivalent to", "is not identical to")
# How often, and how much text, may be tried in vain; the text as a multiple of what was pasted.
_MOST_ATTEMPTS = 2000
_PATIENCE = 3
# Characters around a lone dtype that tell whether it is meant as a type.
_NEARBY = 80
_CLOSING = {"<": ">", "{": "}", "(": ")"}


def parse_paste(text: str) -> PastedTypes:
    """The one or two types in a pasted text: a TFF error, or types by themselves.

    Parameters
    ----------
    text : str
        A whole error with everything around it; or one type; or two, one after the other, the
        expected one first.

    Returns
    -------
    PastedTypes
        Which type was expected is read from TFF's wording where it says so. Of more than two
        types the first two that differ are taken.

    Raises
    ------
    InvalidArgumentError
        There is no type in the text, or the text is too long.
    """
    check_length(text)
    # Below it TFF repeats parts of the two types.
    text = text.split("\nDiff:\n")[0]
    quoted = list(_quoted_types(text))
    if not quoted:
        # One that stands alone and is no type deserves to be told why.
        parse_type(text)
        raise InvalidArgumentError("TFF type: there is none in the text.")
    first, end = quoted[0]
    second = next(((t, at) for t, at in quoted[1:] if t != first), None)
    if second is None:
        return PastedTypes(first, quoted[1][0] if len(quoted) > 1 else None)
    between = " ".join(text[end : second[1]].split())
    if any(words in between for words in _FOUND_FIRST):
        return PastedTypes(second[0], first)
    return PastedTypes(first, second[0])


def _quoted_types(text: str) -> Iterator[tuple[TffType, int]]:
    """The outermost types in a text, each with the place at which it ends."""
    closing = _matching_brackets(text)
    patience, attempts = _PATIENCE * max(len(text), 1024), _MOST_ATTEMPTS
    at = 0
    while at < len(text):
        end = _candidate_end(text, at, closing)
        if end is None:
            at += 1
            continue
        if patience < 0 or attempts < 0:
            raise InvalidArgumentError(
                "TFF type: too many brackets that are no types; paste only the types."
            )
        try:
            parsed = parse_type(text[at:end])
        except InvalidArgumentError:
            patience, attempts = patience - (end - at), attempts - 1
            at += 1
            continue
        yield parsed, end
        at = end


def _matching_brackets(text: str) -> dict[int, int]:
    """Where each bracket is closed; brackets that are not are left out."""
    closing: dict[int, int] = {}
    open_at: list[int] = []
    for at, character in enumerate(text.replace("->", "  ")):
        if character in _CLOSING:
            open_at.append(at)
        elif character in ">})":
            # Prose leaves brackets open: they end with the bracket around them.
            while open_at and _CLOSING[text[open_at[-1]]] != character:
                open_at.pop()
            if open_at:
                closing[open_at.pop()] = at
    return closing


def _candidate_end(text: str, at: int, closing: dict[int, int]) -> int | None:
    """Where a type that begins here would end; None where none can begin."""
    if text[at] in _CLOSING:
        return _after_marks(text, closing[at] + 1) if at in closing else None
    if text[at] == "'":
        end = text.find("(shape=None)", at, at + 40)
        return None if end < 0 else _after_marks(text, end + len("(shape=None)"))
    before = text[at - 1] if at else " "
    if not text[at].isalpha() or before.isalnum() or before in "_.=/'\"[":
        return None
    end = at
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    if text[at:end] not in DTYPE_NAMES:
        return None
    return _tensor_end(text, at, end)


def _tensor_end(text: str, at: int, end: int) -> int | None:
    """The end of a tensor's type. A lone dtype is prose, unless it is marked as a type."""
    if text[end : end + 1] == "[":
        closed = text.find("]", end, end + 1000)
        return None if closed < 0 else _after_marks(text, closed + 1)
    after = _after_marks(text, end)
    before, behind = text[max(0, at - _NEARBY) : at], text[after : after + _NEARBY]
    marked = after > end or before.rstrip().endswith(("`", "type", "type:"))
    alone = not before.rpartition("\n")[2].strip() and not behind.partition("\n")[0].strip()
    return after if marked or alone else None


def _after_marks(text: str, at: int) -> int:
    """Past the stars and the placement of a type."""
    while text[at : at + 1] == "*":
        at += 1
    if text[at : at + 1] == "@":
        end = at + 1
        while end < len(text) and text[end].isalpha():
            end += 1
        return end if end > at + 1 else at
    return at
