"""The values around one cell of a tensor."""

from __future__ import annotations

import numpy as np
import pytest

from fedviz.analysis.nonfinite_window import values_around
from fedviz.errors import InvalidArgumentError


def test_the_cell_is_in_the_middle() -> None:
    matrix = np.arange(200, dtype="f4").reshape(10, 20)
    matrix[6, 12] = np.nan
    window = values_around(matrix, (6, 12))
    assert (window.leading, window.rows) == ((), (4, 5, 6, 7, 8))
    assert window.columns == (9, 10, 11, 12, 13, 14, 15)
    assert window.values[0].tolist() == [89, 90, 91, 92, 93, 94, 95]
    assert np.argwhere(~window.is_finite).tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("index", "rows", "columns"),
    [
        ((0, 0), (0, 1, 2, 3, 4), (0, 1, 2, 3, 4, 5, 6)),
        ((9, 19), (5, 6, 7, 8, 9), (13, 14, 15, 16, 17, 18, 19)),
        ((1, 3), (0, 1, 2, 3, 4), (0, 1, 2, 3, 4, 5, 6)),
    ],
)
def test_it_stays_inside_the_tensor(index, rows, columns) -> None:
    matrix = np.arange(200).reshape(10, 20)
    window = values_around(matrix, index)
    assert (window.rows, window.columns) == (rows, columns)
    np.testing.assert_array_equal(window.values, matrix[np.ix_(rows, columns)])


def test_a_kernel_is_shown_in_the_slice_of_the_cell() -> None:
    kernel = np.arange(3 * 3 * 2 * 4, dtype="f4").reshape(3, 3, 2, 4)
    window = values_around(kernel, (1, 2, 0, 3))
    assert (window.leading, window.rows, window.columns) == ((1, 2), (0, 1), (0, 1, 2, 3))
    np.testing.assert_array_equal(window.values, kernel[1, 2])


def test_a_vector_is_one_row_and_a_scalar_one_value() -> None:
    vector = values_around(np.arange(9.0), (8,))
    assert (vector.rows, vector.columns) == ((), (2, 3, 4, 5, 6, 7, 8))
    assert vector.values.tolist() == [[2, 3, 4, 5, 6, 7, 8]]
    scalar = values_around(np.array(np.inf, dtype="f2"), ())
    assert (scalar.rows, scalar.columns, scalar.values.tolist()) == ((), (), [[np.inf]])


@pytest.mark.parametrize("index", [(), (1,), (10, 0), (0, -1), (0, 0, 0)])
def test_there_must_be_such_a_cell(index) -> None:
    with pytest.raises(InvalidArgumentError, match=r"shape \[10, 20\]"):
        values_around(np.zeros((10, 20)), index)
