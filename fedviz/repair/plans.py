"""What a repair plan says."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from enum import StrEnum

from fedviz.errors import InvalidArgumentError, located
from fedviz.signature import Mismatch

__all__ = ["Repair", "RepairKind", "RepairOption", "RepairPlan"]


class RepairKind(StrEnum):
    """What can be done."""

    RENAME = "rename"
    REORDER = "reorder"
    TRANSPOSE = "transpose"
    RESHAPE = "reshape"
    CAST = "cast"
    DROP_TENSOR = "drop-tensor"
    USE_SERVER = "use-server"
    DROP_CLIENT = "drop-client"


@dataclass(frozen=True)
class RepairOption:
    """One thing that can be done about a mismatch, and what it costs.

    Parameters
    ----------
    kind : RepairKind
        What is done.
    description : str
        In a sentence.
    lossless : bool
        Whether what the client sent can be had back from the result.
    distance : float or None
        ‖repaired − mean‖ / ‖mean‖ over the tensor, where the mean is that of the conforming
        clients; the server model's tensor stands in where there are none. None where nothing is
        left to compare.
    axes : tuple of int
        For ``transpose``, the order of the axes as ``numpy.transpose`` takes it.
    source : str
        For ``reorder`` of values: the tensor that holds the values.
    """

    kind: RepairKind
    description: str
    lossless: bool
    distance: float | None = None
    axes: tuple[int, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Repair:
    """A mismatch of one client and what can be done about it, the safest first.

    ``tensor`` is the tensor as the reference has it, or as the client has it where the reference
    has none. ``chosen`` is the index of the option that will be applied.
    """

    round: int
    client: str
    tensor: str
    mismatch: Mismatch
    options: tuple[RepairOption, ...]
    chosen: int = 0

    @property
    def choice(self) -> RepairOption:
        """The option that will be applied."""
        return self.options[self.chosen]

    @property
    def alternatives(self) -> tuple[RepairOption, ...]:
        """The other options, the safest first."""
        return tuple(o for i, o in enumerate(self.options) if i != self.chosen)


@dataclass(frozen=True)
class RepairPlan:
    """What is to be done about every mismatch of a dataset."""

    repairs: tuple[Repair, ...]

    def choose(self, index: int, kind: RepairKind) -> RepairPlan:
        """The plan with another option for one of its repairs.

        Raises
        ------
        InvalidArgumentError
            There is no such repair, or it has no such option.
        """
        if not 0 <= index < len(self.repairs):
            raise InvalidArgumentError(
                f"repair {index}: expected 0 to {len(self.repairs) - 1}, the plan has no other."
            )
        repair = self.repairs[index]
        kinds = [option.kind for option in repair.options]
        if kind not in kinds:
            raise InvalidArgumentError(
                located(
                    f"{kind} is no option here; expected one of {', '.join(kinds)}",
                    round=repair.round,
                    client=repair.client,
                    tensor=repair.tensor,
                )
            )
        changed = dataclasses.replace(repair, chosen=kinds.index(kind))
        return RepairPlan((*self.repairs[:index], changed, *self.repairs[index + 1 :]))

    def dropped_clients(self, round_number: int) -> frozenset[str]:
        """Ids of the clients that are left out of a round."""
        return frozenset(
            repair.client
            for repair in self.repairs
            if repair.round == round_number and repair.choice.kind is RepairKind.DROP_CLIENT
        )

    def of_client(self, round_number: int, client: str) -> tuple[Repair, ...]:
        """The repairs of one client in one round."""
        return self._by_place.get((round_number, client), ())

    @functools.cached_property
    def _by_place(self) -> dict[tuple[int, str], tuple[Repair, ...]]:
        places: dict[tuple[int, str], list[Repair]] = {}
        for repair in self.repairs:
            places.setdefault((repair.round, repair.client), []).append(repair)
        return {place: tuple(repairs) for place, repairs in places.items()}
