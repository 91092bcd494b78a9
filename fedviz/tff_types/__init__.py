"""Types as TensorFlow Federated prints them: parsed, printed and compared leaf by leaf.

TFF 0.87 prints ``({<weights=<float32[5,10],float32[10]>,num_examples=int64>}@CLIENTS -> int32)``,
in one line or over several, and its errors quote one or two of such types. Nothing here imports
TFF.
"""

from fedviz.tff_types.comparison import LeafDiff, LeafStatus, diff_types
from fedviz.tff_types.parsing import parse_type
from fedviz.tff_types.pasting import PastedTypes, parse_paste
from fedviz.tff_types.types import (
    AbstractType,
    FederatedType,
    FunctionType,
    PlacementType,
    SequenceType,
    StructType,
    TensorType,
    TffType,
)
from fedviz.tff_types.weights import signature_of

__all__ = [
    "AbstractType",
    "FederatedType",
    "FunctionType",
    "LeafDiff",
    "LeafStatus",
    "PastedTypes",
    "PlacementType",
    "SequenceType",
    "StructType",
    "TensorType",
    "TffType",
    "diff_types",
    "parse_paste",
    "parse_type",
    "signature_of",
]
