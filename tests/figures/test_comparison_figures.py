"""How far aggregators' models lie apart, and whom the mean follows."""

from __future__ import annotations

import numpy as np

from fedviz.figures.comparison import distance_cells, influence_bars
from fedviz.figures.theme import DARK, LIGHT


def test_cells_hold_the_distances_and_their_numbers() -> None:
    distances = [[0.0, 0.25], [0.25, np.nan]]
    figure = distance_cells(distances, ["mean", "krum"], ["mean", "krum"], LIGHT, chosen="krum")
    cells, numbers = figure.data
    np.testing.assert_array_equal(cells.z, np.array(distances, np.float32))
    assert (cells.zmin, cells.zmax) == (0, 0.25)
    assert list(numbers.text) == ["0", "0.250", "0.250"]
    assert list(numbers.textfont.color) == ["#1B2126", "#FFFFFF", "#FFFFFF"]
    assert figure.layout.yaxis.ticktext == ("mean", "<b>krum</b>")


def test_headings_break_where_names_have_joints() -> None:
    names = ["encoder/dense_1/kernel", "decoder/dense/bias", "<b>"]
    figure = distance_cells(np.ones((1, 3)), ["mean"], names, DARK)
    assert figure.layout.xaxis.ticktext == (
        "encoder/<br>dense_1/kernel",
        "decoder/<br>dense/bias",
        "&lt;b&gt;",
    )
    many = distance_cells(np.zeros((1, 6)), ["a"], [f"trimmed-mean{i}" for i in range(6)], DARK)
    assert many.layout.xaxis.ticktext[0] == "trimmed-<br>mean0"


def test_the_most_influential_client_is_first() -> None:
    figure = influence_bars(["c00", "c01", "c02", "c03"], [0.1, np.nan, 0.4, 0.2], LIGHT, most=3)
    assert list(figure.data[0].customdata) == ["c01", "c02", "c03"]
    assert list(figure.data[0].x) == [0.0, 0.4, 0.2]
    texts = [each.text for each in figure.layout.annotations]
    assert texts == ["not finite", "0.400", "0.200", "1 other, each less"]
