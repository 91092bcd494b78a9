"""Attacks of clients that know what the honest ones trained; numbers worked out by hand."""

import math

import numpy as np
import pytest

from fedviz.errors import InvalidArgumentError
from fedviz.generation import GenerateRequest, synthesize
from fedviz.records import FaultKind, InjectedFault
from fedviz.signature import Signature
from fedviz.synthesis.attacks import HonestClients, little_is_enough_z
from fedviz.synthesis.faults import apply_fault, parse_fault
from fedviz.synthesis.injection import FaultInjection

SERVER = {"w": np.array([1.0, 0.0], np.float32), "n": np.array(4)}
OWN = {"w": np.array([9.0, 9.0], np.float32), "n": np.array(5)}
HONEST = (
    HonestClients(num_clients=12, num_attackers=3)
    .and_of({"w": np.array([1.0, -2.0], np.float32), "n": np.array(1)})
    .and_of({"w": np.array([3.0, -6.0], np.float32), "n": np.array(2)})
)


def attacked(text, own=OWN, server=SERVER, honest=HONEST):
    return apply_fault(parse_fault(text), own, server, np.random.default_rng(3), honest)


@pytest.mark.parametrize(
    ("clients", "attackers", "z"),
    [
        # s = 26 − 24 = 2 supporters: the standard normal's quantile of 24/26.
        (50, 24, 1.4260769),
        # s = 7 − 3 = 4 of 9: the quantile of 5/9.
        (12, 3, 0.1397103),
        # s = 6 − 2 = 4 of 8: half of the honest ones, no deviation at all.
        (10, 2, 0.0),
        (10, 1, -0.1397103),
        (10, 6, math.inf),
    ],
)
def test_z_follows_from_the_sizes_of_the_cohort(clients, attackers, z):
    assert little_is_enough_z(clients, attackers) == pytest.approx(z, abs=1e-7)


def test_little_is_enough_is_the_mean_plus_z_deviations():
    # Mean (2, −4), deviations (1, 2).
    faulty, record = attacked("c0:little-is-enough:1.5")
    assert faulty["w"].tolist() == [3.5, -1.0]
    assert faulty["w"].dtype == np.float32
    assert faulty["n"] == 5
    assert record == InjectedFault("c0", FaultKind.LITTLE_IS_ENOUGH, "1.5")
    by_size = attacked("c0:little-is-enough")[0]["w"]
    np.testing.assert_allclose(by_size, [2 + 0.1397103, -4 + 2 * 0.1397103], rtol=1e-6)


def test_statistics_of_many_clients_are_numpys():
    values = np.random.default_rng(0).normal(1e3, 1.0, (40, 3)).astype(np.float32)
    honest = HonestClients(41, 1)
    for row in values:
        honest = honest.and_of({"w": row})
    np.testing.assert_allclose(honest.mean["w"], values.mean(axis=0, dtype="f8"), rtol=1e-14)
    np.testing.assert_allclose(honest.deviation("w"), values.std(axis=0, dtype="f8"), rtol=1e-12)


def test_inner_product_manipulation_turns_the_mean_update_round():
    # The honest mean update is (2, −4) − (1, 0) = (1, −4).
    assert attacked("c0:inner-product:2")[0]["w"].tolist() == [-1.0, 8.0]
    assert attacked("c0:inner-product")[0]["w"].tolist() == [0.5, 2.0]


