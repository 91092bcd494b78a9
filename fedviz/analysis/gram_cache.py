"""Gram matrices kept on the disk, so that the weights of a large dataset are read once.

A file is named for the identity of the dataset's file (path, inode, size, time), the round and the
kind. What is read back is held against the dataset: a file that is damaged, cut short or of
something else counts as absent, and the matrix is computed anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedviz.analysis.client_gram import PathGram, Point, RoundGram
from fedviz.dataset import Round, WeightDataset
from fedviz.files import complete_or_absent

__all__ = ["keep_path_gram", "keep_round_gram", "kept_path_gram", "kept_round_gram"]

_VERSION = 1
_MOST_BYTES = 2 * 10**9
# Of an array's head in a .npy file: what a file is larger than its values, at most.
_HEAD = 4096
_MOST_TEXT = 64 * 2**20
# What zipfile and NumPy raise of a file in which any byte may be wrong.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


class _Unfit(Exception):  # noqa: N818 - it never leaves this module
    """What is kept is not what was looked for."""


class _Shaped(NamedTuple):
    name: str
    shape: tuple[int, ...]


def keep_round_gram(folder: Path, round_: Round, gram: RoundGram) -> None:
    """Keep the Gram matrices of a round.

    Raises
    ------
    StorageError
        The folder cannot be written to.
    """
    about = {"from_server": gram.from_server, "by_tensor": list(gram.by_tensor)}
    arrays = {"total": gram.total, "norms": gram.norms, "distances": gram.distances}
    if gram.by_tensor:
        arrays["tensors"] = np.stack(list(gram.by_tensor.values()))
    _keep(_round_path(folder, round_), _key(round_.dataset, round_.number), about, arrays)


def kept_round_gram(folder: Path, round_: Round) -> RoundGram | None:
    """The Gram matrices of a round, if they were kept and are sound."""
    path, key = _round_path(folder, round_), _key(round_.dataset, round_.number)
    clients = tuple(record.id for record in round_.conforming)
    models = tuple(round_.aggregates)
    tensors = tuple(spec.name for spec in round_.dataset.signature if spec.is_float)
    n, points = len(clients), len(clients) + len(models)
    with contextlib.suppress(_Unfit), _opened(path, key) as (archive, about):
        named = about.get("by_tensor")
        if named not in ([], list(tensors)) or not isinstance(about.get("from_server"), bool):
            raise _Unfit
        total = _array(archive, _Shaped("total", (points, points)))
        norms = _array(archive, _Shaped("norms", (len(tensors), n)))
        distances = _array(archive, _Shaped("distances", (len(tensors), 1 + len(models), n)))
        parts: Mapping[str, np.ndarray] = {}
        if named:
            shape = (len(tensors), points, points)
            stacked = _array(archive, _Shaped("tensors", shape))
            parts = dict(zip(tensors, stacked, strict=True))
        server = about["from_server"]
        return RoundGram(clients, models, tensors, server, total, parts, norms, distances)
    return None


def keep_path_gram(folder: Path, dataset: WeightDataset, gram: PathGram) -> None:
    """Keep the space of all rounds.

    Raises
    ------
    StorageError
        The folder cannot be written to.
    """
    points = [dataclasses.astuple(point) for point in gram.points]
    about = {"points": points, "left_out": list(gram.left_out)}
    _keep(_path(folder, _key(dataset, None)), _key(dataset, None), about, {"gram": gram.gram})


def kept_path_gram(folder: Path, dataset: WeightDataset) -> PathGram | None:
    """The space of all rounds, if it was kept and is sound."""
    key = _key(dataset, None)
    with contextlib.suppress(_Unfit), _opened(_path(folder, key), key) as (archive, about):
        try:
            points = tuple(Point(role, int(number), name) for role, number, name in about["points"])
            rounds, clients = map(int, about["left_out"])
        except (KeyError, TypeError, ValueError):
            raise _Unfit from None
        _check_points(points, dataset)
        gram = _array(archive, _Shaped("gram", (len(points), len(points))))
        return PathGram(points, gram, (rounds, clients))
    return None


def _check_points(points: tuple[Point, ...], dataset: WeightDataset) -> None:
    rounds = {r.number: r for r in dataset.rounds}
    for point in points:
        round_ = rounds.get(point.round)
        if round_ is None or point.role not in ("client", "server", "aggregate"):
            raise _Unfit
        if point.role == "client" and point.subject not in round_.clients:
            raise _Unfit
        if point.role == "aggregate" and point.subject not in round_.aggregates:
            raise _Unfit


def _key(dataset: WeightDataset, number: int | None) -> list[Any]:
    kind = "paths" if number is None else "round"
    return [_VERSION, *dataclasses.astuple(dataset.identity), kind, number]


def _round_path(folder: Path, round_: Round) -> Path:
    return _path(folder, _key(round_.dataset, round_.number))


def _path(folder: Path, key: list[Any]) -> Path:
    return folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:40]}.npz"


def _keep(
    path: Path, key: list[Any], about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    text = json.dumps({"key": key, **about}).encode()
    with complete_or_absent(path) as temporary:
        np.savez(temporary, about=np.frombuffer(text, "u1"), **arrays)
    _prune(path.parent)


def _prune(folder: Path) -> None:
    """Let go of the oldest files, so that the cache does not grow without end."""
    kept = sorted(folder.glob("*.npz"), key=lambda path: -path.stat().st_mtime)
    total = 0
    for path in kept:
        total += path.stat().st_size
        if total > _MOST_BYTES:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path, key: list[Any]) -> Any:
    """The archive and what it says of itself, if it is the one that is looked for."""
    try:
        with zipfile.ZipFile(path) as archive:
            text = _member(archive, "about", _MOST_TEXT)
            if text.dtype != np.uint8 or text.ndim != 1:
                raise _Unfit
            about = json.loads(text.tobytes())
            if not isinstance(about, dict) or about.get("key") != key:
                raise _Unfit
            yield archive, about
    except _DAMAGE as error:
        raise _Unfit from error


def _array(archive: zipfile.ZipFile, wanted: _Shaped) -> np.ndarray:
    found = _member(archive, wanted.name, 8 * math.prod(wanted.shape) + _HEAD)
    if found.shape != wanted.shape or found.dtype != np.float64:
        raise _Unfit
    return found


def _member(archive: zipfile.ZipFile, name: str, most_bytes: int) -> np.ndarray:
    """An array of the archive; zipfile holds its bytes against their checksum as it reads."""
    if archive.getinfo(f"{name}.npy").file_size > most_bytes:
        raise _Unfit
    with archive.open(f"{name}.npy") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)  # type: ignore[no-untyped-call]
        if file.read(1):
            raise _Unfit
    return np.asarray(array)
