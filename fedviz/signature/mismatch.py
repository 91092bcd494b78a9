"""One difference between a client and the reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Mismatch", "MismatchKind", "NonFiniteCount"]


class MismatchKind(StrEnum):
    """How a client differs from the reference. The values are part of the command's JSON."""

    SHAPE = "shape"
    DTYPE = "dtype"
    MISSING = "missing"
    EXTRA = "extra"
    ORDER = "order"
    RANK = "rank"
    NONFINITE = "nonfinite"
    NAME = "name"


@dataclass(frozen=True)
class NonFiniteCount:
    """The values of one tensor that are no numbers, counted and located.

    ``first_index`` is the index of the first of them in C order, ``()`` in a scalar.
    """

    num_nan: int
    num_positive_infinite: int
    num_negative_infinite: int
    size: int
    first_index: tuple[int, ...]

    def __str__(self) -> str:
        infinite = self.num_positive_infinite + self.num_negative_infinite
        counts = ((self.num_nan, "NaN"), (infinite, "infinite"))
        parts = [f"{count} {name}" for count, name in counts if count]
        at = f", the first at {list(self.first_index)}" if self.first_index else ""
        return f"{' and '.join(parts)} of {self.size:,}{at}"


@dataclass(frozen=True)
class Mismatch:
    """One difference between a client and the reference.

    ``expected`` and ``actual`` are what a person reads: TFF types, positions, names or counts.
    ``cause`` is a guess from the pattern of the difference, empty where there is none and where
    an earlier mismatch has said it already; ``rule`` names the rule that made the guess.
    ``nonfinite`` counts the values of a mismatch of that kind, and ``values_of`` names the tensor
    that the values belong to where they are in another's place.
    """

    tensor: str
    kind: MismatchKind
    expected: str
    actual: str
    cause: str = ""
    rule: str = field(default="", compare=False)
    nonfinite: NonFiniteCount | None = field(default=None, compare=False)
    values_of: str = field(default="", compare=False)
