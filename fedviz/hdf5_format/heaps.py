"""Global heaps, in which HDF5 keeps texts and sequences of variable length.

They have no checksum, and HDF5 walks them without looking where it goes: a single wrong byte makes
it loop for ever. So they are walked here first.

References
----------
HDF5 File Format Specification Version 3.0, section III.E, Global Heap.
"""

from __future__ import annotations

import functools
import math
import os
import struct
from collections.abc import Mapping

import h5py
import numpy as np

from fedviz.errors import DatasetFormatError
from fedviz.hdf5_format.members import descriptor_of, place_of

__all__ = [
    "LARGEST_HEAP",
    "LARGEST_REMEMBERED",
    "REFERENCE",
    "check_heap",
    "heap_objects",
    "is_of_variable_length",
    "item_size",
    "values_in_heaps",
]

LARGEST_HEAP = 2**28
"""Bytes of a heap of texts; HDF5 makes them of 4,096, larger only where one text needs it."""

LARGEST_REMEMBERED = 2**22
"""Bytes of heaps and tables that are compared or remembered; larger ones are read each time."""

_MOST_HEAPS = 64

REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
"""What stands in a dataset for a value of variable length."""

_HEAP_HEAD = struct.Struct("<4sB3xQ")
_HEAP_OBJECT = struct.Struct("<HH4xQ")


def is_of_variable_length(kind: h5py.h5t.TypeID) -> bool:
    """Whether values of a type lie in heaps."""
    text = isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()
    return text or isinstance(kind, h5py.h5t.TypeVlenID)


def item_size(kind: h5py.h5t.TypeID) -> int:
    """Bytes of one item of a sequence; of a text, one."""
    return int(kind.get_super().get_size()) if isinstance(kind, h5py.h5t.TypeVlenID) else 1


def heap_objects(heap: bytes) -> list[tuple[int, int, int]] | None:
    """Index, place and bytes of each object of a global heap; None where they do not fill it."""
    objects: list[tuple[int, int, int]] = []
    at, end = _HEAP_HEAD.size, len(heap)
    while end - at >= _HEAP_OBJECT.size:
        index, _, length = _HEAP_OBJECT.unpack_from(heap, at)
        # Index 0 is the free space, whose size counts its own head.
        taken = length if index == 0 else _HEAP_OBJECT.size + -(-length // 8) * 8
        if not _HEAP_OBJECT.size <= taken <= end - at:
            return None
        objects.append((index, at + _HEAP_OBJECT.size, length))
        at += taken
    return objects


def check_heap(dataset: h5py.h5d.DatasetID, kind: h5py.h5t.TypeID, start: int) -> None:
    """Refuse texts and sequences that do not lie where the dataset says.

    Parameters
    ----------
    dataset : DatasetID
        One piece in the file; each of its elements holds a reference to its value.
    kind : TypeID
        The type of the values; one of fixed length is none of ours.
    start : int
        Byte at which the reference lies in an element, as it is in the file.
    """
    elements = math.prod(dataset.shape or ())
    if not is_of_variable_length(kind) or not elements:
        return
    offset, stored = dataset.get_offset(), dataset.get_storage_size()
    width = stored // elements
    if offset is None or start + REFERENCE.itemsize > width:
        raise DatasetFormatError(f"{place_of(dataset)}: expected a table in one piece.")
    file = descriptor_of(dataset)
    raw = os.pread(file, stored, offset)
    references: np.ndarray = np.ndarray((elements,), REFERENCE, raw, start, (width,))
    references = references[references["length"] > 0]
    item = item_size(kind)
    addresses = np.unique(references["address"]).tolist()
    objects = {address: _by_index(_heap_at(file, address)) for address in addresses}
    for length, address, index in references.tolist():
        if length * item > objects[address].get(index, (0, 0))[1]:
            raise DatasetFormatError(
                f"{place_of(dataset)} is damaged: it holds a value of {length * item:,} bytes that "
                "the file does not have. Copy the file again."
            )


def values_in_heaps(file: int, references: np.ndarray, item: int) -> bytes | None:
    """The bytes that references stand for, one after another; None where they are not there.

    Parameters
    ----------
    file : int
        The file, as the system knows it.
    references : ndarray of :data:`REFERENCE`
    item : int
        Bytes of one item, see :func:`item_size`.
    """
    addresses = np.unique(references["address"])
    if len(addresses) > _MOST_HEAPS:
        return None
    heaps = {address: _heap_at(file, address) for address in addresses.tolist()}
    if any(len(heap) > LARGEST_REMEMBERED for heap in heaps.values()):
        return None
    objects = {address: _by_index(heap) for address, heap in heaps.items()}
    values = []
    for length, address, index in references.tolist():
        at, size = objects[address].get(index, (0, 0))
        if length * item > size:
            return None
        values.append(heaps[address][at : at + length * item])
    return b"".join(values)


def _heap_at(file: int, address: int) -> bytes:
    """A global heap as it is in the file; empty where there is none."""
    head = os.pread(file, _HEAP_HEAD.size, address) if address < 2**63 else b""
    if len(head) < _HEAP_HEAD.size:
        return b""
    magic, version, size = _HEAP_HEAD.unpack(head)
    if magic != b"GCOL" or version != 1 or not _HEAP_HEAD.size <= size <= LARGEST_HEAP:
        return b""
    heap = os.pread(file, size, address)
    return heap if len(heap) == size else b""


def _by_index(heap: bytes) -> Mapping[int, tuple[int, int]]:
    """Place and bytes of each object of a global heap; empty where it is no sound one."""
    return (_walked if len(heap) > LARGEST_REMEMBERED else _walked_once)(heap)


def _walked(heap: bytes) -> Mapping[int, tuple[int, int]]:
    objects = heap_objects(heap)
    if objects is None:
        return {}
    found = {index: (at, length) for index, at, length in objects}
    return found if len(found) == len(objects) else {}


# The tables of many clients lie in one heap.
_walked_once = functools.lru_cache(maxsize=8)(_walked)
