"""Median and trimmed mean against NumPy, SciPy and hand-computed numbers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedviz.errors import CohortError, InvalidArgumentError, JobCancelledError
from fedviz.progress import Progress
from fedviz.robust.order_statistics import median, trimmed_count, trimmed_mean
from tests.robust.cohorts import column, random_stacks

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("num_clients", [1, 2, 7, 10])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_median_is_numpys_to_the_bit(num_clients, dtype):
    stacks = random_stacks(num_clients, dtype)
    result = median(stacks, np.ones(num_clients))
    for name, stack in stacks.items():
        assert result.tensors[name].dtype == stack.dtype
        np.testing.assert_array_equal(result.tensors[name], np.median(stack, axis=0))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_are_rounded_once(dtype):
    stacks = {"x": random_stacks(6)["dense/kernel"].astype(dtype)}
    expected = np.median(stacks["x"].astype("f8"), axis=0).astype(dtype)
    result = median(stacks, np.ones(6)).tensors["x"]
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("trim", [0, 0.1, 0.25, 0.49])
def test_a_trimmed_share_is_scipys(trim):
    stacks = random_stacks(21, "float64")
    result = trimmed_mean(stacks, np.ones(21), trim=trim)
    for name, stack in stacks.items():
        expected = scipy.stats.trim_mean(stack, trim, axis=0)
        np.testing.assert_allclose(result.tensors[name], expected, rtol=1e-13, atol=1e-15)


def test_a_trimmed_number_of_clients():
    result = trimmed_mean(column(1, 100, 2, 6, -50), np.ones(5), trim=1)
    assert result.tensors["x"] == 3
    assert result.measurements["trimmed_at_each_end"] == 1


@settings(max_examples=50, deadline=None)
@given(
    arrays("f8", st.tuples(st.integers(3, 12), st.integers(1, 5)), elements=st.floats(-1e9, 1e9)),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_clients_does_not_matter(values, random):
    shuffled = list(range(len(values)))
    random.shuffle(shuffled)
    for rule in (median, trimmed_mean):
        one = rule({"x": values}, np.ones(len(values))).tensors["x"]
        other = rule({"x": values[shuffled]}, np.ones(len(values))).tensors["x"]
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-6)
        assert (one >= values.min(axis=0) - 1e-6).all()
        assert (one <= values.max(axis=0) + 1e-6).all()


def test_clients_of_weight_0_take_no_part():
    weights = np.array([3.0, 0, 1, 0, 9])
    result = median(column(1, NAN, 2, 99, 3), weights)
    assert result.tensors["x"] == 2
    assert result.measurements == {
        "clients": 3,
        "nonfinite_clients": [],
        "nonfinite_client_values": 0,
        "nonfinite_result": 0,
    }


def test_nan_counts_as_infinity():
    result = median(column(1, NAN, 2, 3, NAN), np.ones(5))
    assert result.tensors["x"] == 3
    assert result.measurements["nonfinite_clients"] == [1, 4]
    assert result.measurements["nonfinite_client_values"] == 2
    assert result.measurements["nonfinite_result"] == 0


def test_minus_infinity_is_below_every_number():
    assert median(column(-INF, 1, 2), np.ones(3)).tensors["x"] == 1


def test_a_trimmed_mean_withstands_as_many_nans_as_it_trims():
    clients = column(1, 2, 3, NAN, 4)
    assert trimmed_mean(clients, np.ones(5), trim=1).tensors["x"] == 3
    spoilt = trimmed_mean(column(1, 2, NAN, NAN, 4), np.ones(5), trim=1)
    assert spoilt.tensors["x"] == INF
    assert spoilt.measurements["nonfinite_result"] == 1


def test_half_nan_is_too_many_and_is_said():
    result = median(column(1, 2, NAN, NAN), np.ones(4))
    assert result.tensors["x"] == INF
    assert result.measurements["nonfinite_result"] == 1


def test_a_mapped_file_and_memory_give_the_same(tmp_path):
    values = random_stacks(9, shapes={"x": (5000,)})["x"]
    values.tofile(tmp_path / "x.bin")
    mapped = np.memmap(tmp_path / "x.bin", dtype="f4", mode="r", shape=values.shape)
    for rule in (median, trimmed_mean):
        one, other = (rule({"x": v}, np.ones(9)).tensors["x"] for v in (mapped, values))
        np.testing.assert_array_equal(one, other)


def test_too_few_clients_are_an_error_that_says_how_many():
    with pytest.raises(CohortError, match=r"n ≥ 2k \+ 1: at least 5 clients, found 4"):
        trimmed_mean(column(1, 2, 3, 4), np.ones(4), trim=2)


@pytest.mark.parametrize("trim", [-0.1, 0.5, 0.7, 1.5, NAN, INF, "many", None, True])
def test_trim_outside_its_range(trim):
    with pytest.raises(InvalidArgumentError, match=r"trim: expected a share .* found"):
        trimmed_count(trim, 10)


def test_the_share_is_rounded_down_as_scipy_does():
    assert [trimmed_count(t, 10) for t in (0, 0.1, 0.19, 0.2, 1, 3, "0.1")] == [0, 1, 1, 2, 1, 3, 1]


def test_it_can_be_cancelled_before_anything_is_read():
    def cancel(progress: Progress) -> None:
        raise JobCancelledError(progress.message)

    with pytest.raises(JobCancelledError, match="computing the median"):
        median(column(1, 2, 3), np.ones(3), progress=cancel)


def test_progress_ends_with_everything_done():
    seen: list[Progress] = []
    median({"x": np.zeros((3, 3_000_000))}, np.ones(3), progress=seen.append)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    # At the start, after 32 and 64 of 69 MB, and at the end.
    assert len(seen) == 4
    assert seen[-1].fraction == 1
