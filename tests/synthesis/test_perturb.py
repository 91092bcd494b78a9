import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedviz.errors import InvalidArgumentError, SignatureError
from fedviz.signature import DTYPES, Signature
from fedviz.synthesis.perturb import client_rng, perturb


def weights_of(**arrays):
    return list(arrays.values()), Signature.of(arrays)


def test_noise_has_the_standard_deviation_that_was_asked_for():
    weights, signature = weights_of(kernel=np.full((200, 500), 3.0, np.float32))
    (noisy,) = perturb(weights, signature, 0.25, rng=client_rng(0, 0, 0))
    noise = noisy.astype(np.float64) - 3.0
    # 100,000 draws: the standard error of the deviation is 0.25 / sqrt(2e5) = 0.00056.
    assert noise.std() == pytest.approx(0.25, abs=0.003)
    assert noise.mean() == pytest.approx(0.0, abs=0.004)


def test_noise_is_drawn_in_float64_and_each_sum_rounded_once():
    weights, signature = weights_of(kernel=np.array([1.0, -2.0, 0.5], np.float32))
    (noisy,) = perturb(weights, signature, 0.1, rng=np.random.default_rng(7))
    noise = np.random.default_rng(7).normal(0.0, 0.1, size=3)
    assert noisy.tolist() == (np.array([1.0, -2.0, 0.5]) + noise).astype(np.float32).tolist()


def test_relative_noise_goes_by_each_tensors_rms():
    # rms of (3, 4) is sqrt(12.5).
    weights, signature = weights_of(kernel=np.array([3.0, 4.0]), bias=np.zeros(2))
    kernel, bias = perturb(weights, signature, 0.1, relative=True, rng=np.random.default_rng(1))
    draws = np.random.default_rng(1).normal(0.0, 0.1 * np.sqrt(12.5), size=2)
    np.testing.assert_array_equal(kernel, [3.0 + draws[0], 4.0 + draws[1]])
    assert bias.tolist() == [0.0, 0.0]


def test_cells_that_are_not_finite_do_not_count_in_the_rms():
    weights, signature = weights_of(kernel=np.array([np.nan, 2.0, np.inf, 2.0]))
    (kernel,) = perturb(weights, signature, 0.5, relative=True, rng=np.random.default_rng(1))
    draws = np.random.default_rng(1).normal(0.0, 1.0, size=4)
    np.testing.assert_array_equal(kernel, [np.nan, 2.0 + draws[1], np.inf, 2.0 + draws[3]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_stays_and_integers_stay_as_they_are(dtype):
    array = np.ones((3, 2)).astype(DTYPES[dtype])
    weights, signature = weights_of(tensor=array)
    (noisy,) = perturb(weights, signature, 0.5, rng=client_rng(0, 0, 0))
    assert noisy.dtype == array.dtype
    is_real = signature.tensors[0].is_float
    assert bool((noisy == array).all()) is not is_real
    assert not np.shares_memory(noisy, array)


@pytest.mark.parametrize("stddev", [-0.1, np.nan, np.inf])
def test_a_deviation_that_is_none_is_refused(stddev):
    weights, signature = weights_of(kernel=np.ones(2))
    with pytest.raises(InvalidArgumentError, match="stddev must be a finite number"):
        perturb(weights, signature, stddev, rng=client_rng(0, 0, 0))


def test_weights_of_another_signature_are_refused():
    _, signature = weights_of(kernel=np.ones(2))
    with pytest.raises(SignatureError, match=r"kernel: expected float64\[2\], found float64\[3\]"):
        perturb([np.ones(3)], signature, 0.1, rng=client_rng(0, 0, 0))


@given(st.integers(0, 2**63), st.integers(0, 1000), st.integers(0, 10_000))
def test_a_clients_stream_depends_on_seed_round_and_client_alone(seed, number, client):
    draw = client_rng(seed, number, client).random()
    assert client_rng(seed, number, client).random() == draw
    neighbours = [
        (seed + 1, number, client),
        (seed, number + 1, client),
        (seed, number, client + 1),
    ]
    assert draw not in [client_rng(*place).random() for place in neighbours]


def test_a_negative_seed_is_refused():
    with pytest.raises(InvalidArgumentError, match="must not be negative, found -1, 0, 0"):
        client_rng(-1, 0, 0)
