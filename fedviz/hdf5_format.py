"""The file format, version 1: names, layout, and how its pieces are written and read.

``docs/file-format.md`` specifies the same for readers in other languages. Everything that knows
how something lies in HDF5 is here; :mod:`fedviz.dataset` knows what it means.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from fedviz.errors import (
    DatasetFormatError,
    FedvizError,
    InvalidArgumentError,
    NewerFormatError,
    SignatureError,
    StorageError,
    storage_errors,
)
from fedviz.signature import Signature, TensorSpec

__all__ = [
    "ALIGNMENT",
    "FORMAT",
    "FORMAT_VERSION",
    "TensorRegion",
    "create_file",
    "create_tensor",
    "has_member",
    "open_file",
    "read_json",
    "read_region",
    "read_rows",
    "read_signature",
    "read_table",
    "read_text_attribute",
    "round_key",
    "storage_offset",
    "stored_bytes",
    "tensor_key",
    "write_json",
    "write_signature",
    "write_table",
    "write_text_attributes",
]

FORMAT = "fedviz-weights"
FORMAT_VERSION = 1
ALIGNMENT = 4096
"""Every object begins at a multiple of this many bytes, so that tensors can be memory-mapped."""

_LIBRARY_VERSIONS = ("v108", "v110")
_LARGEST_RATIO = 1100
"""Largest ratio of declared to stored bytes: deflate reaches 1,032; above it the file lies."""

_LARGEST_HEAP = 2**28
"""Bytes of a heap of texts; HDF5 makes them of 4,096, larger only where one text needs it."""

_text = h5py.string_dtype()
TABLES: Mapping[str, np.dtype[Any]] = {
    "signature": np.dtype(
        [
            ("index", "u4"),
            ("name", _text),
            ("shape", h5py.vlen_dtype("u8")),
            ("dtype", _text),
            ("trainable", "i1"),
        ]
    ),
    "clients": np.dtype(
        [
            ("id", _text),
            ("num_examples", "i8"),
            ("digest", _text),
            ("conforming", "u1"),
            ("row", "i8"),
        ]
    ),
    "metrics": np.dtype([("role", _text), ("subject", _text), ("name", _text), ("value", "f8")]),
    "ground_truth": np.dtype(
        [("client", _text), ("kind", _text), ("argument", _text), ("tensors", _text)]
    ),
}
"""The columns of the file's tables. Later versions may add columns; none leaves."""


def round_key(number: int) -> str:
    """Name of a round's group: six digits."""
    return f"{number:06d}"


def tensor_key(index: int) -> str:
    """Name of a tensor's dataset: three digits, more where there are more tensors."""
    return f"{index:03d}"


# --- opening and creating ---------------------------------------------------------------------


def open_file(path: Path) -> h5py.File:
    """Open a fedviz file for reading.

    Raises
    ------
    StorageError
        The file is absent or may not be read, or is being written by another process.
    DatasetFormatError
        It is not HDF5, not a fedviz file, or cut short.
    NewerFormatError
        Its format version is higher than :data:`FORMAT_VERSION`.
    """
    with storage_errors(path, "read"):
        if path.is_dir():
            raise StorageError(f"cannot read {path.name}: it is a folder; name a file in it.")
        size = path.stat().st_size
        with path.open("rb"):
            pass
    if not h5py.is_hdf5(path):
        found = "an empty file" if size == 0 else "another kind of file"
        raise DatasetFormatError(f"{path.name} is not an HDF5 file: found {found}.")
    file = _open_hdf5(path)
    try:
        _check_format(file, path)
    except BaseException:
        file.close()
        raise
    return file


def _open_hdf5(path: Path) -> h5py.File:
    try:
        with storage_errors(path, "read"):
            return h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        if "truncated file" in str(error):
            raise DatasetFormatError(
                f"{path.name} is shorter than its index says. Copy it again."
            ) from error
        raise DatasetFormatError(
            f"{path.name} is damaged: HDF5 cannot open it ({error})."
        ) from error


