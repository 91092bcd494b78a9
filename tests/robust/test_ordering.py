"""Order statistics by comparisons and by partition, against NumPy's sort."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from fedviz.robust.ordering import ordered

COLUMNS = (3, 600)  # by partition, by comparisons


@pytest.mark.parametrize("num_columns", COLUMNS)
@pytest.mark.parametrize("num_clients", [*range(1, 19), 100])
def test_every_rank_alone_and_all_together(num_clients, num_columns):
    values = np.random.default_rng(0).standard_normal((num_clients, num_columns))
    expected = np.sort(values, axis=0)
    np.testing.assert_array_equal(ordered(values, range(num_clients)), expected)
    for rank in range(0, num_clients, max(1, num_clients // 5)):
        np.testing.assert_array_equal(ordered(values, (rank,))[rank], expected[rank])


def test_very_many_clients():
    values = np.random.default_rng(0).standard_normal((600, 600))
    np.testing.assert_array_equal(ordered(values, (300,))[300], np.sort(values, axis=0)[300])


@pytest.mark.parametrize("num_clients", [2, 5, 8, 9])
def test_every_pattern_of_zeros_and_ones(num_clients):
    # A sorting network that sorts these sorts everything.
    values = np.array(list(itertools.product([0.0, 1.0], repeat=num_clients))).T
    wide = np.tile(values, (1, 600 // values.shape[1] + 1))
    np.testing.assert_array_equal(ordered(wide, range(num_clients)), np.sort(wide, axis=0))


@pytest.mark.parametrize("num_columns", COLUMNS)
def test_nan_is_infinity(num_columns):
    column = np.array([[np.nan], [1], [-np.inf], [np.nan], [2]])
    found = ordered(np.tile(column, (1, num_columns)), range(5))
    for row, value in zip(found, [-np.inf, 1, 2, np.inf, np.inf], strict=True):
        np.testing.assert_array_equal(row, np.full(num_columns, value))


@pytest.mark.parametrize("num_columns", COLUMNS)
def test_the_clients_stay_as_they_are(num_columns):
    values = np.random.default_rng(0).standard_normal((9, num_columns))
    before = values.copy()
    values.setflags(write=False)
    ordered(values, (4,))
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_are_held_exactly(dtype):
    values = np.random.default_rng(0).standard_normal((7, 600)).astype(dtype)
    found = ordered(values, (3,))[3]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.sort(values.astype("f4"), axis=0)[3])
