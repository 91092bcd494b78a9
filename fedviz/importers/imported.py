"""What an importer finds in a file: weights, read when they are asked for, and what it left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedviz.errors import DatasetFormatError, located
from fedviz.signature import DTYPES, Signature, TensorSpec, is_storable_text

__all__ = [
    "MAX_TENSORS",
    "FoundTensor",
    "ImportedWeights",
    "LazyWeights",
    "LeftOut",
    "Taken",
    "check_count",
    "collect_weights",
    "pickle_refusal",
    "weight_dtype",
]

MAX_TENSORS = 20_000
"""Most tensors that one model may have: a dataset keeps each as a block of its own."""

_MAX_NAME = 1024
# NumPy's kinds of bytes and of Unicode.
_TEXT = "SU"


@dataclass(frozen=True)
class Taken:
    """A tensor as the file names it, and what it is called in the dataset."""

    source: str
    tensor: str


@dataclass(frozen=True)
class LeftOut:
    """Something that was not taken, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class FoundTensor:
    """A tensor in a file, before its values are read.

    ``name`` is what it is to be called; ``full_name`` takes its place where two tensors of the
    file have the same. ``read`` gives the values in whatever byte order the file has.
    """

    source: str
    name: str
    full_name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]
    trainable: bool | None = None


class LazyWeights(Mapping[str, np.ndarray]):
    """Weights by tensor name, each read when it is asked for, while the file is open."""

    def __init__(self, signature: Signature, readers: Sequence[Callable[[], np.ndarray]]) -> None:
        self.signature = signature
        self._readers = dict(zip(signature.names, readers, strict=True))

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def __contains__(self, name: object) -> bool:
        return name in self._readers

    def __getitem__(self, name: str) -> np.ndarray:
        array = self._readers[name]()
        return array.astype(self.signature[name].numpy_dtype, copy=False)


@dataclass(frozen=True)
class ImportedWeights:
    """One model's weights as an importer found them.

    Parameters
    ----------
    source : str
        Name of the file.
    format : str
        What it turned out to be, whatever its name ends in.
    weights : LazyWeights
        By tensor name, in the file's order.
    took, left_out : tuple
        Every entry of the file, once.
    notes : tuple of str
        What a reader should know of the names or the order.
    num_examples : int, optional
        Where the file itself says it.
    """

    source: str
    format: str
    weights: LazyWeights
    took: tuple[Taken, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    num_examples: int | None = None

    @property
    def signature(self) -> Signature:
        """The tensors' names, shapes and dtypes."""
        return self.weights.signature


def collect_weights(
    path: Path,
    format_name: str,
    found: Sequence[FoundTensor],
    left_out: Sequence[LeftOut] = (),
    notes: Sequence[str] = (),
) -> ImportedWeights:
    """What was found in a file as weights, if all of it can be weights.

    Raises
    ------
    DatasetFormatError
        No tensors or more than :data:`MAX_TENSORS`, a name that is used twice, is empty or has
        more than 1,024 characters, or a dtype that weights cannot have.
    """
    if not found:
        also = f" (left out: {left_out[0].source}, {left_out[0].reason})" if left_out else ""
        raise DatasetFormatError(
            located(f"expected weights, found no tensors{also}; save the model anew", file=path)
        )
    check_count(path, len(found))
    names = _unique_names(path, found)
    specs = [
        TensorSpec(name, tensor.shape, weight_dtype(path, name, tensor.dtype), tensor.trainable)
        for name, tensor in zip(names, found, strict=True)
    ]
    return ImportedWeights(
        source=path.name,
        format=format_name,
        weights=LazyWeights(Signature(tuple(specs)), [tensor.read for tensor in found]),
        took=tuple(Taken(t.source, name) for t, name in zip(found, names, strict=True)),
        left_out=tuple(left_out),
        notes=tuple(notes),
    )


def check_count(path: Path, count: int) -> None:
    """Refuse a file with more tensors than a dataset can hold."""
    if count > MAX_TENSORS:
        raise DatasetFormatError(
            located(
                f"expected at most {MAX_TENSORS:,} tensors, found {count:,} or more; is it a "
                "model's weights?",
                file=path,
            )
        )


def _unique_names(path: Path, found: Sequence[FoundTensor]) -> list[str]:
    counts = Counter(tensor.name for tensor in found)
    names = [t.name if counts[t.name] == 1 else t.full_name for t in found]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DatasetFormatError(
            located(
                "the name is used by more than one tensor; save the model with unique names",
                file=path,
                tensor=twice[0],
            )
        )
    for name in names:
        if not is_storable_text(name) or len(name) > _MAX_NAME:
            raise DatasetFormatError(
                located(
                    f"expected a name of 1 to {_MAX_NAME:,} characters of valid Unicode; rename "
                    "it and save the file anew",
                    file=path,
                    tensor=name,
                )
            )
    return names


def weight_dtype(path: Path, name: str, dtype: np.dtype[Any]) -> str:
    """The name of a dtype that weights may have.

    Raises
    ------
    DatasetFormatError
        They cannot have it; the message says what to do about it.
    """
    if dtype.name in DTYPES and dtype.fields is None and dtype.subdtype is None:
        return dtype.name
    if dtype.hasobject:
        raise pickle_refusal(path, name)
    raise DatasetFormatError(
        located(
            f"dtype {_described(dtype)} cannot be a weight; {_way_out(dtype)}",
            file=path,
            tensor=name,
        )
    )


def _described(dtype: np.dtype[Any]) -> str:
    if dtype.fields is not None:
        return f"with the fields {', '.join(list(dtype.fields)[:4])}"
    if dtype.kind in _TEXT:
        return "text"
    return dtype.name


def _way_out(dtype: np.dtype[Any]) -> str:
    if dtype.fields is not None:
        return "save each field as a tensor of its own"
    if dtype.kind in _TEXT:
        return "save the file without it"
    if dtype.kind == "c":
        return "save the real and the imaginary part (x.real, x.imag) as two tensors"
    if dtype.kind == "V" and dtype.itemsize == 2:
        return "bfloat16 loses its name in this format; save as .safetensors, or as float32"
    return f"expected one of {', '.join(DTYPES)}"


def pickle_refusal(path: Path, tensor: str | None = None) -> DatasetFormatError:
    """The refusal of a pickle, with the way out in two lines of code."""
    if tensor is not None:
        found = "expected numbers, found Python objects, which are a pickle and may run code"
        way_out = (
            "save each array by itself: numpy.savez(path, *arrays), or safetensors.numpy.save_file"
        )
    else:
        found = "a pickle may run code when it is read, and is never opened"
        way_out = (
            "where you trust it, save its weights as safetensors: weights = torch.load(path, "
            "weights_only=True); safetensors.torch.save_file(weights, 'client.safetensors')"
        )
    return DatasetFormatError(located(f"{found}; {way_out}", file=path, tensor=tensor))
