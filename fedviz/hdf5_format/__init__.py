"""The file format, version 1: names, layout, and how its pieces are written and read.

``docs/file-format.md`` specifies the same for readers in other languages. Everything that knows
how something lies in HDF5 is here; :mod:`fedviz.dataset` knows what it means.
"""

from fedviz.hdf5_format.attributes import read_text_attribute, write_text_attributes
from fedviz.hdf5_format.files import create_file, open_file
from fedviz.hdf5_format.heaps import LARGEST_HEAP, heap_objects
from fedviz.hdf5_format.members import damage_reported, has_member, member
from fedviz.hdf5_format.names import ALIGNMENT, FORMAT, FORMAT_VERSION, round_key, tensor_key
from fedviz.hdf5_format.signatures import read_signature, write_signature
from fedviz.hdf5_format.tables import read_json, read_table, write_json, write_table
from fedviz.hdf5_format.tensors import (
    TensorRegion,
    checked_tensor,
    create_tensor,
    read_region,
    read_rows,
    storage_offset,
    stored_bytes,
)

__all__ = [
    "ALIGNMENT",
    "FORMAT",
    "FORMAT_VERSION",
    "LARGEST_HEAP",
    "TensorRegion",
    "checked_tensor",
    "create_file",
    "create_tensor",
    "damage_reported",
    "has_member",
    "heap_objects",
    "member",
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
