import math

import pytest
from scipy.optimize import brentq

from fedviz.aggregation.privacy import privacy_loss
from fedviz.errors import InvalidArgumentError


def cdf(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))


def gaussian_epsilon(noise_multiplier, delta):
    """Balle and Wang, Improving the Gaussian Mechanism, ICML 2018, theorem 8."""

    def excess(epsilon):
        a, b = 0.5 / noise_multiplier, epsilon * noise_multiplier
        return cdf(a - b) - math.exp(epsilon) * cdf(-a - b) - delta

    return brentq(excess, 0, 200)


@pytest.mark.parametrize("noise_multiplier", [0.3, 1.0, 4.0])
def test_one_round_is_the_gaussian_mechanism(noise_multiplier):
    loss = privacy_loss(noise_multiplier, 10, delta=1e-5)

    assert loss.epsilon == pytest.approx(gaussian_epsilon(noise_multiplier, 1e-5), rel=1e-3)
    assert loss.sampling_probability == 1


def test_rounds_compose_as_one_round_with_less_noise():
    """A Gaussian mechanism composed t times is one with 1/sqrt(t) of the noise."""
    loss = privacy_loss(3.0, 10, rounds=9, delta=1e-6)

    assert loss.epsilon == pytest.approx(gaussian_epsilon(1.0, 1e-6), rel=1e-3)


def test_poisson_sampling_amplifies():
    """One round with probability q: delta(log(1 + q (e^epsilon - 1))) <= q delta(epsilon)."""
    sampled = privacy_loss(1.0, 10, population=100, delta=1e-6)
    bound = math.log(1 + 0.1 * (math.exp(gaussian_epsilon(1.0, 1e-5)) - 1))

    assert sampled.sampling_probability == 0.1
    assert sampled.epsilon <= bound * 1.001
    assert sampled.epsilon == pytest.approx(bound, rel=0.02)


def test_less_noise_more_rounds_and_smaller_delta_cost_more():
    base = privacy_loss(2.0, 10, 100, 2, 1e-5).epsilon

    assert privacy_loss(1.5, 10, 100, 2, 1e-5).epsilon > base
    assert privacy_loss(2.0, 10, 100, 4, 1e-5).epsilon > base
    assert privacy_loss(2.0, 10, 100, 2, 1e-7).epsilon > base
    assert privacy_loss(2.0, 10, 200, 2, 1e-5).epsilon < base


def test_no_noise_is_no_privacy():
    loss = privacy_loss(0.0, 10)

    assert loss.epsilon == math.inf
    assert loss.measurements()["epsilon"] is None


def test_assumptions_name_adjacency_and_sampling():
    adjacency, sampling, rounds, trust = privacy_loss(1.0, 10, 100, 3).assumptions

    assert adjacency == "Neighbouring datasets differ by one whole client, added or removed."
    assert "probability 0.1 (Poisson sampling)" in sampling
    assert "in 3 rounds" in rounds
    assert "trusted" in trust
    assert "nothing is gained by sampling" in privacy_loss(1.0, 10).assumptions[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 10), "noise_multiplier: expected a number from 0, found -1"),
        ((math.nan, 10), "noise_multiplier: expected a number from 0, found nan"),
        ((1, 0), "clients_per_round: expected a number above 0, found 0"),
        ((1, 10, 5), "population: expected a number from clients_per_round, found 5"),
        ((1, 10, 10, 0), "rounds: expected an integer from 1 to 100,000, found 0"),
        ((1, 10, 10, 1.5), "rounds: expected an integer from 1 to 100,000, found 1.5"),
        ((1, 10, 10, 1, 1), "delta: expected a number above 0 and below 1, found 1"),
    ],
)
def test_values_outside_their_range(arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        privacy_loss(*arguments)
