"""Global heaps, in which HDF5 keeps texts and sequences of variable length.

They have no checksum, and HDF5 walks them without looking where it goes: a single wrong byte makes
it loop for ever. So they are walked here first.

References
----------
HDF5 File Format Specification Version 3.0, section III.E, Global Heap.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Callable

import h5py
import numpy as np

from fedviz.errors import DatasetFormatError
from fedviz.hdf5_format.members import descriptor_of, place_of

__all__ = ["REFERENCE", "check_heap", "heap_objects", "heap_sizes", "is_of_variable_length"]

_LARGEST_HEAP = 2**28
"""Bytes of a heap of texts; HDF5 makes them of 4,096, larger only where one text needs it."""

REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
"""What stands in a dataset for a value of variable length."""

_HEAP_HEAD = struct.Struct("<4sB3xQ")
_HEAP_OBJECT = struct.Struct("<HH4xQ")


def is_of_variable_length(kind: h5py.h5t.TypeID) -> bool:
    """Whether values of a type lie in heaps."""
    text = isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()
    return text or isinstance(kind, h5py.h5t.TypeVlenID)


def heap_objects(content: bytes | mmap.mmap, start: int, end: int) -> list[tuple[int, int]] | None:
    """Index and bytes of each object of a global heap; None where they do not fill it."""
    objects: list[tuple[int, int]] = []
    at = start + _HEAP_HEAD.size
    while end - at >= _HEAP_OBJECT.size:
        index, _, length = _HEAP_OBJECT.unpack_from(content, at)
        # Index 0 is the free space, whose size counts its own head.
        taken = length if index == 0 else _HEAP_OBJECT.size + -(-length // 8) * 8
        if not _HEAP_OBJECT.size <= taken <= end - at:
            return None
        objects.append((index, length))
        at += taken
    return objects


def check_heap(
    dataset: h5py.h5d.DatasetID,
    kind: h5py.h5t.TypeID,
    start: int,
    sizes_of: Callable[[int, int], dict[int, int]],
) -> None:
    """Refuse texts and sequences that do not lie where the dataset says.

    Parameters
    ----------
    dataset : DatasetID
        One piece in the file; each of its elements holds a reference to its value.
    kind : TypeID
        The type of the values; one of fixed length is none of ours.
    start : int
        Byte at which the reference lies in an element, as it is in the file.
    sizes_of : callable
        :func:`heap_sizes`, or what remembers its results.
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
    item = kind.get_super().get_size() if isinstance(kind, h5py.h5t.TypeVlenID) else 1
    sizes = {int(a): sizes_of(file, int(a)) for a in np.unique(references["address"])}
    for length, address, index in references.tolist():
        if length * item > sizes[address].get(index, 0):
            raise DatasetFormatError(
                f"{place_of(dataset)} is damaged: it holds a value of {length * item:,} bytes that "
                "the file does not have. Copy the file again."
            )


def heap_sizes(file: int, address: int) -> dict[int, int]:
    """Bytes of each object of a global heap, by index; empty where it is no sound one."""
    head = os.pread(file, _HEAP_HEAD.size, address) if address < 2**63 else b""
    if len(head) < _HEAP_HEAD.size:
        return {}
    magic, version, size = _HEAP_HEAD.unpack(head)
    if magic != b"GCOL" or version != 1 or not _HEAP_HEAD.size <= size <= _LARGEST_HEAP:
        return {}
    heap = os.pread(file, size, address)
    if len(heap) < size:
        return {}
    objects = heap_objects(heap, 0, size)
    if objects is None:
        return {}
    sizes = dict(objects)
    return sizes if len(sizes) == len(objects) else {}
