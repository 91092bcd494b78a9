"""Signatures: the ordered names, shapes and dtypes of a model's tensors."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from fedviz.errors import SignatureError, UnknownNameError, located

__all__ = [
    "DTYPES",
    "Signature",
    "TensorSpec",
    "is_storable_text",
    "tff_type_of_client",
    "tff_type_of_round",
]

DTYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(getattr(ml_dtypes, name, None) or name)
    for name in (
        *("float16", "bfloat16", "float32", "float64", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    )
}
"""The dtypes that weights may have, by the name that TFF and the file use for them."""

_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})


def is_storable_text(text: str) -> bool:
    """Whether a name is not empty and survives UTF-8 and C strings, which is how it is kept."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return bool(text) and "\0" not in text


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a model: its variable path, shape and dtype.

    Parameters
    ----------
    name : str
        Variable path, such as ``dense/kernel``. Not empty.
    shape : tuple of int
        Sizes of the axes; ``()`` for a scalar.
    dtype : str
        A key of :data:`DTYPES`.
    trainable : bool, optional
        Whether an optimizer moves it; None where that is not known.

    Raises
    ------
    SignatureError
        Empty name, negative size, or a dtype that weights cannot have.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    trainable: bool | None = None

    def __post_init__(self) -> None:
        if not is_storable_text(self.name):
            raise SignatureError(
                f"{self.name!r} cannot name a tensor: it is empty, holds a NUL character or is not "
                "valid Unicode; give each tensor its variable path."
            )
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        if any(size < 0 for size in self.shape):
            raise SignatureError(
                located(f"negative size in shape {list(self.shape)}", tensor=self.name)
            )
        if self.dtype not in DTYPES:
            raise SignatureError(
                located(
                    f"dtype {self.dtype} cannot be a weight; expected one of {', '.join(DTYPES)}",
                    tensor=self.name,
                )
            )

    @classmethod
    def of(cls, name: str, array: np.ndarray, trainable: bool | None = None) -> TensorSpec:
        """The spec of an array."""
        return cls(name, array.shape, array.dtype.name, trainable)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype as NumPy has it (bfloat16 from ml_dtypes)."""
        return DTYPES[self.dtype]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor's values."""
        return self.size * self.numpy_dtype.itemsize

    @property
    def is_float(self) -> bool:
        """Whether the values are real numbers, which a mean keeps in their dtype."""
        return self.dtype in _FLOATS

    @property
    def tff_type(self) -> str:
        """The type as TFF prints it: ``float32[5,10]``, and ``float32`` for a scalar."""
        return self.dtype + (f"[{','.join(map(str, self.shape))}]" if self.shape else "")


@dataclass(frozen=True)
class Signature:
    """The ordered tensors of a model.

    ``str(signature)`` is the type that TFF prints for such weights,
    ``<dense/kernel=float32[5,10],dense/bias=float32[10]>``.

    Raises
    ------
    SignatureError
        Two tensors have the same name.
    """

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", tuple(self.tensors))
        twice = [n for n, count in Counter(t.name for t in self.tensors).items() if count > 1]
        if twice:
            raise SignatureError(
                located(
                    "the name is used by more than one tensor; names are unique", tensor=twice[0]
                )
            )

    @classmethod
    def of(cls, weights: Mapping[str, np.ndarray]) -> Signature:
        """The signature of named arrays, in their order."""
        return cls(tuple(TensorSpec.of(name, array) for name, array in weights.items()))

    @functools.cached_property
    def _index(self) -> dict[str, int]:
        return {t.name: i for i, t in enumerate(self.tensors)}

    def __iter__(self) -> Iterator[TensorSpec]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __getitem__(self, name: str) -> TensorSpec:
        return self.tensors[self.index(name)]

    def __str__(self) -> str:
        return f"<{','.join(f'{t.name}={t.tff_type}' for t in self.tensors)}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors' names, in order."""
        return tuple(t.name for t in self.tensors)

    @property
    def num_parameters(self) -> int:
        """Number of values in all tensors."""
        return sum(t.size for t in self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors' values."""
        return sum(t.nbytes for t in self.tensors)

    def index(self, name: str) -> int:
        """Position of a tensor.

        Raises
        ------
        UnknownNameError
            There is no tensor of that name.
        """
        try:
            return self._index[name]
        except KeyError:
            raise UnknownNameError(
                f"there is no tensor {name}; there are {', '.join(self.names[:12])}"
                + (" …" if len(self) > 12 else "")
            ) from None

    def agrees_with(self, other: Signature) -> bool:
        """Whether the other has the same names, shapes and dtypes in the same order.

        Whether a tensor is trainable does not matter here: it is no part of the type.
        """
        return len(self) == len(other) and all(
            (a.name, a.shape, a.dtype) == (b.name, b.shape, b.dtype)
            for a, b in zip(self.tensors, other.tensors, strict=True)
        )

    def arrange(self, weights: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> list[np.ndarray]:
        """The weights as a list in this signature's order, each checked against its spec.

        Parameters
        ----------
        weights : mapping of name to array, or sequence of arrays
            A sequence must already be in this order; of a mapping the names count, and none
            may be left over.

        Raises
        ------
        SignatureError
            A tensor is missing, left over, or has another shape or dtype. Nothing is cast.
        """
        if isinstance(weights, Mapping):
            arrays = self._by_name(weights)
        else:
            arrays = [np.asarray(w) for w in weights]
            if len(arrays) != len(self):
                raise SignatureError(f"expected {len(self)} tensors, found {len(arrays)}")
        for spec, array in zip(self.tensors, arrays, strict=True):
            if array.shape != spec.shape or array.dtype != spec.numpy_dtype:
                found = f"{array.dtype.name}[{','.join(map(str, array.shape))}]"
                raise SignatureError(
                    located(f"expected {spec.tff_type}, found {found}", tensor=spec.name)
                )
        return arrays

    def _by_name(self, weights: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        missing = [n for n in self.names if n not in weights]
        extra = [n for n in weights if n not in self]
        if missing or extra:
            name, found = (missing[0], "nothing") if missing else (extra[0], "a tensor")
            expected = self[name].tff_type if missing else "no such tensor"
            raise SignatureError(located(f"expected {expected}, found {found}", tensor=name))
        return [np.asarray(weights[n]) for n in self.names]


def tff_type_of_client(signature: Signature) -> str:
    """One client's value as TFF types it: its weights and its ``num_examples``."""
    return f"<weights={signature},num_examples=int64>"


def tff_type_of_round(signature: Signature) -> str:
    """The clients' values of one round as TFF types them."""
    return f"{{{tff_type_of_client(signature)}}}@CLIENTS"