def _check_format(file: h5py.File, path: Path) -> None:
    with damage_reported(path, "the format's name and version"):
        name = read_text_attribute(file, "format")
        version = _read_integer_attribute(file, "format_version")
        properties = file.id.get_create_plist()
        usual = properties.get_sizes() == (8, 8) and properties.get_userblock() == 0
    if name != FORMAT:
        raise DatasetFormatError(
            f"{path.name} is HDF5, but not a fedviz dataset: expected the attribute "
            f"format = {FORMAT}, found {name!r}."
        )
    if version is None or version < 1:
        raise DatasetFormatError(
            f"{path.name}: expected a number from 1 as format_version, found {version}. "
            "Copy the file again."
        )
    if version > FORMAT_VERSION:
        raise NewerFormatError(
            f"{path.name} has format version {version}; this fedviz reads up to "
            f"{FORMAT_VERSION}. Install a newer fedviz."
        )
    if not usual:
        raise DatasetFormatError(
            f"{path.name}: expected an HDF5 file with 8-byte addresses and no user block. "
            "Repack it with h5repack."
        )


def create_file(path: Path, mode: str) -> h5py.File:
    """Open a temporary file for writing: ``"w"`` a new one, ``"r+"`` a copy that is extended."""
    # The gaps that the alignment leaves are no space to look through for every new object: with
    # many tensors the search takes a time that grows with the square of their number.
    gaps = {"fs_strategy": "fsm", "fs_threshold": ALIGNMENT} if mode == "w" else {}
    with storage_errors(path, "write"):
        return h5py.File(
            path,
            mode,
            libver=_LIBRARY_VERSIONS,
            alignment_threshold=1,
            alignment_interval=ALIGNMENT,
            locking="best-effort",
            **gaps,
        )


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


# --- links ------------------------------------------------------------------------------------


def member(group: h5py.Group, name: str, kind: type[Any]) -> Any:
    """A member of a group that lies in this file and has the kind that is expected.

    Raises
    ------
    DatasetFormatError
        It is absent, is a link elsewhere, or is not of that kind.
    """
    identifier = _member_id(group, name)
    found = _KINDS.get(type(identifier), h5py.Datatype)
    if found is not kind:
        path, place = _member_place(group, name)
        raise DatasetFormatError(
            f"{path.name}: {place}: expected a {kind.__name__.lower()}, found a "
            f"{found.__name__.lower()}."
        )
    return found(identifier)


def _member_id(group: h5py.Group, name: str) -> h5py.h5g.GroupID | h5py.h5d.DatasetID:
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


# --- attributes -------------------------------------------------------------------------------


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


def _read_integer_attribute(group: h5py.Group, name: str) -> int | None:
    if name not in group.attrs:
        return None
    if not isinstance(group.attrs.get_id(name).get_type(), h5py.h5t.TypeIntegerID):
        return None
    value = group.attrs[name]
    return int(value) if np.ndim(value) == 0 else None


# --- tables and JSON --------------------------------------------------------------------------


