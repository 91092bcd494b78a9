"""A text that is one type, parsed with a grammar."""

from __future__ import annotations

import functools

from lark import Lark, Token, Transformer, UnexpectedInput, v_args

from fedviz.errors import InvalidArgumentError
from fedviz.tff_types.types import (
    DTYPE_NAMES,
    AbstractType,
    FederatedType,
    FunctionType,
    PlacementType,
    SequenceType,
    StructType,
    TensorType,
    TffType,
)

__all__ = ["check_length", "parse_type", "shortened"]

LONGEST_TEXT = 2**20
"""Characters of a text that is parsed."""

DEEPEST_NESTING = 64
"""Brackets within brackets, and stars after each other."""

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
    found = shortened(str(token))
    return InvalidArgumentError(
        f"TFF type, {_place(token)}: expected a dtype such as float32, found {found}."
    )


def _place(at: Token | UnexpectedInput) -> str:
    return f"line {at.line}, column {at.column}"


def shortened(text: str) -> str:
    """A text as messages quote it: its beginning, in quotes."""
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
    check_length(text)
    _check_depth(text)
    try:
        # Through the start rule ?start the result is what the builder made of the type.
        parsed: TffType = _parser().parse(text)  # type: ignore[assignment]
    except UnexpectedInput as error:
        raise InvalidArgumentError(_unexpected(error, text)) from None
    return parsed


def check_length(text: str) -> None:
    """Refuse a text that is too long to be parsed.

    Raises
    ------
    InvalidArgumentError
        It has more than :data:`LONGEST_TEXT` characters.
    """
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
    return (
        f"TFF type, {_place(error)}: expected the type to go on or end, found {shortened(found)}."
    )
