"""Layouts of tensors, reduction of cells, and the shared scale."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedviz.analysis.heatmap import Form, as_matrix, layout_for
from fedviz.analysis.reduction import reduce_cells
from fedviz.analysis.scales import (
    TINY_LIMIT,
    clipped_share,
    histogram,
    magnification,
    shared_limit,
)
from fedviz.errors import InvalidArgumentError

matrices = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
    elements=st.floats(-1e3, 1e3, width=32),
)


@pytest.mark.parametrize(
    ("shape", "form", "drawn"),
    [
        ((), Form.SCALAR, (1, 1)),
        ((7,), Form.STRIP, (1, 7)),
        ((128,), Form.STRIP, (1, 128)),
        ((300,), Form.STRIP, (3, 128)),
        ((64, 32), Form.MATRIX, (64, 32)),
        ((1, 5, 7), Form.MATRIX, (5, 7)),
        ((1, 1, 16, 24), Form.MATRIX, (16, 24)),
        # 4 × 6 tiles of 3 × 3 with a gap of one between them.
        ((3, 3, 4, 6), Form.TILES, (4 * 4 - 1, 6 * 4 - 1)),
        # One line of 32 tiles would be 32:1; it becomes four lines of eight.
        ((3, 3, 1, 32), Form.TILES, (4 * 4 - 1, 8 * 4 - 1)),
        ((2, 3, 3, 4, 6), Form.TILES, (4 * 7 - 1, 6 * 4 - 1)),
    ],
)
def test_layout(shape: tuple[int, ...], form: Form, drawn: tuple[int, int]) -> None:
    layout = layout_for(shape)
    assert (layout.form, layout.shape) == (form, drawn)


@settings(deadline=None)
@given(hnp.array_shapes(min_dims=0, max_dims=5, max_side=6))
def test_every_value_is_drawn_once_where_the_layout_says(shape: tuple[int, ...]) -> None:
    tensor = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    layout = layout_for(shape)
    matrix = as_matrix(tensor, layout)
    assert matrix.shape == layout.shape
    assert sorted(matrix[~np.isnan(matrix)]) == list(range(tensor.size))
    for index in np.ndindex(shape):
        cell = layout.cell_of(index)
        assert matrix[cell] == tensor[index]
        assert layout.index_at(*cell) == index


def test_gaps_are_told_from_nan() -> None:
    kernel = np.zeros((2, 2, 2, 2), np.float32)
    kernel[0, 1, 1, 0] = np.nan
    layout = layout_for(kernel.shape)
    matrix = as_matrix(kernel, layout)
    assert layout.gap is not None
    assert layout.gap.sum() == 9
    assert np.isnan(matrix).sum() == 10
    # Filter 0, input channel 1: the lower left tile.
    assert np.argwhere(np.isnan(matrix) & ~layout.gap).tolist() == [[3, 1]]
    reduced = reduce_cells(matrix, gap=layout.gap)
    assert reduced.nan.sum() == 1
    assert reduced.gap.sum() == 9
    assert layout.index_at(2, 0) is None


def test_kernel_tiles_are_numbered_by_channel_and_filter() -> None:
    layout = layout_for((3, 3, 2, 4), "conv/kernel")
    assert layout.axis_titles == ("input channel", "filter")
    assert layout.column_ticks is not None
    assert layout.column_ticks.positions == (1, 5, 9, 13)
    assert layout.column_ticks.labels == ("0", "1", "2", "3")
    assert layout.row_ticks is not None
    assert layout.row_ticks.positions == (1, 5)


def test_a_layer_that_reads_images_is_one_image_for_each_unit() -> None:
    kernel = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    layout = layout_for(kernel.shape, "dense/kernel", image=(8, 8))
    matrix = as_matrix(kernel, layout)
    np.testing.assert_array_equal(matrix[:, :8], kernel[:, 0].reshape(8, 8))
    np.testing.assert_array_equal(matrix[:, 9:], kernel[:, 1].reshape(8, 8))
    assert layout.index_at(1, 10) == (9, 1)


def test_an_image_must_fit_the_inputs() -> None:
    with pytest.raises(InvalidArgumentError, match=r"7 × 7 pixels .* \[64, 2\]"):
        layout_for((64, 2), image=(7, 7))


def test_cell_names() -> None:
    names = layout_for((2, 2, 1, 2)).cell_names()
    assert names is not None
    assert names.tolist() == [
        ["[0, 0, 0, 0]", "[0, 1, 0, 0]", "", "[0, 0, 0, 1]", "[0, 1, 0, 1]"],
        ["[1, 0, 0, 0]", "[1, 1, 0, 0]", "", "[1, 0, 0, 1]", "[1, 1, 0, 1]"],
    ]
    assert layout_for((4, 4)).cell_names() is None


def test_cells_outside_are_refused() -> None:
    layout = layout_for((4, 5))
    with pytest.raises(InvalidArgumentError, match=r"cell \[4, 0\] is outside"):
        layout.index_at(4, 0)
    with pytest.raises(InvalidArgumentError, match=r"index \[0\] is outside"):
        layout.cell_of((0,))


def test_dtypes() -> None:
    layout = layout_for((2, 2))
    for dtype in (ml_dtypes.bfloat16, np.float16, np.int64, bool):
        assert as_matrix(np.ones((2, 2), dtype), layout).dtype == np.float32
    with pytest.raises(InvalidArgumentError, match=r"expected .* \[2, 2\], found \[4\]"):
        as_matrix(np.ones(4), layout)


def test_tensors_without_values() -> None:
    for shape in ((0,), (0, 5), (3, 3, 0, 8), (2, 0, 3)):
        layout = layout_for(shape)
        matrix = as_matrix(np.empty(shape, np.float32), layout)
        reduced = reduce_cells(matrix, 2, gap=layout.gap)
        assert np.isnan(reduced.values).all()
        assert not reduced.nan.any()
        assert histogram(matrix, 1.0, gap=layout.gap).total == 0


def test_reduced_by_hand() -> None:
    matrix = np.array([[1, 2, 3], [4, -9, np.inf], [7, np.nan, 5]], np.float32)
    mean = reduce_cells(matrix, 2, "mean")
    assert mean.steps == (2, 2)
    assert mean.extent == (3, 3)
    # The last row and column are blocks of one, two and two cells: nothing is padded.
    np.testing.assert_array_equal(mean.values, [[-0.5, 3], [7, 5]])
    np.testing.assert_array_equal(mean.positive_infinite, [[False, True], [False, False]])
    np.testing.assert_array_equal(mean.nan, [[False, False], [True, False]])
    extreme = reduce_cells(matrix, 2, "signed-extreme")
    np.testing.assert_array_equal(extreme.values, [[-9, 3], [7, 5]])


@settings(deadline=None)
@given(matrices, st.integers(1, 12))
def test_the_signed_extreme_survives(matrix: np.ndarray, limit: int) -> None:
    reduced = reduce_cells(matrix, limit, "signed-extreme")
    assert max(reduced.values.shape) <= limit
    assert np.abs(reduced.values).max() == np.abs(matrix).max()
    assert np.isin(reduced.values, matrix).all()


@settings(deadline=None)
@given(matrices, st.integers(1, 12))
def test_weighted_by_their_cells_the_means_have_the_matrix_mean(
    matrix: np.ndarray, limit: int
) -> None:
    reduced = reduce_cells(matrix, limit, "mean")
    counts = np.ones_like(matrix, dtype=np.int64)
    for axis, step in enumerate(reduced.steps):
        counts = np.add.reduceat(counts, np.arange(0, counts.shape[axis], step), axis=axis)
    assert counts.sum() == matrix.size
    weighted = (reduced.values.astype(np.float64) * counts).sum() / matrix.size
    assert weighted == pytest.approx(matrix.mean(dtype=np.float64), rel=1e-5, abs=1e-3)


def test_a_long_axis_does_not_reduce_a_short_one() -> None:
    reduced = reduce_cells(np.ones((10, 5000), np.float32), 512)
    assert reduced.steps == (1, 10)
    assert reduced.values.shape == (10, 500)


def test_blocks_without_finite_values_are_nan() -> None:
    matrix = np.full((4, 4), np.nan)
    assert np.isnan(reduce_cells(matrix, 2, "mean").values).all()
    assert np.isnan(reduce_cells(matrix, 2, "signed-extreme").values).all()


def test_values_beyond_float32_stay_finite() -> None:
    reduced = reduce_cells(np.array([[1e300, -1e300]]))
    assert np.isfinite(reduced.values).all()
    assert not reduced.nonfinite.any()


def test_reduction_refuses_what_makes_no_sense() -> None:
    with pytest.raises(InvalidArgumentError, match="expected a matrix"):
        reduce_cells(np.ones(3))
    with pytest.raises(InvalidArgumentError, match="limit is 0"):
        reduce_cells(np.ones((2, 2)), 0)
    with pytest.raises(InvalidArgumentError, match="found median"):
        reduce_cells(np.ones((2, 2)), how="median")  # type: ignore[arg-type]


def test_shared_limit() -> None:
    values = np.arange(-100, 101, dtype=np.float32)
    assert shared_limit([values], 100) == 100
    assert shared_limit([values, values[:50] * 3], 100) == 300
    assert shared_limit([np.array([1, -2, np.nan, np.inf])], 100) == 2
    # 99.5% of the values are zero, one is not.
    sparse = np.zeros(1000, np.float32)
    sparse[3] = -0.25
    assert shared_limit([sparse]) == 0.25
    assert shared_limit([np.zeros(4)]) == TINY_LIMIT
    assert shared_limit([np.full(4, np.nan)]) == TINY_LIMIT
    assert shared_limit([]) == TINY_LIMIT
    with pytest.raises(InvalidArgumentError, match="found 0"):
        shared_limit([values], 0)


@settings(deadline=None)
@given(matrices)
def test_the_limit_clips_no_more_than_its_percentile(matrix: np.ndarray) -> None:
    limit = shared_limit([matrix], 90)
    assert limit > 0
    assert clipped_share(matrix, limit) <= 0.1 + 1 / matrix.size
    assert clipped_share(matrix, shared_limit([matrix], 100)) == 0


def test_clipped_share() -> None:
    assert clipped_share(np.array([1.0, -3.0, 2.0, np.nan, np.inf]), 2.0) == pytest.approx(1 / 3)
    assert clipped_share(np.array([np.nan]), 1.0) == 0


def test_histogram_by_hand() -> None:
    counted = histogram(np.array([-5, -1, -0.1, 0, 0.1, 1, 7, 8, np.nan, -np.inf]), 1.0, bins=4)
    assert counted.counts.tolist() == [2, 1, 2, 3]
    assert counted.edges.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert (counted.below, counted.above, counted.nan) == (1, 2, 1)
    assert (counted.positive_infinite, counted.negative_infinite, counted.nonfinite) == (0, 1, 2)
    assert counted.total == 10
    assert counted.clipped == pytest.approx(3 / 8)


def test_histogram_leaves_gaps_out() -> None:
    values = np.array([[0.5, np.nan], [np.nan, -0.5]])
    gap = np.array([[False, True], [False, False]])
    counted = histogram(values, 1.0, gap=gap)
    assert (counted.total, counted.nan) == (3, 1)
    with pytest.raises(InvalidArgumentError, match="limit above 0"):
        histogram(values, 0.0)


def test_magnification() -> None:
    assert magnification(0.47, [np.full(10, 0.04)]) == 8
    assert magnification(1.0, [np.full(10, 0.25)]) == 4
    assert magnification(1.0, [np.full(10, 2.0)]) == 1
    assert magnification(1.0, [np.zeros(10)]) == 1


@settings(deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_magnified_differences_fill_half_the_scale_and_no_more(
    limit: float, difference: float
) -> None:
    factor = magnification(limit, [np.array([difference])])
    assert factor == 1 or limit / 2 < factor * difference <= limit * (1 + 1e-9)
