"""Which attacks a cohort is large enough for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fedviz.errors import InvalidArgumentError
from fedviz.records import FaultKind
from fedviz.synthesis.attacks import little_is_enough_z
from fedviz.synthesis.fault import Fault, is_colluding, is_structural

__all__ = ["check_collusion"]


def check_collusion(faults: Mapping[str, Sequence[Fault]], num_clients: int) -> None:
    """Refuse attacks that the cohort is too small for.

    Parameters
    ----------
    faults : mapping of client to sequence of Fault
        Those of the clients that have any.
    num_clients : int
        Of the cohort.

    Raises
    ------
    InvalidArgumentError
        Too few honest clients to learn from, too few attackers for ``little-is-enough`` without a
        z, or an attacker whose signature another fault changes.
    """
    attacks = [fault for own in faults.values() for fault in own if is_colluding(fault.kind)]
    honest = num_clients - len(faults)
    for fault in attacks:
        least = 2 if fault.kind is FaultKind.LITTLE_IS_ENOUGH else 1
        if honest < least:
            raise InvalidArgumentError(
                f"fault {fault}: expected at least {least} clients without a fault to learn from, "
                f"found {honest}"
            )
        if any(is_structural(other.kind) for other in faults[fault.client]):
            raise InvalidArgumentError(
                f"fault {fault}: {fault.client} has a fault that changes its signature too; "
                "attackers that collude have the signature of the honest clients"
            )
        if fault.kind is FaultKind.LITTLE_IS_ENOUGH and not fault.argument:
            _check_z(fault, num_clients, len({each.client for each in attacks}))


def _check_z(fault: Fault, num_clients: int, num_attackers: int) -> None:
    z = little_is_enough_z(num_clients, num_attackers)
    if not 0 < z < math.inf:
        why = "are the majority" if z > 0 else "cannot gain a majority"
        raise InvalidArgumentError(
            f"fault {fault}: {num_attackers} of {num_clients} clients {why}, so that their number "
            f"gives no z; give one, such as {fault.client}:{fault.kind.value}:1.5"
        )