def test_a_gaussian_client_sends_noise_for_an_update():
    own = {"w": np.full(20_000, 7.0), "n": np.array(5)}
    server = {"w": np.full(20_000, 100.0), "n": np.array(4)}
    for text, stddev in (("c0:gaussian:3", 3.0), ("c0:gaussian", 1.0)):
        faulty = attacked(text, own, server, None)[0]
        update = faulty["w"] - 100
        # Five standard errors of the mean and of the deviation.
        assert abs(update.mean()) < 5 * stddev / math.sqrt(20_000)
        assert abs(update.std() - stddev) < 5 * stddev / math.sqrt(40_000)
        assert faulty["n"] == 5


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("c0:gaussian:0", {}, "a standard deviation above 0, found 0"),
        ("c0:little-is-enough:-1", {}, "a number z of deviations above 0, found -1"),
        ("c0:inner-product:inf", {}, "a factor epsilon above 0, found inf"),
        ("c0:gaussian", {"server": None}, "there is no server model"),
        ("c0:inner-product", {"server": None}, "there is no server model"),
        ("c0:inner-product", {"honest": None}, "need honest clients to learn from"),
        ("c0:inner-product", {"honest": HonestClients(2, 2)}, "every client has a fault"),
    ],
)
def test_an_attack_that_cannot_be_says_why(text, changes, message):
    with pytest.raises(InvalidArgumentError, match=message):
        attacked(text, **changes)


@pytest.mark.parametrize(
    ("clients", "faults", "message"),
    [
        (10, ["c00:little-is-enough"], "1 of 10 clients cannot gain a majority.*enough:1.5"),
        (4, ["c00:little-is-enough", "c01:little-is-enough", "c02:nan"], "at least 2 .* found 1"),
        (1, ["c00:inner-product"], "at least 1 clients without a fault to learn from, found 0"),
        (9, [f"c0{i}:little-is-enough" for i in range(5)], "5 of 9 clients are the majority"),
        (9, ["c00:inner-product", "c00:missing"], "c00 has a fault that changes its signature"),
    ],
)
def test_a_cohort_that_is_too_small_for_an_attack_is_refused(clients, faults, message):
    with pytest.raises(InvalidArgumentError, match=message):
        GenerateRequest(clients=clients, faults=tuple(faults))


def test_colluding_clients_of_a_dataset_submit_one_model(tmp_path):
    model = {"w": np.arange(4, dtype=np.float32)}
    faults = [f"c0{i}:inner-product:3" for i in (1, 4)]
    faults += ["c02:sign-flip", "c03:gaussian", "c03:scale:1"]
    with synthesize(tmp_path / "a.h5", model, 7, 0.5, rounds=2, faults=faults) as dataset:
        noise = []
        for each in dataset.rounds:
            stack = each.read_stack("w").astype("f8")
            np.testing.assert_array_equal(stack[1], stack[4])
            honest = stack[[0, 5, 6]].mean(axis=0)
            np.testing.assert_allclose(
                stack[1], model["w"] - 3 * (honest - model["w"]), rtol=1e-6, atol=1e-6
            )
            noise.append(stack[3] - model["w"])
        assert (noise[0] != noise[1]).all()
        assert [(f.client, f.kind.value, f.argument) for f in dataset.ground_truth] == [
            tuple(text.split(":")) if text.count(":") == 2 else (*text.split(":"), "")
            for text in sorted(faults, key=lambda text: text[:3])
        ]


def test_what_clients_submit_in_training():
    server = [np.array([1.0, 0.0], np.float32)]
    trained = [[np.array(row, np.float32)] for row in ([2, 0], [4, -2], [9, 9], [9, 9], [3, 3])]
    faults = ["c02:inner-product:1", "c03:little-is-enough:2", "c04:missing:w"]
    clients = [f"c0{i}" for i in range(5)]
    signature = Signature.of({"w": server[0], "b": np.zeros(1)})
    injection = FaultInjection(faults, clients, signature, 0, trains=True)
    trained = [[weights, np.zeros(1)] for (weights,) in trained]
    submitted = injection.corrupt(0, trained, [*server, np.zeros(1)])
    # The honest clients are the first two: mean (3, −1), deviations (1, 1).
    assert submitted[2][0].tolist() == [-1.0, 1.0]
    assert submitted[3][0].tolist() == [5.0, 1.0]
    assert submitted[4] is None
    assert [own[0].tolist() for own in submitted[:2]] == [[2.0, 0.0], [4.0, -2.0]]
