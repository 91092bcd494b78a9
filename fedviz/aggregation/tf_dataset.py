"""A round as the data of TFF's clients: a ``tf.data.Dataset`` of structured weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from fedviz.aggregation.memory_map import MappedTensor, mapped_tensor, rows_of
from fedviz.dataset import Round
from fedviz.errors import CohortError, DatasetFormatError, SignatureError, located
from fedviz.records import ClientRecord
from fedviz.signature import Signature

__all__ = ["element_type", "to_tf_dataset"]


def element_type(signature: Signature) -> Any:
    """The TFF type of one client's structured weights.

    ``tff.SequenceType(element_type(signature))`` is the type of a :func:`to_tf_dataset`.

    Returns
    -------
    tff.Type
        A struct of the signature's tensors, in order; as text it is ``str(signature)``.
    """
    return tff.to_type(
        OrderedDict((s.name, tff.TensorType(s.numpy_dtype.type, s.shape)) for s in signature)
    )


def to_tf_dataset(round: Round, clients: Sequence[str] | None = None) -> tf.data.Dataset:
    """The clients' weights of a round: one element is one client's structured weights.

    The dataset consists of operations that read the file, so it serialises into a TFF worker
    that sees the same file, and an element is read when it is asked for.

    Parameters
    ----------
    round : Round
        The round; its file must stay where it is while the dataset is used.
    clients : sequence of str, optional
        Which clients, in which order; by default all, in the order of the file.

    Returns
    -------
    tf.data.Dataset
        Elements are ``OrderedDict`` of tensor name to tensor, in the signature's order, shapes
        and dtypes: what TFF types as :func:`element_type`.

    Raises
    ------
    SignatureError
        A client has a signature of its own; the elements of a dataset are all alike.
    UnknownNameError
        There is no such client.
    CohortError
        There are no clients.
    DatasetFormatError
        A tensor is not stored in one piece.
    StorageError
        The file is gone or was replaced.
    """
    records = _chosen(round, clients)
    tensors = {spec.name: _mapped(round, spec.name) for spec in round.dataset.signature}

    def weights_of(row: Any) -> Any:
        return OrderedDict(
            (name, tf.reshape(rows_of(tensor)[row], tensor.shape))
            for name, tensor in tensors.items()
        )

    rows = tf.data.Dataset.from_tensor_slices(
        tf.constant([record.row for record in records], tf.int64)
    )
    return rows.map(weights_of)


def _chosen(round: Round, clients: Sequence[str] | None) -> Sequence[ClientRecord]:
    records = round.records if clients is None else [round.clients[c].record for c in clients]
    divergent = [record.id for record in records if not record.conforming]
    if divergent:
        raise SignatureError(
            _placed(
                round,
                f"{len(divergent)} of {len(records)} clients have another signature "
                f"({', '.join(divergent[:12])}{' …' if len(divergent) > 12 else ''}); the elements "
                "of a dataset are all alike. Name the others with clients=[...].",
            )
        )
    if not records:
        raise CohortError(_placed(round, "there are no clients to make a dataset of"))
    return records


def _placed(round: Round, message: str) -> str:
    return located(message, file=round.dataset.path, round=round.number)


def _mapped(round: Round, name: str) -> MappedTensor:
    tensor = mapped_tensor(round, round.dataset.signature[name])
    if tensor is None:
        raise DatasetFormatError(
            located(
                "not stored in one aligned piece, so TensorFlow cannot map it; "
                "write the dataset anew with fedviz",
                file=round.dataset.path,
                round=round.number,
                tensor=name,
            )
        )
    return tensor
