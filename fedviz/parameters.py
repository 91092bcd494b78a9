"""Aggregators as tables tell of them, and their parameters, read and checked in one way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from fedviz.errors import InvalidArgumentError, UnknownNameError

__all__ = ["Choice", "Parameter", "Rule"]


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


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is to be said of a rule that turns clients' weights into one model.

    Parameters
    ----------
    name : str
        As the library and the command take it.
    title : str
        As headings show it.
    description : str
        One line.
    formula : str
        What it computes, for x_i the clients' weights (d_i their updates) and w_i their weights in
        the mean.
    source : str
        Whose function, or which paper.
    protects_against : str
        What it withstands or hides; or that it does not.
    parameters : tuple of Parameter or Choice
    cohort : str, default "n ≥ 1"
        The smallest cohort, as a formula.
    minimum_cohort : callable
        The smallest number of clients of weight above 0, for some parameters.
    weighted : bool, default True
        Whether the clients' weights count beyond being 0 or not.
    needs_server : bool, default False
        Whether there must be a server model.
    """

    name: str
    title: str
    description: str
    formula: str
    source: str
    protects_against: str
    parameters: tuple[Parameter | Choice, ...] = ()
    cohort: str = "n ≥ 1"
    minimum_cohort: Callable[[Mapping[str, Any]], int] = lambda _: 1
    weighted: bool = True
    needs_server: bool = False

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that were given, each as a number or word within its range.

        Raises
        ------
        UnknownNameError
            There is no such parameter.
        InvalidArgumentError
            A value is of the wrong type or outside its range.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                raise UnknownNameError(
                    f"the aggregator {self.name} has no parameter {name}; it has "
                    f"{', '.join(known) or 'none'}."
                )
        return {name: known[name].checked(value) for name, value in given.items()}

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters: what was given, checked as by :meth:`checked`, else the defaults."""
        return {p.name: p.default for p in self.parameters} | self.checked(given)
