"""Types as TensorFlow Federated prints them: parsed, printed and compared leaf by leaf.

TFF 0.87 prints ``({<weights=<float32[5,10],float32[10]>,num_examples=int64>}@CLIENTS -> int32)``,
in one line or over several, and its errors quote one or two of such types. Nothing here imports
TFF.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from lark import Lark, Token, Transformer, UnexpectedInput, v_args

from fedviz.errors import InvalidArgumentError, SignatureError
from fedviz.signature import Signature, TensorSpec
from fedviz.signature.matching import longest_increasing

__all__ = [
    "AbstractType",
    "FederatedType",
    "FunctionType",
    "LeafDiff",
    "LeafStatus",
    "PastedTypes",
    "PlacementType",
    "SequenceType",
    "StructType",
    "TensorType",
    "TffType",
    "diff_types",
    "parse_paste",
    "parse_type",
    "signature_of",
]

LONGEST_TEXT = 2**20
"""Characters of a text that is parsed."""

DEEPEST_NESTING = 64
"""Brackets within brackets, and stars after each other."""

DTYPE_NAMES = frozenset(
    {
        *("bool", "str", "bfloat16", "float16", "float32", "float64", "complex64", "complex128"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    }
)
"""What TFF calls the dtypes of tensors."""

_GRAMMAR = r"""
?start: type
?type: sequence
     | sequence "@" NAME         -> all_equal
     | "{" type "}" "@" NAME     -> federated
?sequence: base
     | sequence "*"              -> sequence
?base: NAME                      -> named
     | NAME "[" _dims "]"        -> tensor
     | UNRANKED                  -> unranked
     | "<" ">"                   -> struct
     | "<" _elements ">"         -> struct
     | "(" "->" type ")"         -> no_parameter
     | "(" type "->" type ")"    -> function
_elements: element ("," element)*
element: type                    -> unnamed_element
     | NAME "=" type             -> named_element
     | "=" type                  -> empty_name_element
_dims: DIM ("," DIM)*

