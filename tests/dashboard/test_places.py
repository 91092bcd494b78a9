"""Cells as people write them."""

from __future__ import annotations

import pytest

from fedviz.analysis.heatmap import layout_for
from fedviz.dashboard.places import parse_window, window_text
from fedviz.errors import InvalidArgumentError

MATRIX, VECTOR = layout_for((64, 32)), layout_for((100,))


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("12, 30", (12, 13, 30, 31)),
        ("10:20, 5:9", (10, 20, 5, 9)),
        ("10 : 20 ,5", (10, 20, 5, 6)),
        ("10,20,5,9", (10, 20, 5, 9)),
        (":, 3", (0, 64, 3, 4)),
        ("60:, :2", (60, 64, 0, 2)),
        ("63,31", (63, 64, 31, 32)),
    ],
)
def test_cells_of_a_matrix(text, window):
    assert parse_window(text, MATRIX) == window
    assert parse_window(window_text(window), MATRIX) == window


def test_a_vector_needs_no_row():
    assert parse_window("30", VECTOR) == (0, 1, 30, 31)
    assert parse_window("30:33", VECTOR) == (0, 1, 30, 33)
    assert parse_window("0, 30", VECTOR) == (0, 1, 30, 31)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("12", "12 is no cell: expected row, column, such as 12, 30; or ranges"),
        ("1,2,3", "1,2,3 is no cell"),
        ("1,2,3,x", "1,2,3,x is no cell"),
        ("twelve, 3", "twelve is no row: expected a number, or a range such as 10:20"),
        ("3, -1", "-1 is no column"),
        ("3, 1:2:3", "1:2:3 is no column"),
        ("3, ²", "² is no column"),
        ("64, 0", "There is no row 64 among 64: expected 0 to 63"),
        ("0, 9:5", "There is no column 9:5 among 32: expected 0 to 31"),
        ("0, 5:5", "There is no column 5:5 among 32"),
        ("1" * 20 + ", 0", "1" * 20 + " is no row"),
    ],
)
def test_what_is_wrong_is_said(text, message):
    with pytest.raises(InvalidArgumentError) as error:
        parse_window(text, MATRIX)
    assert str(error.value).startswith(message)
