"""From the type of a client's weights to their signature."""

from __future__ import annotations

from collections.abc import Iterator

from fedviz.errors import SignatureError
from fedviz.signature import Signature, TensorSpec
from fedviz.tff_types.parsing import shortened
from fedviz.tff_types.types import FederatedType, StructType, TensorType, TffType

__all__ = ["signature_of"]


def signature_of(tff_type: TffType) -> Signature:
    """The signature of a client's weights, given their TFF type.

    Parameters
    ----------
    tff_type : TffType
        A struct of tensors, also nested (names are joined by ``/``), placed or not, or the
        ``weights`` of a struct that has them beside ``num_examples``.

    Raises
    ------
    SignatureError
        It holds something else than tensors of known shapes, or a name twice.
    """
    if isinstance(tff_type, FederatedType):
        tff_type = tff_type.member
    if isinstance(tff_type, StructType):
        tff_type = dict(tff_type.elements).get("weights", tff_type)
    return Signature(tuple(_specs((), tff_type)))


def _specs(path: tuple[str, ...], tree: TffType) -> Iterator[TensorSpec]:
    if isinstance(tree, StructType):
        for i, (name, element) in enumerate(tree.elements):
            yield from _specs((*path, str(i) if name is None else name), element)
    elif isinstance(tree, TensorType) and tree.shape is not None and None not in tree.shape:
        sizes = tuple(size for size in tree.shape if size is not None)
        yield TensorSpec("/".join(path) or "0", sizes, tree.dtype)
    else:
        raise SignatureError(
            f"TFF type {shortened(str(tree))} cannot be a weight; expected a tensor of known shape."
        )
