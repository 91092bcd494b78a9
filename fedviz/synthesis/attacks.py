"""Attacks of clients that collude: they know what the honest clients trained, and agree on a model.

Every attacker of a round submits the same model. It is made of two statistics of the honest
clients, cell by cell, which are gathered client by client: memory is that of three models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedviz.errors import InvalidArgumentError
from fedviz.signature import Signature

__all__ = [
    "EPSILON",
    "HonestClients",
    "inner_product_manipulation",
    "little_is_enough",
    "little_is_enough_z",
]

EPSILON = 0.5
"""What ``inner-product`` multiplies the honest mean by where no number is given."""

Weights = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class HonestClients:
    """What colluding attackers know of a round.

    Parameters
    ----------
    num_clients : int
        All clients of the round, attackers included: n.
    num_attackers : int
        Those that collude: m.
    count : int
        How many honest clients were seen.
    mean, squares : mapping of name to ndarray, float64
        Of the float tensors: the honest clients' unweighted mean, and the sum of their squared
        distances to it, cell by cell.
    """

    num_clients: int
    num_attackers: int
    count: int = 0
    mean: Mapping[str, NDArray[np.float64]] | None = None
    squares: Mapping[str, NDArray[np.float64]] | None = None

    def and_of(self, client: Weights) -> HonestClients:
        """With one more client in the statistics (Welford's update, in float64)."""
        count = self.count + 1
        mean: dict[str, NDArray[np.float64]] = {}
        squares: dict[str, NDArray[np.float64]] = {}
        for spec in Signature.of(client):
            if not spec.is_float:
                continue
            value = np.asarray(client[spec.name]).astype(np.float64)
            if self.mean is None or self.squares is None:
                mean[spec.name], squares[spec.name] = value, np.zeros_like(value)
                continue
            before = value - self.mean[spec.name]
            mean[spec.name] = self.mean[spec.name] + before / count
            squares[spec.name] = self.squares[spec.name] + before * (value - mean[spec.name])
        return HonestClients(self.num_clients, self.num_attackers, count, mean, squares)

    def known_mean(self) -> Mapping[str, NDArray[np.float64]]:
        """The honest clients' mean.

        Raises
        ------
        InvalidArgumentError
            There is no honest client.
        """
        if self.mean is None:
            raise InvalidArgumentError(
                "attackers that collude need honest clients; every client has a fault"
            )
        return self.mean

    def deviation(self, name: str) -> NDArray[np.float64]:
        """The honest clients' standard deviation in each cell of a tensor.

        Squares are divided by the number of clients, as in the paper's own code.
        """
        squares = (self.squares or {})[name]
        return np.asarray(np.sqrt(np.maximum(squares, 0.0) / max(1, self.count)))


def little_is_enough_z(num_clients: int, num_attackers: int) -> float:
    """How many deviations from the mean attackers may stand and still have the majority.

    With s = ⌊n/2 + 1⌋ − m honest clients further out than they, the attackers and these s are the
    majority of the n clients: z_max = Φ⁻¹((n − m − s) / (n − m)), Φ being the standard normal's
    distribution function.

    Parameters
    ----------
    num_clients, num_attackers : int
        n and m, 0 < m < n.

    Returns
    -------
    float
        Infinite where the attackers are the majority by themselves. 0 or less where they are too
        few for the attack.

    References
    ----------
    Baruch, Baruch and Goldberg, A Little Is Enough: Circumventing Defenses For Distributed
    Learning, NeurIPS 2019, algorithm 3.
    """
    honest = num_clients - num_attackers
    supporters = num_clients // 2 + 1 - num_attackers
    share = (honest - supporters) / honest
    return math.inf if share >= 1 else NormalDist().inv_cdf(share)


def little_is_enough(weights: Weights, honest: HonestClients, z: float) -> dict[str, NDArray[Any]]:
    """The model μ + z σ of the honest clients, cell by cell; others than float tensors are kept.

    Parameters
    ----------
    weights : mapping of name to ndarray
        The attacker's own, whose dtypes the model gets.
    honest : HonestClients
    z : float
        Such as :func:`little_is_enough_z` gives. Gradients point against updates: the paper's
        own code subtracts from gradients what is added here.
    """
    mean = honest.known_mean()
    return _submitted(weights, {n: mean[n] + z * honest.deviation(n) for n in mean})


def inner_product_manipulation(
    weights: Weights, server: Weights, honest: HonestClients, epsilon: float
) -> dict[str, NDArray[Any]]:
    """The model server − ε (μ − server): ε times the honest clients' mean update, turned round.

    Parameters
    ----------
    weights : mapping of name to ndarray
        The attacker's own, whose dtypes the model gets.
    server : mapping of name to ndarray
        The server model of the round.
    honest : HonestClients
    epsilon : float
        A small one hides among the honest clients (Krum), a large one turns the mean round: that
        of n clients with m attackers moves backwards from ε > (n − m) / m on.

    References
    ----------
    Xie, Koyejo and Gupta, Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product
    Manipulation, UAI 2019, section 4.
    """
    mean = honest.known_mean()
    start = {name: server[name].astype(np.float64) for name in mean}
    return _submitted(weights, {n: start[n] - epsilon * (mean[n] - start[n]) for n in mean})


def _submitted(
    weights: Weights, chosen: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[Any]]:
    with np.errstate(over="ignore", invalid="ignore"):
        return {
            name: chosen[name].astype(own.dtype) if name in chosen else own
            for name, own in weights.items()
        }
