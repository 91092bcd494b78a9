"""Tensors: contiguous datasets, written and read bit by bit."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from fedviz.errors import DatasetFormatError
from fedviz.hdf5_format.members import (
    descriptor_of,
    member,
    member_id,
    place_of,
    refuse_foreign_storage,
    refuse_overstated_size,
)

__all__ = [
    "TensorRegion",
    "checked_tensor",
    "create_tensor",
    "file_type",
    "read_region",
    "read_rows",
    "storage_offset",
    "stored_bytes",
]


def _bfloat16_type() -> h5py.h5t.TypeFloatID:
    """bfloat16 as HDF5 describes floats: 1 sign, 8 exponent and 7 mantissa bits, bias 127."""
    kind = h5py.h5t.IEEE_F16LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_ebias(127)
    return kind


@functools.cache
def file_type(dtype: np.dtype[Any]) -> h5py.h5t.TypeID:
    """The type that a dtype has in the file: little-endian."""
    if dtype == ml_dtypes.bfloat16:
        return _bfloat16_type()
    return h5py.h5t.py_create(dtype.newbyteorder("<"), logical=True)


@dataclass(frozen=True)
class TensorRegion:
    """The place of a new tensor's values in the file; they are written straight to it.

    HDF5 takes about 40 µs to select a row and to write it, a plain write 2: with many small
    tensors that is what writing takes.

    Parameters
    ----------
    descriptor : int
        The file, as the system knows it while HDF5 has it open.
    offset : int or None
        Byte of the first value; None where there are no values.
    """

    descriptor: int
    offset: int | None

    def write(self, array: np.ndarray, row: int = 0) -> None:
        """Write values bit by bit: all of them, or those of one row (all rows are alike)."""
        content = stored_bytes(array)
        if not content:
            return
        if self.offset is None:
            raise ValueError(f"{len(content)} bytes for a tensor without values")
        position = self.offset + row * len(content)
        while content:
            written = os.pwrite(self.descriptor, content, position)
            content, position = content[written:], position + written


def create_tensor(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> TensorRegion:
    """Make a contiguous dataset, whose place in the file is settled at once."""
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    dataset = h5py.h5d.create(
        group.id, name.encode(), file_type(dtype), space, _tensor_properties()
    )
    return TensorRegion(descriptor_of(dataset), dataset.get_offset())


@functools.cache
def _tensor_properties() -> h5py.h5p.PropDCID:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    return properties


def stored_bytes(array: np.ndarray) -> memoryview:
    """A tensor's values as they lie in the file: little-endian, row-major."""
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _raw(array: np.ndarray) -> np.ndarray:
    """The array as one that h5py accepts: it knows no bfloat16, but 16 bits are 16 bits."""
    return array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array


def read_rows(
    dataset: h5py.h5d.DatasetID, dtype: np.dtype[Any], rows: tuple[int, int] | None
) -> np.ndarray:
    """Read a tensor's values bit by bit.

    Parameters
    ----------
    dataset : DatasetID
        Checked by :func:`checked_tensor`.
    dtype : dtype
        The dtype that the signature states.
    rows : (int, int) or None
        First row and the one after the last, or None for all of the dataset.

    Returns
    -------
    ndarray of that dtype
        Of shape ``(rows, *dataset.shape[1:])``, or the dataset's own.
    """
    if rows is not None:
        return read_region(dataset, dtype, (slice(*rows), *map(slice, dataset.shape[1:])))
    out = np.empty(dataset.shape, dtype=dtype)
    if out.size:
        dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, _raw(out), mtype=file_type(dtype))
    return out


def read_region(
    dataset: h5py.h5d.DatasetID, dtype: np.dtype[Any], region: Sequence[slice]
) -> np.ndarray:
    """Read a part of a tensor and nothing else of it, bit by bit.

    Parameters
    ----------
    dataset : DatasetID
        Checked by :func:`checked_tensor`.
    dtype : dtype
        The dtype that the signature states.
    region : sequence of slice
        One for each axis, without a step; what is beyond an end is left out.

    Returns
    -------
    ndarray of that dtype
    """
    spans = [s.indices(size) for s, size in zip(region, dataset.shape, strict=True)]
    starts = tuple(first for first, _, _ in spans)
    shape = tuple(max(0, end - first) for first, end, _ in spans)
    out = np.empty(shape, dtype=dtype)
    if out.size == 0:
        return out
    memory = file_space = h5py.h5s.ALL
    if shape:
        file_space = dataset.get_space()
        file_space.select_hyperslab(starts, shape)
        memory = h5py.h5s.create_simple(shape)
    dataset.read(memory, file_space, _raw(out), mtype=file_type(dtype))
    return out


def checked_tensor(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> h5py.h5d.DatasetID:
    """A tensor's dataset, after everything that its header claims has been checked.

    Raises
    ------
    DatasetFormatError
        Shape or dtype are not the signature's, the values lie outside the file, or their size is
        more than the file can hold.
    """
    dataset = member_id(group, name)
    if not isinstance(dataset, h5py.h5d.DatasetID):
        dataset = member(group, name, h5py.Dataset).id
    if dataset.shape != shape:
        found = "no values" if dataset.shape is None else list(dataset.shape)
        raise DatasetFormatError(
            f"{place_of(dataset)}: expected shape {list(shape)}, found {found}."
        )
    if not dataset.get_type().equal(file_type(dtype)):
        raise DatasetFormatError(
            f"{place_of(dataset)}: expected little-endian {dtype.name}, found {dataset.dtype}."
        )
    refuse_foreign_storage(dataset)
    refuse_overstated_size(dataset)
    return dataset


def storage_offset(dataset: h5py.h5d.DatasetID) -> int | None:
    """Byte at which a contiguous dataset's values begin; None where they are not in one piece."""
    offset = dataset.get_offset()
    return None if offset is None else int(offset)