def write_table(group: h5py.Group, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write a table of :data:`TABLES`."""
    table = np.empty(len(rows), dtype=TABLES[name])
    for i, row in enumerate(rows):
        table[i] = row
    group.create_dataset(name, data=table)


def read_table(group: h5py.Group, name: str) -> list[dict[str, Any]]:
    """Rows of a table of :data:`TABLES`, text decoded; unknown columns are passed over."""
    dataset = member(group, name, h5py.Dataset)
    _refuse_foreign_storage(dataset.id)
    _refuse_overstated_size(dataset.id)
    columns = TABLES[name].names or ()
    missing = [c for c in columns if c not in (dataset.dtype.names or ())]
    if missing or dataset.shape is None or dataset.ndim != 1:
        raise DatasetFormatError(
            f"{_place(dataset.id)}: expected a table with the columns {', '.join(columns)}, "
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
    members = [kind.get_member_type(i) for i in range(kind.get_nmembers())]
    starts = [kind.get_member_offset(i) for i in range(kind.get_nmembers())]
    heap_sizes = functools.cache(_heap_sizes)
    for column in expected.names or ():
        position = kind.get_member_index(column.encode())
        found = members[position]
        if _column_class(found) != _column_class(h5py.h5t.py_create(expected[column], True)):
            raise DatasetFormatError(
                f"{_place(dataset.id)}, column {column}: expected {expected[column]}, "
                f"found {found.dtype}. Copy the file again."
            )
        before = [m for m, s in zip(members, starts, strict=True) if s < starts[position]]
        start = starts[position] + sum(map(_growth, before))
        _check_heap(dataset.id, found, start, heap_sizes)


def _growth(kind: h5py.h5t.TypeID) -> int:
    """Bytes by which a value is longer in the file than in memory: a reference for a pointer."""
    return _REFERENCE.itemsize - kind.get_size() if _is_of_variable_length(kind) else 0


def _is_of_variable_length(kind: h5py.h5t.TypeID) -> bool:
    text = isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()
    return text or isinstance(kind, h5py.h5t.TypeVlenID)


def _column_class(kind: h5py.h5t.TypeID) -> tuple[int, ...]:
    """Text, integer or float of whatever width, or a sequence of one of them."""
    nested = kind.get_super() if isinstance(kind, h5py.h5t.TypeVlenID) else None
    return (kind.get_class(), nested.get_class()) if nested else (kind.get_class(),)


def write_signature(group: h5py.Group, signature: Signature) -> None:
    """Write the table of a signature."""
    flags = {True: 1, False: 0, None: -1}
    rows = [
        (i, t.name, np.array(t.shape, dtype="u8"), t.dtype, flags[t.trainable])
        for i, t in enumerate(signature)
    ]
    write_table(group, "signature", rows)


def read_signature(group: h5py.Group) -> Signature:
    """Read the table of a signature."""
    flags: dict[int, bool | None] = {1: True, 0: False}
    rows = sorted(read_table(group, "signature"), key=lambda row: int(row["index"]))
    if [row["index"] for row in rows] != list(range(len(rows))):
        raise SignatureError("the tensors' indices are not 0, 1 and so on")
    return _signature_of(
        tuple(
            (row["name"], tuple(row["shape"].tolist()), row["dtype"], flags.get(row["trainable"]))
            for row in rows
        )
    )


@functools.lru_cache(maxsize=64)
def _signature_of(tensors: tuple[tuple[str, tuple[int, ...], str, bool | None], ...]) -> Signature:
    """Divergent clients have few signatures among them: one object stands for all alike."""
    return Signature(tuple(TensorSpec(*tensor) for tensor in tensors))


def _check_heap(
    dataset: h5py.h5d.DatasetID,
    kind: h5py.h5t.TypeID,
    start: int,
    heap_sizes: Callable[[int, int], dict[int, int]],
) -> None:
    """Refuse texts and sequences that do not lie where the dataset says.

    HDF5 keeps values of variable length in global heaps, which have no checksum, and which it
    walks without looking where it goes: a single wrong byte makes it loop for ever.

    Parameters
    ----------
    dataset : DatasetID
        One piece in the file; each of its elements holds a reference to its value.
    kind : TypeID
        The type of the values; one of fixed length is none of ours.
    start : int
        Byte at which the reference lies in an element, as it is in the file.
    heap_sizes : callable
        :func:`_heap_sizes`, or what remembers its results.
    """
    elements = math.prod(dataset.shape or ())
    if not _is_of_variable_length(kind) or not elements:
        return
    offset, stored = dataset.get_offset(), dataset.get_storage_size()
    width = stored // elements
    if offset is None or start + _REFERENCE.itemsize > width:
        raise DatasetFormatError(f"{_place(dataset)}: expected a table in one piece.")
    file = _descriptor(dataset)
    raw = os.pread(file, stored, offset)
    references: np.ndarray = np.ndarray((elements,), _REFERENCE, raw, start, (width,))
    references = references[references["length"] > 0]
    item = kind.get_super().get_size() if isinstance(kind, h5py.h5t.TypeVlenID) else 1
    sizes = {int(a): heap_sizes(file, int(a)) for a in np.unique(references["address"])}
    for length, address, index in references.tolist():
        if length * item > sizes[address].get(index, 0):
            raise DatasetFormatError(
                f"{_place(dataset)} is damaged: it holds a value of {length * item:,} bytes that "
                "the file does not have. Copy the file again."
            )


_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
_HEAP_HEAD = struct.Struct("<4sB3xQ")
_HEAP_OBJECT = struct.Struct("<HH4xQ")


def _heap_sizes(file: int, address: int) -> dict[int, int]:
    """Bytes of each object of a global heap, by index; empty where it is no sound one.

    References
    ----------
    HDF5 File Format Specification Version 3.0, section III.E, Global Heap.
    """
    head = os.pread(file, _HEAP_HEAD.size, address) if address < 2**63 else b""
    if len(head) < _HEAP_HEAD.size:
        return {}
    magic, version, size = _HEAP_HEAD.unpack(head)
    if magic != b"GCOL" or version != 1 or not _HEAP_HEAD.size <= size <= _LARGEST_HEAP:
        return {}
    heap = os.pread(file, size, address)
    if len(heap) < size:
        return {}
    sizes: dict[int, int] = {}
    at = _HEAP_HEAD.size
    while size - at >= _HEAP_OBJECT.size:
        index, _, length = _HEAP_OBJECT.unpack_from(heap, at)
        # Index 0 is the free space, whose size counts its own head.
        taken = length if index == 0 else _HEAP_OBJECT.size + -(-length // 8) * 8
        if not _HEAP_OBJECT.size <= taken <= size - at or index in sizes:
            return {}
        sizes[index] = length
        at += taken
    return sizes


def write_json(group: h5py.Group, name: str, value: Mapping[str, Any]) -> None:
    """Write a small tree of plain values as one text."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{name} holds something that JSON cannot: {error}.") from error
    group.create_dataset(name, data=text, dtype=_text)


