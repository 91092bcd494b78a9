"""Members of groups, followed only within the file, and checked for what they claim."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py

from fedviz.errors import DatasetFormatError, FedvizError, SignatureError

__all__ = [
    "damage_reported",
    "descriptor_of",
    "has_member",
    "member",
    "member_id",
    "place_of",
    "refuse_foreign_storage",
    "refuse_overstated_size",
]

_LARGEST_RATIO = 1100
"""Largest ratio of declared to stored bytes: deflate reaches 1,032; above it the file lies."""


@contextlib.contextmanager
def damage_reported(path: Path, what: str) -> Iterator[None]:
    """Name the file and the place where HDF5 or the file's content fails us."""
    try:
        yield
    except SignatureError as error:
        # It was made of what the file says, and does not know of the file.
        raise _damaged(path, what, error) from error
    except FedvizError:
        raise
    except _DAMAGE as error:
        raise _damaged(path, what, error) from error


_DAMAGE = (
    *(OSError, LookupError, ValueError, TypeError, ArithmeticError),
    *(RuntimeError, AttributeError, MemoryError),
)


def _damaged(path: Path, what: str, error: Exception) -> DatasetFormatError:
    # HDF5 names the same object on several lines, and says a KeyError's text in quotes.
    said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return DatasetFormatError(
        f"{path.name} is damaged: cannot read {what} ({' '.join(said.split()).rstrip('.')}). "
        "Copy it again."
    )


def member(group: h5py.Group, name: str, kind: type[Any]) -> Any:
    """A member of a group that lies in this file and has the kind that is expected.

    Raises
    ------
    DatasetFormatError
        It is absent, is a link elsewhere, or is not of that kind.
    """
    identifier = member_id(group, name)
    found = _KINDS.get(type(identifier), h5py.Datatype)
    if found is not kind:
        path, place = _member_place(group, name)
        raise DatasetFormatError(
            f"{path.name}: {place}: expected a {kind.__name__.lower()}, found a "
            f"{found.__name__.lower()}."
        )
    return found(identifier)


def member_id(group: h5py.Group, name: str) -> h5py.h5g.GroupID | h5py.h5d.DatasetID:
    """A member as HDF5 knows it; h5py's own objects take many times as long to make."""
    key = name.encode()
    try:
        exists = group.id.links.exists(key)
        if exists and group.id.links.get_info(key).type == h5py.h5l.TYPE_HARD:
            return h5py.h5o.open(group.id, key)
    except _DAMAGE as error:
        raise _damaged(*_member_place(group, name), error) from error
    path, place = _member_place(group, name)
    if not exists:
        raise DatasetFormatError(f"{path.name}: {place} is missing. Copy the file again.")
    raise DatasetFormatError(
        f"{path.name}: {place} is a link to another place. A dataset holds all that it shows; "
        "links are refused."
    )


def _member_place(group: h5py.Group, name: str) -> tuple[Path, str]:
    return Path(group.file.filename), f"{group.name.rstrip('/')}/{name}"


_KINDS: Mapping[type, type] = {
    h5py.h5g.GroupID: h5py.Group,
    h5py.h5d.DatasetID: h5py.Dataset,
}


def has_member(group: h5py.Group, name: str) -> bool:
    """Whether there is a link of that name; unlike h5py's ``in``, this does not follow it."""
    return bool(group.id.links.exists(name.encode()))


def place_of(dataset: h5py.h5d.DatasetID) -> str:
    """The file and the place in it, as messages name a dataset."""
    file, name = h5py.h5f.get_name(dataset), h5py.h5i.get_name(dataset)
    return f"{Path(os.fsdecode(file)).name}: {name.decode(errors='replace')}"


def descriptor_of(dataset: h5py.h5d.DatasetID) -> int:
    """The file, as the system knows it while HDF5 has it open."""
    return int(h5py.h5i.get_file_id(dataset).get_vfd_handle())


def refuse_foreign_storage(dataset: h5py.h5d.DatasetID) -> None:
    """Refuse a dataset whose values lie in another file.

    Raises
    ------
    DatasetFormatError
        It is virtual, or has external storage.
    """
    properties = dataset.get_create_plist()
    if properties.get_layout() == h5py.h5d.VIRTUAL or properties.get_external_count():
        raise DatasetFormatError(
            f"{place_of(dataset)} keeps its values in another file. A dataset holds all that it "
            "shows; external storage and virtual datasets are refused."
        )


def refuse_overstated_size(dataset: h5py.h5d.DatasetID) -> None:
    """Refuse values that the file does not have, before anything is allocated for them.

    Raises
    ------
    DatasetFormatError
        More bytes are declared than are stored, or they lie beyond the file's end.
    """
    declared = math.prod(dataset.shape or ()) * dataset.get_type().get_size()
    stored = dataset.get_storage_size()
    file_size = os.fstat(descriptor_of(dataset)).st_size
    offset = dataset.get_offset()
    beyond = offset is not None and (offset + stored > file_size or declared > stored)
    if beyond or stored > file_size or declared > _LARGEST_RATIO * stored:
        raise DatasetFormatError(
            f"{place_of(dataset)} declares {declared:,} bytes, but {stored:,} are stored in a file "
            f"of {file_size:,}. Copy the file again."
        )
