"""Rules that start at the server model: bounded, proximal, and optimisers over rounds."""

from __future__ import annotations

import numpy as np
import pytest

from fedviz.dataset import WeightDataset
from fedviz.errors import CohortError, InvalidArgumentError, UnknownNameError
from fedviz.robust import ServerState, run_server_updates, server_update
from fedviz.robust.clipping import norm_bounded_mean
from fedviz.robust.proximal import proximal_mean
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.robust.cohorts import column, flat, model, random_stacks

NAN = float("nan")
ONE = {"x": np.array([1.0])}


@pytest.fixture
def stacks():
    return random_stacks(7)


@pytest.fixture
def server():
    return {name: stack[0] for name, stack in random_stacks(1, seed=9).items()}


def bounded_by_definition(vectors, start, weights, bound):
    updates = vectors - start
    factors = np.minimum(1, bound / np.linalg.norm(updates, axis=1))
    return start + np.average(updates * factors[:, None], axis=0, weights=weights)


@pytest.mark.parametrize("bound", [0.5, 28.0, 1e9])
def test_updates_are_shortened_to_the_bound(bound, stacks, server):
    weights = np.arange(1.0, 8)
    result = norm_bounded_mean(stacks, weights, server, bound=bound)
    expected = bounded_by_definition(flat(stacks), model(server), weights, bound)
    np.testing.assert_allclose(model(result.tensors), expected, rtol=1e-6, atol=1e-6)
    norms = np.linalg.norm(flat(stacks) - model(server), axis=1)
    assert result.measurements["clipped"] == np.flatnonzero(norms > bound).tolist()
    assert list(result.measurements["norms"].values()) == pytest.approx(norms, rel=1e-12)


def test_the_median_of_the_norms_is_a_bound():
    result = norm_bounded_mean(column(2, 4, 101, -7), np.array([1.0, 1, 2, 0]), ONE)
    # Norms 1, 3 and 100; the client of weight 0 has none of the bound.
    assert result.measurements["bound"] == 3
    assert result.measurements["clipped"] == [2]
    assert result.measurements["factors"]["2"] == pytest.approx(0.03)
    assert result.tensors["x"] == pytest.approx(1 + (1 + 3 + 2 * 3) / 4)


def test_an_update_without_a_norm_is_left_out():
    result = norm_bounded_mean(column(2, NAN, 4), np.ones(3), ONE, bound=10)
    assert result.tensors["x"] == 3
    assert result.measurements["nonfinite_clients"] == [1]
    assert result.measurements["factors"]["1"] is None
    with pytest.raises(CohortError, match="whose update has a finite norm, found none"):
        norm_bounded_mean(column(NAN), np.ones(1), ONE)


def test_a_proximal_mean_minimises_its_sum():
    # ½ (w (x − 2)² …) with mean 3, μ = 0.5 and the server at 1: (3 + 0.5) / 1.5.
    result = proximal_mean(column(2, 4, 99), np.array([2.0, 2, 0]), ONE, mu=0.5)
    assert result.tensors["x"] == pytest.approx(3.5 / 1.5, rel=1e-15)


def test_without_a_pull_it_is_the_mean(stacks, server):
    weights = np.arange(1.0, 8)
    result = proximal_mean(stacks, weights, server, mu=0)
    expected = np.average(flat(stacks), axis=0, weights=weights)
    np.testing.assert_allclose(model(result.tensors), expected, rtol=1e-6, atol=1e-7)


def test_a_mean_that_is_spoilt_says_by_whom():
    result = proximal_mean(column(2, NAN, 4), np.ones(3), ONE)
    assert result.measurements == {
        "clients": 3,
        "nonfinite_clients": [1],
        "nonfinite_result": 1,
    }


@pytest.mark.parametrize("rule", [norm_bounded_mean, proximal_mean])
def test_they_need_a_server_model(rule):
    with pytest.raises(CohortError, match="needs a server model to start from"):
        rule(column(1, 2), np.ones(2), None)


def test_fedavgm_by_hand():
    parameters = {"server_learning_rate": 0.5, "momentum": 0.8}
    weights, state = server_update("fedavgm", ONE, {"x": np.array([3.0])}, **parameters)
    assert weights["x"] == 1 + 0.5 * 2
    weights, state = server_update("fedavgm", weights, {"x": np.array([6.0])}, state, **parameters)
    # m = 0.8 · 2 + 4
    assert weights["x"] == pytest.approx(2 + 0.5 * 5.6)
    assert state.rounds == 2


