"""TFF's types as values; ``str()`` of one is its compact representation."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "DTYPE_NAMES",
    "AbstractType",
    "FederatedType",
    "FunctionType",
    "PlacementType",
    "SequenceType",
    "StructType",
    "TensorType",
    "TffType",
]

DTYPE_NAMES = frozenset(
    {
        *("bool", "str", "bfloat16", "float16", "float32", "float64", "complex64", "complex128"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    }
)
"""What TFF calls the dtypes of tensors."""


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
