"""safetensors files, whole or in shards with an index."""

from __future__ import annotations

import contextlib
import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedviz.errors import DatasetFormatError, located, storage_errors
from fedviz.importers.content import FileKind
from fedviz.importers.imported import (
    FoundTensor,
    ImportedWeights,
    LeftOut,
    check_count,
    collect_weights,
)
from fedviz.signature import DTYPES

__all__ = ["open_safetensors", "open_sharded_safetensors", "shards_of"]

_MAX_HEADER = 100_000_000
_NAMES = {
    **{"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "BOOL": "bool"},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}


@contextlib.contextmanager
def open_safetensors(path: Path) -> Iterator[ImportedWeights]:
    """The weights in a safetensors file, in the order in which they lie in it.

    Raises
    ------
    StorageError
        The file cannot be read.
    DatasetFormatError
        It is damaged, or something in it cannot be a weight.
    """
    with contextlib.ExitStack() as resources:
        found = _found_in(path, resources)
        yield collect_weights(path, FileKind.SAFETENSORS, found)


@contextlib.contextmanager
def open_sharded_safetensors(path: Path) -> Iterator[ImportedWeights]:
    """The weights that an index (``model.safetensors.index.json``) finds in its shards.

    Raises
    ------
    StorageError
        The index or a shard cannot be read.
    DatasetFormatError
        A shard lies elsewhere, is damaged, or lacks a tensor that the index names.
    """
    places = _weight_map(path)
    with contextlib.ExitStack() as resources:
        shards = {
            shard: {t.name: t for t in _found_in(path.parent / shard, resources)}
            for shard in dict.fromkeys(places.values())
        }
        for name, shard in places.items():
            if name not in shards[shard]:
                raise DatasetFormatError(
                    located(
                        f"expected it in {shard} as the index says, found it not there; copy the "
                        "files again",
                        file=path,
                        tensor=name,
                    )
                )
        left_out = [
            LeftOut(f"{shard}: {name}", "the index does not name it")
            for shard, tensors in shards.items()
            for name in tensors
            if places.get(name) != shard
        ]
        found = [shards[shard][name] for name, shard in places.items()]
        yield collect_weights(path, FileKind.SAFETENSORS_INDEX, found, left_out)


def shards_of(path: Path) -> frozenset[str]:
    """Names of the files that an index of shards speaks of."""
    return frozenset(_weight_map(path).values())


def _weight_map(path: Path) -> dict[str, str]:
    with storage_errors(path, "read"):
        content = _parsed(path, path.read_bytes())
    places = content.get("weight_map")
    plain = isinstance(places, dict) and all(isinstance(s, str) for s in places.values())
    if not plain or not places:
        raise DatasetFormatError(
            located("expected an index with a weight_map of tensors and files", file=path)
        )
    check_count(path, len(places))
    for name, shard in places.items():
        if Path(shard).name != shard or shard in ("", ".", ".."):
            raise DatasetFormatError(
                located(
                    f"expected its shard in the same folder, found {shard[:120]!r}; move the "
                    "shards beside the index",
                    file=path,
                    tensor=name,
                )
            )
    return dict(places)


def _found_in(path: Path, resources: contextlib.ExitStack) -> list[FoundTensor]:
    # The library takes the last of two equal names without a word.
    header = _parsed(path, _header_bytes(path))
    check_count(path, len(header))
    file = resources.enter_context(_opened(path))
    found = []
    for name in file.offset_keys():
        part = file.get_slice(name)
        dtype = _dtype(path, name, part.get_dtype())
        read = functools.partial(_read, path, file, name)
        found.append(FoundTensor(name, name, name, tuple(part.get_shape()), dtype, read))
    return found


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    with contextlib.ExitStack() as resources:
        try:
            with storage_errors(path, "read"):
                file = resources.enter_context(safe_open(path, framework="numpy"))
        except SafetensorError as error:
            raise DatasetFormatError(
                located(
                    f"expected a .safetensors file, found a damaged one: {error}; copy it again",
                    file=path,
                )
            ) from error
        yield file


def _read(path: Path, file: Any, name: str) -> np.ndarray:
    from safetensors import SafetensorError

    try:
        return np.asarray(file.get_tensor(name))
    except SafetensorError as error:
        raise DatasetFormatError(
            located(f"cannot be read ({error}); copy the file again", file=path, tensor=name)
        ) from error


def _header_bytes(path: Path) -> bytes:
    with storage_errors(path, "read"), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return file.read(min(length, _MAX_HEADER))


def _parsed(path: Path, text: bytes) -> Mapping[str, Any]:
    def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(name for name, _ in pairs)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise DatasetFormatError(
                located(
                    "the name is used by more than one tensor; save the model with unique names",
                    file=path,
                    tensor=twice[0],
                )
            )
        return dict(pairs)

    try:
        content = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise DatasetFormatError(
            located(
                f"expected a .safetensors file, found a damaged header ({error}); copy it again",
                file=path,
            )
        ) from error
    if not isinstance(content, dict):
        raise DatasetFormatError(located("expected a JSON object in its header", file=path))
    return content


def _dtype(path: Path, name: str, code: str) -> np.dtype[Any]:
    known = _NAMES.get(code)
    if known is None:
        raise DatasetFormatError(
            located(
                f"dtype {code} cannot be a weight; expected one of {', '.join(_NAMES)}; convert it "
                "before saving",
                file=path,
                tensor=name,
            )
        )
    return DTYPES[known]
