"""The Gram matrix and what follows from it, against NumPy in float64 on whole arrays."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fedviz.analysis import gram as g
from fedviz.errors import CohortError, InvalidArgumentError, JobCancelledError
from fedviz.progress import Progress
from tests.robust.cohorts import flat, model, random_stacks

SHAPES = {"kernel": (150, 60), "bias": (60,), "scale": ()}
WEIGHTS = np.array([5.0, 0, 1, 7, 2, 2, 1, 3])


@pytest.fixture
def stacks():
    return random_stacks(8, shapes=SHAPES)


@pytest.fixture
def server():
    return {name: stack[0] for name, stack in random_stacks(1, seed=9, shapes=SHAPES).items()}


def relative_error(found, expected):
    lengths = np.sqrt(expected.diagonal())
    return np.abs(found - expected).max() / np.outer(lengths, lengths).max()


@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(np.float16, 1e-6), (ml_dtypes.bfloat16, 1e-6), (np.float32, 1e-6), (np.float64, 1e-15)],
)
def test_it_is_the_matrix_of_inner_products(dtype, bound, stacks, server):
    stacks = {name: stack.astype(dtype) for name, stack in stacks.items()}
    server = {name: tensor.astype(dtype) for name, tensor in server.items()}
    updates = flat(stacks) - model(server)
    found = g.gram_matrix(stacks, server)
    assert found.total.dtype == np.float64
    assert relative_error(found.total, updates @ updates.T) < bound
    plain = g.gram_matrix(stacks)
    assert relative_error(plain.total, flat(stacks) @ flat(stacks).T) < bound


def test_tensors_add_up(stacks, server):
    found = g.gram_matrix(stacks, server)
    assert list(found.by_tensor) == list(stacks)
    kernel = (stacks["kernel"].astype("f8") - server["kernel"]).reshape(8, -1)
    assert relative_error(found.by_tensor["kernel"], kernel @ kernel.T) < 1e-6
    np.testing.assert_allclose(sum(found.by_tensor.values()), found.total, rtol=1e-15)
    without = g.gram_matrix(stacks, server, per_tensor=False)
    assert without.by_tensor == {}
    np.testing.assert_array_equal(without.total, found.total)


def test_values_whose_squares_leave_float32():
    stacks = {"x": np.array([[1e30, 1], [-2e30, 3]], dtype="f4")}
    expected = flat(stacks) @ flat(stacks).T
    np.testing.assert_allclose(g.gram_matrix(stacks).total, expected, rtol=1e-7)


def test_a_client_that_is_not_finite_spoils_its_own_row_only(stacks):
    clean = g.gram_matrix(stacks).total
    stacks["bias"][3, 5] = np.nan
    spoilt = g.gram_matrix(stacks).total
    others = np.arange(8) != 3
    assert np.isnan(spoilt[3]).all()
    kept = np.ix_(others, others)
    assert relative_error(spoilt[kept], clean[kept]) < 1e-6
    squared = g.squared_distances(spoilt)
    assert np.isinf(squared[3, others]).all()
    assert np.isfinite(squared[kept]).all()
    weights = np.where(others, 1.0, 0.0)
    assert np.isfinite(g.distances_to_mean(spoilt, weights)[others]).all()


def test_a_mapped_file_and_memory_give_the_same(tmp_path, stacks):
    stacks["kernel"].tofile(tmp_path / "kernel.bin")
    mapped = np.memmap(tmp_path / "kernel.bin", "f4", "r", shape=stacks["kernel"].shape)
    one, other = (g.gram_matrix({"kernel": k}).total for k in (mapped, stacks["kernel"]))
    np.testing.assert_array_equal(one, other)


def test_norms_and_cosines(stacks, server):
    updates = flat(stacks) - model(server)
    total = g.gram_matrix(stacks, server).total
    lengths = np.linalg.norm(updates, axis=1)
    np.testing.assert_allclose(g.norms(total), lengths, rtol=1e-7)
    unit = updates / lengths[:, None]
    np.testing.assert_allclose(g.cosines(total), unit @ unit.T, atol=1e-6)


def test_an_update_that_is_zero_has_no_cosine():
    cosines = g.cosines(np.array([[0.0, 0], [0, 4]]))
    np.testing.assert_array_equal(cosines, [[np.nan, np.nan], [np.nan, 1]])


def test_squared_distances(stacks, server):
    vectors = flat(stacks)
    expected = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    found = g.squared_distances(g.gram_matrix(stacks, server).total)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(g.pairwise_distances(stacks).squared, expected, rtol=1e-13)


def test_pairwise_distances_do_not_drown_in_a_common_offset():
    offset = {name: s + 1e7 for name, s in random_stacks(6, "float64", shapes=SHAPES).items()}
    vectors = flat(offset)
    expected = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(g.pairwise_distances(offset).squared, expected, rtol=1e-12)


def test_pairwise_distances_of_some_rows(stacks):
    rows = np.array([1, 4, 6])
    vectors = flat(stacks)[rows]
    expected = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(g.pairwise_distances(stacks, rows).squared, expected, rtol=1e-13)


def test_distances_to_a_weighted_mean(stacks, server):
    vectors = flat(stacks)
    mean = np.average(vectors, axis=0, weights=WEIGHTS)
    found = g.distances_to_mean(g.gram_matrix(stacks, server).total, WEIGHTS)
    np.testing.assert_allclose(found, np.linalg.norm(vectors - mean, axis=1), rtol=1e-6)


def test_influence_is_the_move_of_the_mean_without_the_client(stacks, server):
    vectors = flat(stacks)
    mean = np.average(vectors, axis=0, weights=WEIGHTS)
    expected = []
    for row in range(8):
        left = np.delete(np.arange(8), row)
        without = np.average(vectors[left], axis=0, weights=WEIGHTS[left])
        expected.append(np.linalg.norm(without - mean))
    found = g.leave_one_out_influence(g.gram_matrix(stacks, server).total, WEIGHTS)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
    assert found[1] == 0


def test_the_whole_cohort_cannot_be_left_out():
    found = g.leave_one_out_influence(np.eye(2), np.array([3.0, 0]))
    np.testing.assert_array_equal(found, [np.nan, 0])


def test_krum_scores_by_hand():
    points = np.array([0.0, 1, 3, 10])
    squared = (points[:, None] - points[None]) ** 2
    np.testing.assert_array_equal(g.krum_scores(squared, 0), [10, 5, 13, 49 + 81])
    np.testing.assert_array_equal(g.krum_scores(squared, 2), [1, 1, 4, 49])


@pytest.mark.parametrize("weights", [[0, 0], [1, -1], [1, np.nan]])
def test_weights_that_make_no_mean(weights):
    with pytest.raises(InvalidArgumentError, match="weights: expected finite numbers"):
        g.distances_to_mean(np.eye(2), np.array(weights, dtype="f8"))


def test_stacks_of_different_cohorts():
    with pytest.raises(CohortError, match=r"one number of clients, found \[2, 3\]"):
        g.gram_matrix({"a": np.zeros((2, 1)), "b": np.zeros((3, 1))})


def test_it_can_be_cancelled(stacks):
    def cancel(progress: Progress) -> None:
        raise JobCancelledError(progress.message)

    with pytest.raises(JobCancelledError, match="comparing the clients"):
        g.gram_matrix(stacks, progress=cancel)
