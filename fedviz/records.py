"""The small values that a dataset keeps beside the weights."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["AGGREGATE", "SERVER", "ClientRecord", "FaultKind", "InjectedFault", "Metric"]

SERVER = "server"
AGGREGATE = "aggregate"


@dataclass(frozen=True)
class ClientRecord:
    """One client of one round, as the round's table lists it.

    ``num_examples`` is None where it is not known. ``digest`` is the SHA-256 of the client's
    tensors' bytes in its own order. ``row`` is its row in the stacked tensors, None for a
    divergent client, which is kept apart with a signature of its own.
    """

    id: str
    num_examples: int | None
    digest: str
    row: int | None

    @property
    def conforming(self) -> bool:
        """Whether the client's signature is the dataset's."""
        return self.row is not None


@dataclass(frozen=True)
class Metric:
    """One measured number: ``loss`` or ``accuracy``, on held-out data, of one model of a round.

    ``role`` is ``server``, ``aggregate`` or ``client``; ``subject`` is the client's id or the
    aggregate's name, empty for the server model.
    """

    role: str
    subject: str
    name: str
    value: float


class FaultKind(StrEnum):
    """What may be done to a client on purpose. The values are part of the command line."""

    TRANSPOSE = "transpose"
    DTYPE = "dtype"
    MISSING = "missing"
    EXTRA = "extra"
    ORDER = "order"
    NAN = "nan"
    INF = "inf"
    SCALE = "scale"
    SIGN_FLIP = "sign-flip"
    LABEL_FLIP = "label-flip"
    GAUSSIAN = "gaussian"
    LITTLE_IS_ENOUGH = "little-is-enough"
    INNER_PRODUCT = "inner-product"


@dataclass(frozen=True)
class InjectedFault:
    """Ground truth: what was done to which client, in every round, and to which tensors.

    ``argument`` is the kind's own: a factor, a dtype, a share of cells, a deviation; empty for its
    default.
    ``tensors`` is empty where the fault concerns the whole model.
    """

    client: str
    kind: FaultKind
    argument: str = ""
    tensors: tuple[str, ...] = ()
