"""Attributes: texts of fixed length, and integers."""

from __future__ import annotations

import h5py
import numpy as np

__all__ = ["read_integer_attribute", "read_text_attribute", "write_text_attributes"]


def write_text_attributes(group: h5py.Group, **texts: str) -> None:
    """Write texts of fixed length: they lie in the object's header, which has a checksum."""
    for name, text in texts.items():
        encoded = text.encode()
        group.attrs.create(name, encoded, dtype=h5py.string_dtype("utf-8", max(1, len(encoded))))


def read_text_attribute(group: h5py.Group, name: str) -> str | None:
    """A text of fixed length; None where there is no such attribute, or it is something else."""
    if name not in group.attrs:
        return None
    kind = group.attrs.get_id(name).get_type()
    if not isinstance(kind, h5py.h5t.TypeStringID) or kind.is_variable_str():
        return None
    value = group.attrs[name]
    return value.decode("utf-8") if isinstance(value, bytes) else None


def read_integer_attribute(group: h5py.Group, name: str) -> int | None:
    """An integer; None where there is no such attribute, or it is something else."""
    if name not in group.attrs:
        return None
    if not isinstance(group.attrs.get_id(name).get_type(), h5py.h5t.TypeIntegerID):
        return None
    value = group.attrs[name]
    return int(value) if np.ndim(value) == 0 else None
