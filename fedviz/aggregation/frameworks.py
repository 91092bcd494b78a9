"""What TFF itself says of a round with divergent clients, asked and not guessed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow_federated as tff

from fedviz.aggregation import context
from fedviz.aggregation.tf_dataset import element_type
from fedviz.analysis.check_report import CheckReport
from fedviz.analysis.numpy_averaging import ClientModel, distinct_models
from fedviz.dataset import Round
from fedviz.signature import Signature

__all__ = ["TffVerdict", "tff_verdict"]

LARGEST_VALUE_BYTES = 4 << 20
"""Models up to this size are handed to TFF; of larger ones it is asked about the types."""

_LONGEST_ERROR = 600


@dataclass(frozen=True)
class TffVerdict:
    """What TFF says of some clients' models beside one that has the dataset's signature.

    Parameters
    ----------
    clients : tuple of str
        Clients that TFF does not tell apart.
    refuses : bool
        Whether the call fails; where it was not made, whether the types are not assignable.
    error : str
        The error of calling ``tff.federated_mean`` with such a client's weights, its kind and
        first line; empty where it was accepted or not called.
    type_error : str
        The whole error of asking whether the client's type is assignable to the server model's;
        empty where it is.
    poisoned : tuple of str
        Tensors that are not finite in the mean.
    called : bool
        Whether the mean was called; models above :data:`LARGEST_VALUE_BYTES` are not handed over.
    """

    clients: tuple[str, ...]
    refuses: bool
    error: str
    type_error: str
    poisoned: tuple[str, ...]
    called: bool

    @property
    def silent(self) -> bool:
        """Whether TFF takes, without a word, what is not of the server model's type."""
        return not self.refuses and bool(self.type_error)


def tff_verdict(
    round_: Round,
    report: CheckReport | None = None,
    *,
    models: Sequence[ClientModel] | None = None,
) -> tuple[TffVerdict, ...]:
    """What ``tff.federated_mean`` says of the clients of a round.

    The mean is typed for the server model and called with two clients: zeros of the server
    model's shapes and dtypes, and zeros of the client's, NaN in a tensor that is not finite. TFF
    looks at shapes, dtypes and the number of tensors, not at the values, and in TFF 0.87 not at
    the names either.

    Parameters
    ----------
    round_ : Round
    report : CheckReport, optional
        A check of this round that looked at the values; by default one is made.
    models : sequence of ClientModel, optional
        What TFF is asked about; by default the distinct models of the round.

    Returns
    -------
    tuple of TffVerdict
        One for each model; by default in the order of the round's table.

    Raises
    ------
    EngineError
        The worker failed.
    """
    reference = round_.dataset.signature
    models = distinct_models(round_, report) if models is None else models
    try:
        mean = _federated_mean(reference)
    except TypeError as error:
        clients = tuple(client for model in models for client in model.clients)
        return (TffVerdict(clients, True, _first_line(error), "", (), False),)
    return tuple(_verdict(mean, reference, model) for model in models)


def _federated_mean(reference: Signature) -> Any:
    def mean(weights: Any) -> Any:
        return tff.federated_mean(weights)

    clients_type = tff.FederatedType(element_type(reference), tff.CLIENTS)
    return tff.federated_computation(mean, clients_type)


def _verdict(mean: Any, reference: Signature, model: ClientModel) -> TffVerdict:
    type_error = _type_error(reference, model.signature)
    if max(reference.nbytes, model.signature.nbytes) > LARGEST_VALUE_BYTES:
        poisoned = tuple(n for n in model.nonfinite if not type_error)
        return TffVerdict(model.clients, bool(type_error), "", type_error, poisoned, False)
    try:
        result = context.run(mean, [_value(reference), _value(model.signature, model.nonfinite)])
    except (TypeError, ValueError) as error:
        return TffVerdict(model.clients, True, _first_line(error), type_error, (), True)
    poisoned = tuple(
        name
        for name, value in zip(reference.names, result.values(), strict=True)
        if not np.isfinite(np.asarray(value, np.float64)).all()
    )
    return TffVerdict(model.clients, False, "", type_error, poisoned, True)


def _type_error(reference: Signature, found: Signature) -> str:
    try:
        element_type(reference).check_assignable_from(element_type(found))
    except TypeError as error:
        return str(error)
    return ""


def _value(
    signature: Signature, nonfinite: frozenset[str] = frozenset()
) -> OrderedDict[str, np.ndarray]:
    return OrderedDict(
        (spec.name, np.full(spec.shape, np.nan if spec.name in nonfinite else 0, spec.numpy_dtype))
        for spec in signature
    )


def _first_line(error: Exception) -> str:
    """Its kind and first line: TFF goes on with all the values."""
    line = str(error).strip().split("\n")[0]
    line = line if len(line) <= _LONGEST_ERROR else f"{line[:_LONGEST_ERROR]} …"
    return f"{type(error).__name__}: {line}"
