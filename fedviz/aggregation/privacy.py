"""What (epsilon, delta) a noisy mean gives, as dp-accounting computes it.

What is counted
    The Gaussian mechanism on a sum of updates whose Euclidean norm is clipped, with noise of
    standard deviation ``noise_multiplier`` times the clipping norm on that sum, composed over the
    rounds.
Who is protected
    A whole client, not one of its examples: two datasets are neighbours when one has one client
    more than the other (add-or-remove adjacency). The sum is divided by the fixed expected number
    of clients, as TFF does, so one client moves it by the clipping norm at most.
Sampling
    Where the population is larger than a round, each client is taken to join a round independently
    of the others with probability ``clients_per_round / population`` (Poisson sampling), and the
    server to keep secret who joined. A server that takes a fixed number of clients, or those that
    are awake, does not do this, and the epsilon is then too small. Where both numbers are equal,
    nothing is assumed about sampling.
Who is trusted
    The server: it sees the updates before the noise.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

from fedviz.errors import InvalidArgumentError

__all__ = ["PrivacyLoss", "privacy_loss"]

_MOST_ROUNDS = 100_000
# Privacy losses are rounded up to multiples of this. With little noise they are large, of the order
# of 1 / noise_multiplier²: coarser steps then keep the same share, and seconds are saved.
_INTERVAL = 1e-4


@dataclass(frozen=True)
class PrivacyLoss:
    """A guarantee, and what it rests on.

    Parameters
    ----------
    epsilon : float
        Infinite where there is no noise.
    delta : float
        The probability with which epsilon may be exceeded, roughly.
    noise_multiplier : float
        Standard deviation of the noise on the sum, in clipping norms.
    sampling_probability : float
        With which a client joins a round.
    rounds : int
        How many rounds were composed.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    sampling_probability: float
    rounds: int

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What must hold for the guarantee, a sentence each."""
        sampling = (
            "Each client joins a round independently with probability "
            f"{self.sampling_probability:g} (Poisson sampling), and who joined is kept secret."
            if self.sampling_probability < 1
            else "All clients may join every round: nothing is gained by sampling."
        )
        return (
            "Neighbouring datasets differ by one whole client, added or removed.",
            sampling,
            f"The same mechanism runs in {self.rounds} rounds, and nothing else is released.",
            "The server is trusted: it sees the updates before the noise.",
        )

    def measurements(self) -> dict[str, Any]:
        """As plain values; an infinite epsilon is None."""
        return {
            "epsilon": self.epsilon if math.isfinite(self.epsilon) else None,
            "delta": self.delta,
            "noise_multiplier": self.noise_multiplier,
            "sampling_probability": self.sampling_probability,
            "accounted_rounds": self.rounds,
            "accountant": "dp-accounting, privacy loss distribution",
            "assumptions": list(self.assumptions),
        }


def privacy_loss(
    noise_multiplier: float,
    clients_per_round: float,
    population: float | None = None,
    rounds: int = 1,
    delta: float = 1e-5,
) -> PrivacyLoss:
    """The epsilon of a noisy mean that is released in every round.

    Parameters
    ----------
    noise_multiplier : float
        Standard deviation of the noise on the sum of the clipped updates, in clipping norms.
    clients_per_round : float
        Expected number of clients of a round, above 0.
    population : float, optional
        How many clients a round's are sampled from; by default those of the round.
    rounds : int, default 1
        How often a mean is released, 1 to 100,000.
    delta : float, default 1e-5
        Above 0 and below 1; it should be far below 1 / population.

    Returns
    -------
    PrivacyLoss
        Its epsilon is an upper bound that dp-accounting rounds up slightly.

    Raises
    ------
    InvalidArgumentError
        A value outside its range.

    References
    ----------
    Dwork and Roth, The Algorithmic Foundations of Differential Privacy, 2014.
    Koskela, Jälkö and Honkela, Computing Tight Differential Privacy Guarantees Using FFT,
    AISTATS 2020.
    McMahan et al., Learning Differentially Private Recurrent Language Models, ICLR 2018.
    """
    population = clients_per_round if population is None else population
    _check("noise_multiplier", noise_multiplier, "a number from 0", noise_multiplier >= 0)
    _check("clients_per_round", clients_per_round, "a number above 0", clients_per_round > 0)
    _check(
        "population", population, "a number from clients_per_round", population >= clients_per_round
    )
    _check("rounds", rounds, "an integer from 1 to 100,000", 1 <= rounds <= _MOST_ROUNDS)
    _check("rounds", rounds, "an integer from 1 to 100,000", rounds == int(rounds))
    _check("delta", delta, "a number above 0 and below 1", 0 < delta < 1)
    probability = clients_per_round / population
    epsilon = _epsilon(noise_multiplier, probability, int(rounds), delta)
    return PrivacyLoss(epsilon, delta, noise_multiplier, probability, int(rounds))


def _check(name: str, value: float, expected: str, fits: bool) -> None:
    if not (fits and math.isfinite(value)):
        raise InvalidArgumentError(f"{name}: expected {expected}, found {value!r}.")


@functools.lru_cache(maxsize=256)
def _epsilon(noise_multiplier: float, probability: float, rounds: int, delta: float) -> float:
    if noise_multiplier == 0:
        return math.inf
    # It takes a second to import, which nobody else is to pay for.
    import dp_accounting

    event: Any = dp_accounting.GaussianDpEvent(noise_multiplier)
    if probability < 1:
        event = dp_accounting.PoissonSampledDpEvent(probability, event)
    accountant = dp_accounting.pld.PLDAccountant(
        dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
        value_discretization_interval=_INTERVAL * max(1.0, noise_multiplier**-2),
    )
    return float(accountant.compose(event, rounds).get_epsilon(delta))
