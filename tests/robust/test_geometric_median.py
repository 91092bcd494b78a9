"""The geometric median against SciPy's minimiser and known points."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

from fedviz.errors import CohortError, InvalidArgumentError
from fedviz.robust.geometric_median import geometric_median
from tests.robust.cohorts import flat, model, random_stacks

NAN = float("nan")


def minimised(points, weights):
    """The minimiser of Σ w ‖z − x‖, by a quasi-Newton method from the mean."""

    def value_and_slope(z):
        differences = z - points
        lengths = np.linalg.norm(differences, axis=1)
        return weights @ lengths, (weights / lengths) @ differences

    start = np.average(points, axis=0, weights=weights)
    options = {"gtol": 1e-10, "ftol": 1e-15, "maxiter": 10_000}
    return scipy.optimize.minimize(
        value_and_slope, start, jac=True, method="L-BFGS-B", options=options
    ).x


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_minimum_that_scipy_finds(seed):
    stacks = random_stacks(9, "float64", seed, {"a": (3, 2), "b": ()})
    weights = np.random.default_rng(seed).integers(1, 9, 9).astype("f8")
    result = geometric_median(stacks, weights, tolerance=1e-15)
    expected = minimised(flat(stacks), weights)
    np.testing.assert_allclose(model(result.tensors), expected, atol=1e-6)
    assert result.measurements["converged"]
    distances = np.linalg.norm(model(result.tensors) - flat(stacks), axis=1)
    shares = weights / weights.sum()
    assert result.measurements["sum_of_distances"] == pytest.approx(shares @ distances, rel=1e-9)


def test_four_corners_have_their_diagonals_crossing():
    corners = {"x": np.array([[0.0, 0], [4, 0], [0, 2], [6, 3]])}
    result = geometric_median(corners, np.ones(4), tolerance=1e-16, max_iterations=100_000)
    # The diagonals (0,0)-(6,3) and (4,0)-(0,2) cross at (2, 1).
    np.testing.assert_allclose(result.tensors["x"], [2, 1], atol=1e-6)


def test_a_minority_cannot_carry_it_away_however_far_it_goes():
    found = []
    for far in (1e6, 1e12, 1e30):
        stacks = random_stacks(11, "float64")
        for stack in stacks.values():
            stack[7:] = far
        result = geometric_median(stacks, np.ones(11))
        assert result.measurements["converged"]
        found.append(model(result.tensors))
    # The four pull with one force, in one direction, from wherever they are.
    np.testing.assert_allclose(found[1], found[0], atol=1e-3)
    np.testing.assert_allclose(found[2], found[1], atol=1e-6)
    # That force is 4 of 7: the seven lie about √419 from their middle, z leans out by less.
    assert np.linalg.norm(found[2] - flat(stacks)[:7].mean(axis=0)) < np.sqrt(419)


def test_most_of_the_weight_on_one_client_is_that_client():
    stacks = random_stacks(5, "float64")
    result = geometric_median(stacks, np.array([10.0, 1, 1, 1, 1]))
    np.testing.assert_allclose(model(result.tensors), flat(stacks)[0], atol=1e-5)


def test_a_client_that_is_not_finite_is_left_out():
    stacks = random_stacks(6, "float64")
    stacks["scale"][2] = NAN
    result = geometric_median(stacks, np.ones(6))
    kept = [0, 1, 3, 4, 5]
    alone = geometric_median({n: s[kept] for n, s in stacks.items()}, np.ones(5))
    np.testing.assert_allclose(model(result.tensors), model(alone.tensors), rtol=1e-9)
    assert result.measurements["nonfinite_clients"] == [2]
    assert result.measurements["coefficients"]["2"] == 0


def test_nobody_is_finite():
    with pytest.raises(CohortError, match="expected a client whose values are all finite"):
        geometric_median({"x": np.full((3, 2), NAN)}, np.ones(3))


def test_it_says_when_it_did_not_converge():
    result = geometric_median(random_stacks(9), np.ones(9), tolerance=0, max_iterations=2)
    assert (result.measurements["iterations"], result.measurements["converged"]) == (2, False)


def test_equal_clients_come_back():
    stacks = {name: np.repeat(s[:1], 4, axis=0) for name, s in random_stacks(4).items()}
    result = geometric_median(stacks, np.ones(4))
    np.testing.assert_array_equal(model(result.tensors), flat(stacks)[0])


@pytest.mark.parametrize("parameters", [{"smoothing": 0}, {"tolerance": 2}, {"max_iterations": 0}])
def test_parameters_outside_their_ranges(parameters):
    (name,) = parameters
    with pytest.raises(InvalidArgumentError, match=f"{name}: expected"):
        geometric_median(random_stacks(4), np.ones(4), **parameters)