def read_json(group: h5py.Group, name: str) -> dict[str, Any]:
    """Read what :func:`write_json` wrote; empty where there is none."""
    if not has_member(group, name):
        return {}
    dataset = member(group, name, h5py.Dataset)
    _refuse_foreign_storage(dataset.id)
    _refuse_overstated_size(dataset.id)
    kind = dataset.id.get_type()
    if dataset.shape != () or not isinstance(kind, h5py.h5t.TypeStringID):
        raise DatasetFormatError(f"{_place(dataset.id)}: expected one text, found {dataset}.")
    _check_heap(dataset.id, kind, 0, _heap_sizes)
    value = json.loads(dataset[()].decode("utf-8"), parse_constant=_refuse_constant)
    if not isinstance(value, dict):
        raise DatasetFormatError(f"{_place(dataset.id)}: expected a JSON object.")
    return value


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"JSON knows no {text}")


# --- tensors ----------------------------------------------------------------------------------


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
    return TensorRegion(_descriptor(dataset), dataset.get_offset())


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
    dataset = _member_id(group, name)
    if not isinstance(dataset, h5py.h5d.DatasetID):
        dataset = member(group, name, h5py.Dataset).id
    if dataset.shape != shape:
        found = "no values" if dataset.shape is None else list(dataset.shape)
        raise DatasetFormatError(f"{_place(dataset)}: expected shape {list(shape)}, found {found}.")
    if not dataset.get_type().equal(file_type(dtype)):
        raise DatasetFormatError(
            f"{_place(dataset)}: expected little-endian {dtype.name}, found {dataset.dtype}."
        )
    _refuse_foreign_storage(dataset)
    _refuse_overstated_size(dataset)
    return dataset


def _place(dataset: h5py.h5d.DatasetID) -> str:
    file, name = h5py.h5f.get_name(dataset), h5py.h5i.get_name(dataset)
    return f"{Path(os.fsdecode(file)).name}: {name.decode(errors='replace')}"


def _descriptor(dataset: h5py.h5d.DatasetID) -> int:
    """The file, as the system knows it while HDF5 has it open."""
    return int(h5py.h5i.get_file_id(dataset).get_vfd_handle())


def _refuse_foreign_storage(dataset: h5py.h5d.DatasetID) -> None:
    properties = dataset.get_create_plist()
    if properties.get_layout() == h5py.h5d.VIRTUAL or properties.get_external_count():
        raise DatasetFormatError(
            f"{_place(dataset)} keeps its values in another file. A dataset holds all that it "
            "shows; external storage and virtual datasets are refused."
        )


def _refuse_overstated_size(dataset: h5py.h5d.DatasetID) -> None:
    """Nothing is allocated for values that the file does not have."""
    declared = math.prod(dataset.shape or ()) * dataset.get_type().get_size()
    stored = dataset.get_storage_size()
    file_size = os.fstat(_descriptor(dataset)).st_size
    offset = dataset.get_offset()
    beyond = offset is not None and (offset + stored > file_size or declared > stored)
    if beyond or stored > file_size or declared > _LARGEST_RATIO * stored:
        raise DatasetFormatError(
            f"{_place(dataset)} declares {declared:,} bytes, but {stored:,} are stored in a file "
            f"of {file_size:,}. Copy the file again."
        )


def storage_offset(dataset: h5py.h5d.DatasetID) -> int | None:
    """Byte at which a contiguous dataset's values begin; None where they are not in one piece."""
    offset = dataset.get_offset()
    return None if offset is None else int(offset)
