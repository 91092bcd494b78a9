"""Who is aggregated, and what each client weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedviz.dataset import Round
from fedviz.errors import CohortError, InvalidArgumentError, UnknownNameError, located
from fedviz.records import ClientRecord

__all__ = ["WEIGHTINGS", "Cohort", "Divergent", "validated_cohort"]

Divergent = Literal["refuse", "leave-out"]

WEIGHTINGS: Mapping[str, str] = {
    "num_examples": "each client weighs as many examples as it trained on",
    "uniform": "each client weighs the same",
}
"""What may weight the clients, with one line about each."""


@dataclass(frozen=True)
class Cohort:
    """The clients of one round that are aggregated.

    ``records`` and ``weights`` (float64, not negative, with a positive sum) belong together and
    are in the order of the rows. ``left_out`` are the ids of the divergent clients.
    """

    round: Round
    records: tuple[ClientRecord, ...]
    weights: np.ndarray
    left_out: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """The clients' ids, in the order of the rows."""
        return tuple(record.id for record in self.records)

    @property
    def num_clients(self) -> int:
        """How many clients have a weight above 0: the others take no part."""
        return int(np.count_nonzero(self.weights))


def validated_cohort(
    round: Round,
    weighting: str = "num_examples",
    divergent: Divergent = "refuse",
) -> Cohort:
    """The clients of a round with their weights, if an aggregate can be made of them.

    Raises
    ------
    UnknownNameError
        No such weighting.
    CohortError
        No clients; divergent ones that are not to be left out; a client whose number of examples
        is not known, negative or not a number; or weights that sum to zero.
    """
    if weighting not in WEIGHTINGS:
        raise UnknownNameError(
            f"there is no weighting {weighting}; there are {', '.join(WEIGHTINGS)}."
        )
    if divergent not in ("refuse", "leave-out"):
        raise InvalidArgumentError(f"divergent: expected refuse or leave-out, found {divergent}.")
    _check_conforming(round, divergent)
    records = round.conforming
    weights = np.ones(len(records)) if weighting == "uniform" else _num_examples(round, records)
    if not weights.sum() > 0:
        raise CohortError(
            _placed(round, "all clients have zero examples; weight them with weighting=uniform")
        )
    return Cohort(round, records, weights, tuple(record.id for record in round.divergent))


def _check_conforming(round: Round, divergent: str) -> None:
    if not round.records:
        raise CohortError(_placed(round, "there are no clients to average"))
    if round.divergent and divergent == "refuse":
        raise CohortError(
            _placed(
                round,
                f"{len(round.divergent)} of {len(round.records)} clients have another signature "
                f"than the dataset ({_listed([r.id for r in round.divergent])}); TFF refuses such "
                "a round. Look at them with fedviz check, or leave them out "
                "(--leave-out-divergent, divergent='leave-out')",
            )
        )
    if not round.conforming:
        raise CohortError(
            _placed(round, "no client has the dataset's signature; look at them with fedviz check")
        )


def _num_examples(round: Round, records: Sequence[ClientRecord]) -> np.ndarray:
    unknown = [record.id for record in records if record.num_examples is None]
    if unknown:
        raise CohortError(
            _placed(
                round,
                f"num_examples is not known of {len(unknown)} clients ({_listed(unknown)}); "
                "weight the clients with weighting=uniform, or write the dataset with num_examples",
            )
        )
    weights = np.array([record.num_examples for record in records], np.float64)
    for record, weight in zip(records, weights, strict=True):
        if not (np.isfinite(weight) and weight >= 0):
            raise CohortError(
                _placed(
                    round,
                    f"num_examples is {record.num_examples}; expected a number from 0",
                    client=record.id,
                )
            )
    return weights


def _listed(ids: Sequence[str], limit: int = 12) -> str:
    return ", ".join(ids[:limit]) + (" …" if len(ids) > limit else "")


def _placed(round: Round, message: str, client: str | None = None) -> str:
    return located(message, file=round.dataset.path, round=round.number, client=client)
