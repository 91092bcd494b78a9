"""Signatures, and how two of them differ.

:mod:`~fedviz.signature.specs` says what a signature is, :mod:`~fedviz.signature.matching` which
tensors of two signatures are taken for the same one, :mod:`~fedviz.signature.comparison` in what
they differ, and :mod:`~fedviz.signature.causes` why they probably do.
"""

from fedviz.signature.causes import (
    CAUSE_RULES,
    CauseRule,
    Difference,
    ValueEvidence,
    probable_cause,
)
from fedviz.signature.comparison import compare_matched, compare_signatures
from fedviz.signature.matching import Matching, Shift, match
from fedviz.signature.mismatch import Mismatch, MismatchKind, NonFiniteCount
from fedviz.signature.specs import (
    DTYPES,
    Signature,
    TensorSpec,
    is_storable_text,
    tff_type_of_client,
    tff_type_of_round,
)

__all__ = [
    "CAUSE_RULES",
    "DTYPES",
    "CauseRule",
    "Difference",
    "Matching",
    "Mismatch",
    "MismatchKind",
    "NonFiniteCount",
    "Shift",
    "Signature",
    "TensorSpec",
    "ValueEvidence",
    "compare_matched",
    "compare_signatures",
    "is_storable_text",
    "match",
    "probable_cause",
    "tff_type_of_client",
    "tff_type_of_round",
]