def test_fedadam_by_hand():
    p = {"server_learning_rate": 0.1, "beta1": 0.5, "beta2": 0.75, "tau": 2.0}
    weights, state = server_update("fedadam", ONE, {"x": np.array([3.0])}, **p)
    # m = 0.5 · 2, v = 0.75 · 4 + 0.25 · 4
    assert weights["x"] == pytest.approx(1 + 0.1 * 1 / (2 + 2))
    weights, _ = server_update("fedadam", ONE, {"x": np.array([5.0])}, state, **p)
    # m = 0.5 · 1 + 0.5 · 4, v = 0.75 · 4 + 0.25 · 16
    assert weights["x"] == pytest.approx(1 + 0.1 * 2.5 / (np.sqrt(7) + 2))


def test_fedyogi_by_hand():
    p = {"server_learning_rate": 0.1, "beta1": 0.5, "beta2": 0.75, "tau": 1.0}
    weights, state = server_update("fedyogi", ONE, {"x": np.array([3.0])}, **p)
    # v = 1 + 0.25 · 4, for 1 < 4
    assert weights["x"] == pytest.approx(1 + 0.1 * 1 / (np.sqrt(2) + 1))
    _, state = server_update("fedyogi", ONE, {"x": np.array([2.0])}, state, **p)
    # v = 2 − 0.25 · 1, for 2 > 1
    assert state.squares["x"] == 1.75


def test_a_step_of_one_without_momentum_is_the_mean(server):
    mean = {name: stack[0] for name, stack in random_stacks(1, seed=3).items()}
    weights, _ = server_update("fedavgm", server, mean, momentum=0)
    for name in mean:
        assert weights[name].dtype == np.float32
        np.testing.assert_array_equal(weights[name], mean[name])


def test_parameters_are_checked():
    with pytest.raises(UnknownNameError, match="no server optimiser sgd; there are fedavgm, fedad"):
        server_update("sgd", ONE, ONE)
    with pytest.raises(UnknownNameError, match="fedavgm has no parameter tau; it has server_lear"):
        server_update("fedavgm", ONE, ONE, tau=1)
    with pytest.raises(InvalidArgumentError, match="momentum: expected a number from 0 to below 1"):
        server_update("fedavgm", ONE, ONE, momentum=1)


def write_rounds(path, servers, means):
    """Rounds of one client each, which holds the mean; a server of None is absent."""
    signature = Signature((TensorSpec("x", (1,), "float64"), TensorSpec("steps", (), "int64")))
    steps = np.array(3, dtype="i8")
    with WeightDatasetWriter(path, signature) as writer:
        for server, mean in zip(servers, means, strict=True):
            start = None if server is None else [np.array([server]), steps]
            with writer.round([ClientEntry("c", 1)], start) as round_:
                round_.write_client("c", [np.array([mean]), steps])
    return path


def mean_of(round_):
    return {"x": round_.clients["c"]["x"]}


def test_rounds_are_taken_in_up_to_one(tmp_path):
    path = write_rounds(tmp_path / "a.h5", [0.0, 1.0, 5.0], [2.0, 2.0, 9.0])
    with WeightDataset.open(path) as dataset:
        second = run_server_updates("fedavgm", dataset, 1, mean_of, momentum=0.5)
        last = run_server_updates("fedavgm", dataset, -1, mean_of, momentum=0.5)
    # Moves 2, 1 and 4: m = 0.5 · 2 + 1 = 2, then 0.5 · 2 + 4 = 5, from each round's own server.
    assert second.tensors["x"] == 1 + 2
    assert last.tensors["x"] == 5 + 5
    assert last.measurements["rounds"] == [0, 1, 2]
    assert last.measurements["move_norms"] == [2, 1, 4]
    assert last.measurements["step_norm"] == 5


def test_a_round_without_a_server_model(tmp_path):
    path = write_rounds(tmp_path / "a.h5", [0.0, None, 5.0], [2.0, 2.0, 9.0])
    with WeightDataset.open(path) as dataset:
        assert run_server_updates("fedadam", dataset, 0, mean_of).measurements["rounds"] == [0]
        with pytest.raises(CohortError, match=r"a.h5, round 1: fedadam needs every round's server"):
            run_server_updates("fedadam", dataset, 2, mean_of)


def test_an_empty_state_is_rest():
    one = server_update("fedyogi", ONE, {"x": np.array([3.0])}, ServerState())
    other = server_update("fedyogi", ONE, {"x": np.array([3.0])})
    np.testing.assert_array_equal(one[0]["x"], other[0]["x"])
