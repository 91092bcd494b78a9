"""Parameters of aggregators: what they may be, read and checked in one way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from fedviz.errors import InvalidArgumentError

__all__ = ["Choice", "Parameter"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of an aggregator: a number.

    Parameters
    ----------
    name : str
        As the library and the command take it.
    kind : {"integer", "number"}
        What its values are.
    default : int, float or str
        The value where none is given.
    range : str
        Which values are allowed, in words: what a message and a form show.
    help : str
        One line.
    minimum, maximum : float
        Bounds.
    open_ends : bool, default False
        Whether the bounds themselves are outside the range.
    words : tuple of str
        Words that are allowed in place of a number.
    """

    name: str
    kind: Literal["integer", "number"]
    default: int | float | str
    range: str
    help: str
    minimum: float = -math.inf
    maximum: float = math.inf
    open_ends: bool = False
    words: tuple[str, ...] = ()

    def checked(self, value: Any) -> int | float | str:
        """The value as the aggregator takes it.

        Raises
        ------
        InvalidArgumentError
            It is outside the range.
        """
        if isinstance(value, str) and value in self.words:
            return value
        return self.integer(value) if self.kind == "integer" else self.number(value)

    def integer(self, value: Any) -> int:
        """The value as an integer within the range.

        Raises
        ------
        InvalidArgumentError
            It is none.
        """
        number = self.number(value)
        if not number.is_integer():
            raise self.refusal(value)
        return int(number)

    def number(self, value: Any) -> float:
        """The value as a number within the range; a command's text of one is taken too.

        Raises
        ------
        InvalidArgumentError
            It is none.
        """
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            raise self.refusal(value) from None
        inside = self.minimum <= number <= self.maximum and math.isfinite(number)
        if not inside or (self.open_ends and number in (self.minimum, self.maximum)):
            raise self.refusal(value)
        return number

    def refusal(self, found: Any) -> InvalidArgumentError:
        """The error about a value outside the range."""
        return InvalidArgumentError(f"{self.name}: expected {self.range}, found {found!r}.")


@dataclass(frozen=True)
class Choice:
    """A parameter whose value is one of a few words.

    Parameters
    ----------
    name : str
        As the library and the command take it.
    words : tuple of str
        What it may be. ``yes`` and ``no`` are also taken as booleans.
    default : str
        One of the words.
    help : str
        One line.
    """

    name: str
    words: tuple[str, ...]
    default: str
    help: str
    kind: ClassVar[str] = "choice"

    @property
    def range(self) -> str:
        """Which values are allowed, in words."""
        return f"{', '.join(self.words[:-1])} or {self.words[-1]}"

    def checked(self, value: Any) -> str:
        """The value as one of the words.

        Raises
        ------
        InvalidArgumentError
            It is none.
        """
        word = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
        if not isinstance(word, str) or word not in self.words:
            raise InvalidArgumentError(f"{self.name}: expected {self.range}, found {value!r}.")
        return word
