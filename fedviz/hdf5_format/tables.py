"""Tables, and small trees of plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from fedviz.errors import DatasetFormatError, InvalidArgumentError
from fedviz.hdf5_format.heaps import REFERENCE, check_heap, is_of_variable_length
from fedviz.hdf5_format.members import (
    has_member,
    member,
    place_of,
    refuse_foreign_storage,
    refuse_overstated_size,
)
from fedviz.hdf5_format.names import TABLES, TEXT

__all__ = [
    "columns_of",
    "read_json",
    "read_table",
    "write_json",
    "write_table",
]


def write_table(group: h5py.Group, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write a table of :data:`TABLES`."""
    table = np.empty(len(rows), dtype=TABLES[name])
    for i, row in enumerate(rows):
        table[i] = row
    group.create_dataset(name, data=table)


def read_table(group: h5py.Group, name: str) -> list[dict[str, Any]]:
    """Rows of a table of :data:`TABLES`, text decoded; unknown columns are passed over."""
    dataset = member(group, name, h5py.Dataset)
    refuse_foreign_storage(dataset.id)
    refuse_overstated_size(dataset.id)
    columns = TABLES[name].names or ()
    missing = [c for c in columns if c not in (dataset.dtype.names or ())]
    if missing or dataset.shape is None or dataset.ndim != 1:
        raise DatasetFormatError(
            f"{place_of(dataset.id)}: expected a table with the columns {', '.join(columns)}, "
            f"found {', '.join(missing) + ' missing' if missing else f'rank {dataset.ndim}'}."
        )
    _check_columns(dataset, TABLES[name])
    table = dataset.fields(columns)[()]
    values = [_plain_values(table[c], TABLES[name][c]) for c in columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _plain_values(column: np.ndarray, expected: np.dtype[Any]) -> list[Any]:
    values: list[Any] = column.tolist()
    is_text = h5py.check_string_dtype(expected) is not None
    return [value.decode("utf-8") for value in values] if is_text else values


def _check_columns(dataset: h5py.Dataset, expected: np.dtype[Any]) -> None:
    kind = dataset.id.get_type()
    columns = columns_of(kind)
    for column in expected.names or ():
        found, start = columns[kind.get_member_index(column.encode())]
        if _column_class(found) != _column_class(h5py.h5t.py_create(expected[column], True)):
            raise DatasetFormatError(
                f"{place_of(dataset.id)}, column {column}: expected {expected[column]}, "
                f"found {found.dtype}. Copy the file again."
            )
        check_heap(dataset.id, found, start)


def columns_of(kind: h5py.h5t.TypeCompoundID) -> list[tuple[h5py.h5t.TypeID, int]]:
    """The columns' types, and the byte at which each begins in an element in the file."""
    members = [kind.get_member_type(i) for i in range(kind.get_nmembers())]
    starts = [kind.get_member_offset(i) for i in range(kind.get_nmembers())]
    return [
        (found, start + sum(_growth(m) for m, s in zip(members, starts, strict=True) if s < start))
        for found, start in zip(members, starts, strict=True)
    ]


def _growth(kind: h5py.h5t.TypeID) -> int:
    """Bytes by which a value is longer in the file than in memory: a reference for a pointer."""
    return REFERENCE.itemsize - kind.get_size() if is_of_variable_length(kind) else 0


def _column_class(kind: h5py.h5t.TypeID) -> tuple[int, ...]:
    """Text, integer or float of whatever width, or a sequence of one of them."""
    nested = kind.get_super() if isinstance(kind, h5py.h5t.TypeVlenID) else None
    return (kind.get_class(), nested.get_class()) if nested else (kind.get_class(),)


def write_json(group: h5py.Group, name: str, value: Mapping[str, Any]) -> None:
    """Write a small tree of plain values as one text."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{name} holds something that JSON cannot: {error}.") from error
    group.create_dataset(name, data=text, dtype=TEXT)


def read_json(group: h5py.Group, name: str) -> dict[str, Any]:
    """Read what :func:`write_json` wrote; empty where there is none."""
    if not has_member(group, name):
        return {}
    dataset = member(group, name, h5py.Dataset)
    refuse_foreign_storage(dataset.id)
    refuse_overstated_size(dataset.id)
    kind = dataset.id.get_type()
    if dataset.shape != () or not isinstance(kind, h5py.h5t.TypeStringID):
        raise DatasetFormatError(f"{place_of(dataset.id)}: expected one text, found {dataset}.")
    check_heap(dataset.id, kind, 0)
    value = json.loads(dataset[()].decode("utf-8"), parse_constant=_refuse_constant)
    if not isinstance(value, dict):
        raise DatasetFormatError(f"{place_of(dataset.id)}: expected a JSON object.")
    return value


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"JSON knows no {text}")
