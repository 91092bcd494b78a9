"""Tables of signatures. Of many clients' tables, those that are alike are taken apart once."""

from __future__ import annotations

import functools
import hashlib
import math
import os

import h5py
import numpy as np

from fedviz.errors import SignatureError
from fedviz.hdf5_format.heaps import (
    LARGEST_REMEMBERED,
    REFERENCE,
    is_of_variable_length,
    item_size,
    values_in_heaps,
)
from fedviz.hdf5_format.members import (
    descriptor_of,
    member,
    refuse_foreign_storage,
    refuse_overstated_size,
)
from fedviz.hdf5_format.tables import columns_of, read_table, write_table
from fedviz.signature import Signature, TensorSpec

__all__ = ["read_signature", "write_signature"]

_MOST_KNOWN_SIGNATURES = 64

_known_signatures: dict[bytes, Signature] = {}


def write_signature(group: h5py.Group, signature: Signature) -> None:
    """Write the table of a signature."""
    flags = {True: 1, False: 0, None: -1}
    rows = [
        (i, t.name, np.array(t.shape, dtype="u8"), t.dtype, flags[t.trainable])
        for i, t in enumerate(signature)
    ]
    write_table(group, "signature", rows)


def read_signature(group: h5py.Group) -> Signature:
    """Read the table of a signature.

    Of the divergent clients of a large cohort most have one of a few signatures, bit for bit: such
    a table is taken apart once.
    """
    dataset = member(group, "signature", h5py.Dataset)
    refuse_foreign_storage(dataset.id)
    refuse_overstated_size(dataset.id)
    content = _digest_of_table(dataset.id)
    signature = _known_signatures.get(content) if content else None
    if signature is None:
        signature = _read_signature(group)
        if content and len(_known_signatures) < _MOST_KNOWN_SIGNATURES:
            _known_signatures[content] = signature
    return signature


def _read_signature(group: h5py.Group) -> Signature:
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


def _digest_of_table(dataset: h5py.h5d.DatasetID) -> bytes | None:
    """A digest of all that a table's rows are made of; None where that is not in a few pieces.

    Equal ones stand for equal rows: it covers the type, the rows without the places where HDF5
    keeps texts and sequences, and these themselves.
    """
    kind, elements = dataset.get_type(), math.prod(dataset.shape or ())
    offset, stored = dataset.get_offset(), dataset.get_storage_size()
    if offset is None or not elements or not isinstance(kind, h5py.h5t.TypeCompoundID):
        return None
    columns = [(c, start) for c, start in columns_of(kind) if is_of_variable_length(c)]
    width, file = stored // elements, descriptor_of(dataset)
    if any(start + REFERENCE.itemsize > width for _, start in columns):
        return None
    raw = bytearray(os.pread(file, min(stored, LARGEST_REMEMBERED), offset))
    if len(raw) < stored:
        return None
    digest = hashlib.blake2b(kind.encode())
    for column, start in columns:
        references: np.ndarray = np.ndarray((elements,), REFERENCE, raw, start, (width,))
        values = values_in_heaps(file, references, item_size(column))
        if values is None:
            return None
        digest.update(values)
        references["address"], references["index"] = 0, 0
    digest.update(raw)
    return digest.digest()