ARROW.3: "->"
DIM.2: /[0-9]{1,18}|\?/
UNRANKED.2: /'[a-z0-9]+'\(shape=None\)/
NAME: /(?:(?!->)[^\s=,<>{}()\[\]@*`'"])+(?: (?:(?!->)[^\s=,<>{}()\[\]@*`'"])+)*/
%ignore /\s+/
"""


@dataclass(frozen=True)
class TensorType:
    """A tensor; ``shape`` is None where the rank is unknown, and so is a size in it."""

    dtype: str
    shape: tuple[int | None, ...] | None = ()

    def __str__(self) -> str:
        if self.shape is None:
            return f"'{self.dtype}'(shape=None)"
        sizes = ",".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.dtype}[{sizes}]" if self.shape else self.dtype


@dataclass(frozen=True)
class StructType:
    """Elements in order, each with a name or None."""

    elements: tuple[tuple[str | None, TffType], ...]

    def __str__(self) -> str:
        parts = (str(t) if name is None else f"{name}={t}" for name, t in self.elements)
        return f"<{','.join(parts)}>"


@dataclass(frozen=True)
class SequenceType:
    """Any number of elements of one type, as a ``tf.data.Dataset`` has them."""

    element: TffType

    def __str__(self) -> str:
        return f"{self.element}*"


@dataclass(frozen=True)
class FederatedType:
    """A value with its placement; ``all_equal`` where every participant holds the same."""

    member: TffType
    placement: str
    all_equal: bool

    def __str__(self) -> str:
        member = str(self.member) if self.all_equal else f"{{{self.member}}}"
        return f"{member}@{self.placement}"


@dataclass(frozen=True)
class FunctionType:
    """A computation; ``parameter`` is None where it takes none."""

    parameter: TffType | None
    result: TffType

    def __str__(self) -> str:
        return f"({'' if self.parameter is None else self.parameter} -> {self.result})"


@dataclass(frozen=True)
class AbstractType:
    """A type variable, such as ``T``."""

    label: str

    def __str__(self) -> str:
        return self.label


@dataclass(frozen=True)
class PlacementType:
    """The type of placements themselves."""

    def __str__(self) -> str:
        return "placement"


TffType = (
    TensorType
    | StructType
    | SequenceType
    | FederatedType
    | FunctionType
    | AbstractType
    | PlacementType
)


@v_args(inline=True)
class _Builder(Transformer[Token, TffType]):
    """Makes the tree while the text is parsed, so that no recursion follows."""

    def named(self, name: Token) -> TffType:
        if name in DTYPE_NAMES:
            return TensorType(str(name))
        if name == "placement":
            return PlacementType()
        if name[0].isupper() and name.isidentifier():
            return AbstractType(str(name))
        raise _unknown_dtype(name)

    def tensor(self, name: Token, *sizes: Token) -> TffType:
        if name not in DTYPE_NAMES:
            raise _unknown_dtype(name)
        return TensorType(str(name), tuple(None if s == "?" else int(s) for s in sizes))

    def unranked(self, text: Token) -> TffType:
        name = text.split("'")[1]
        if name not in DTYPE_NAMES:
            raise _unknown_dtype(text)
        return TensorType(name, None)

    def struct(self, *elements: tuple[str | None, TffType]) -> TffType:
        return StructType(elements)

    def unnamed_element(self, element: TffType) -> tuple[str | None, TffType]:
        return None, element

    def named_element(self, name: Token, element: TffType) -> tuple[str | None, TffType]:
        return str(name), element

    def empty_name_element(self, element: TffType) -> tuple[str | None, TffType]:
        return "", element

    def sequence(self, element: TffType) -> TffType:
        return SequenceType(element)

    def all_equal(self, member: TffType, placement: Token) -> TffType:
        return FederatedType(member, str(placement), True)

    def federated(self, member: TffType, placement: Token) -> TffType:
        return FederatedType(member, str(placement), False)

    def no_parameter(self, result: TffType) -> TffType:
        return FunctionType(None, result)

    def function(self, parameter: TffType, result: TffType) -> TffType:
        return FunctionType(parameter, result)


def _unknown_dtype(token: Token) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"TFF type, {_place(token)}: expected a dtype such as float32, found {_short(str(token))}."
    )


def _place(at: Token | UnexpectedInput) -> str:
    return f"line {at.line}, column {at.column}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


@functools.cache
def _parser() -> Lark:
    # Terminals are told apart by what may follow: a size in [5,10] is a name elsewhere.
    return Lark(_GRAMMAR, parser="lalr", lexer="contextual", transformer=_Builder())


def parse_type(text: str) -> TffType:
    """The type that a text is.

    Parameters
    ----------
    text : str
        One type as TFF prints it, compact or formatted over several lines.

    Returns
    -------
    TffType
        Its ``str()`` is TFF's compact representation.

    Raises
    ------
    InvalidArgumentError
        It is no type; the message says at which line and column. Or it is longer than
        :data:`LONGEST_TEXT` or nested deeper than :data:`DEEPEST_NESTING`.
    """
    _check_length(text)
    _check_depth(text)
    try:
        # Through the start rule ?start the result is what the builder made of the type.
        parsed: TffType = _parser().parse(text)  # type: ignore[assignment]
    except UnexpectedInput as error:
        raise InvalidArgumentError(_unexpected(error, text)) from None
    return parsed


def _check_length(text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise InvalidArgumentError(
            f"TFF type: expected at most {LONGEST_TEXT:,} characters, found {len(text):,}; "
            "paste only the types."
        )


def _check_depth(text: str) -> None:
    depth = stars = 0
    for character in text.replace("->", "  "):
        depth += (character in "<{(") - (character in ">})")
        stars = stars + 1 if character == "*" else 0
        if max(depth, stars) > DEEPEST_NESTING:
            raise InvalidArgumentError(
                f"TFF type: nested deeper than {DEEPEST_NESTING} levels; no model's type is."
            )


def _unexpected(error: UnexpectedInput, text: str) -> str:
    at_end = getattr(getattr(error, "token", None), "type", "") == "$END"
    if at_end or not text.strip():
        return "TFF type: expected more, found the end of the text; a bracket may be missing."
    found = text[error.pos_in_stream : (error.pos_in_stream or 0) + 40].split("\n")[0]
    return f"TFF type, {_place(error)}: expected the type to go on or end, found {_short(found)}."


# --- types within a pasted text -----------------------------------------------------------------


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
    _check_length(text)
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


# --- comparison ---------------------------------------------------------------------------------


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


def signature_of(tff_type: TffType) -> Signature:
    """The signature of a client's weights, given their TFF type.

    Parameters
    ----------
    tff_type : TffType
        A struct of tensors, also nested (names are joined by ``/``), placed or not, or the
        ``weights`` of a struct that has them beside ``num_examples``.

    Raises
    ------
    SignatureError
        It holds something else than tensors of known shapes, or a name twice.
    """
    if isinstance(tff_type, FederatedType):
        tff_type = tff_type.member
    if isinstance(tff_type, StructType):
        tff_type = dict(tff_type.elements).get("weights", tff_type)
    return Signature(tuple(_specs((), tff_type)))


def _specs(path: tuple[str, ...], tree: TffType) -> Iterator[TensorSpec]:
    if isinstance(tree, StructType):
        for i, (name, element) in enumerate(tree.elements):
            yield from _specs((*path, str(i) if name is None else name), element)
    elif isinstance(tree, TensorType) and tree.shape is not None and None not in tree.shape:
        sizes = tuple(size for size in tree.shape if size is not None)
        yield TensorSpec("/".join(path) or "0", sizes, tree.dtype)
    else:
        raise SignatureError(
            f"TFF type {_short(str(tree))} cannot be a weight; expected a tensor of known shape."
        )
