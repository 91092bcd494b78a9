"""What a fault is: which client, what is done to it, and the argument of that."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedviz.errors import InvalidArgumentError, UnknownNameError
from fedviz.records import FaultKind
from fedviz.signature import DTYPES

__all__ = ["Fault", "is_colluding", "is_structural", "parse_fault"]

_STRUCTURAL = frozenset(
    {
        FaultKind.TRANSPOSE,
        FaultKind.DTYPE,
        FaultKind.MISSING,
        FaultKind.EXTRA,
        FaultKind.ORDER,
    }
)
_COLLUDING = frozenset({FaultKind.LITTLE_IS_ENOUGH, FaultKind.INNER_PRODUCT})
_WITHOUT_ARGUMENT = frozenset({FaultKind.ORDER, FaultKind.SIGN_FLIP, FaultKind.LABEL_FLIP})
_ABOVE_ZERO = {
    FaultKind.GAUSSIAN: "a standard deviation",
    FaultKind.LITTLE_IS_ENOUGH: "a number z of deviations",
    FaultKind.INNER_PRODUCT: "a factor epsilon",
}


@dataclass(frozen=True)
class Fault:
    """What to do to which client.

    Parameters
    ----------
    client : str
        The client's id.
    kind : FaultKind
        What is done.
    argument : str
        The kind's own, empty for its default: ``transpose`` and ``missing`` take a tensor's name,
        ``extra`` the name of the added tensor, ``dtype`` a dtype (float64), ``nan`` and ``inf``
        a share of all cells (5 cells), ``scale`` a factor (10), ``gaussian`` a standard deviation
        (1), ``little-is-enough`` the number z of deviations (from the sizes of the cohort),
        ``inner-product`` the factor epsilon (0.5). The others take none.

    Raises
    ------
    InvalidArgumentError
        No client, or an argument that the kind does not take.
    """

    client: str
    kind: FaultKind
    argument: str = ""

    def __post_init__(self) -> None:
        if not self.client:
            raise InvalidArgumentError(f"fault {self}: expected CLIENT:KIND[:ARG], found no client")
        _check_argument(self)

    @property
    def number(self) -> float:
        """The argument as a number.

        Raises
        ------
        InvalidArgumentError
            It is none.
        """
        try:
            return float(self.argument)
        except ValueError:
            raise InvalidArgumentError(
                f"fault {self}: expected a number, found {self.argument!r}"
            ) from None

    def __str__(self) -> str:
        parts = (self.client, self.kind.value, self.argument)
        return ":".join(parts if self.argument else parts[:2])


def parse_fault(text: str) -> Fault:
    """The fault that a text such as ``c03:nan:0.01`` names.

    Raises
    ------
    InvalidArgumentError
        The text is not ``CLIENT:KIND[:ARG]``, or the argument is not one of its kind.
    UnknownNameError
        There is no such kind of fault.
    """
    client, separator, rest = text.partition(":")
    kind, _, argument = rest.partition(":")
    if not separator:
        raise InvalidArgumentError(
            f"fault {text!r}: expected CLIENT:KIND[:ARG], such as c03:transpose"
        )
    kinds = [known.value for known in FaultKind]
    if kind not in kinds:
        raise UnknownNameError(
            f"fault {text!r}: there is no kind {kind!r}; there are {', '.join(kinds)}"
        )
    return Fault(client, FaultKind(kind), argument)


def is_structural(kind: FaultKind) -> bool:
    """Whether a fault of this kind changes the client's signature."""
    return kind in _STRUCTURAL


def is_colluding(kind: FaultKind) -> bool:
    """Whether clients with a fault of this kind need to know what the honest ones trained."""
    return kind in _COLLUDING


def _check_argument(fault: Fault) -> None:
    kind, argument = fault.kind, fault.argument
    if not argument:
        return
    if kind in _WITHOUT_ARGUMENT:
        raise InvalidArgumentError(f"fault {fault}: {kind.value} takes no argument")
    if kind is FaultKind.DTYPE and argument not in DTYPES:
        raise InvalidArgumentError(
            f"fault {fault}: expected a dtype, one of {', '.join(DTYPES)}, found {argument!r}"
        )
    if kind in (FaultKind.NAN, FaultKind.INF) and not 0 < fault.number <= 1:
        raise InvalidArgumentError(
            f"fault {fault}: expected a share of cells above 0 and at most 1, found {argument}"
        )
    if kind is FaultKind.SCALE and not math.isfinite(fault.number):
        raise InvalidArgumentError(f"fault {fault}: expected a finite factor, found {argument}")
    if kind in _ABOVE_ZERO and not 0 < fault.number < math.inf:
        raise InvalidArgumentError(
            f"fault {fault}: expected {_ABOVE_ZERO[kind]} above 0, found {argument}"
        )
