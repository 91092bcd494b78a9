"""Labels by client."""

from __future__ import annotations

import numpy as np

from fedviz.figures.partition import label_partition_figure
from fedviz.figures.theme import DARK, LIGHT, colour_at, contrast_ratio


def test_cells_numbers_and_totals() -> None:
    counts = np.array([[3, 0], [10, 5]])
    figure = label_partition_figure(counts, ["c00", "c01"], ["cat", "dog"], LIGHT)
    cells, numbers, totals = figure.data
    np.testing.assert_array_equal(cells.z, [[3, np.nan], [10, 5]])
    assert (cells.zmin, cells.zmax) == (0, 10)
    assert cells.colorscale[0][1] == LIGHT.sequential[0]
    assert list(zip(numbers.y, numbers.x, numbers.text, strict=True)) == [
        (0, 0, "3"),
        (1, 0, "10"),
        (1, 1, "5"),
    ]
    assert list(totals.x) == [3, 15]
    assert [a.text for a in figure.layout.annotations] == ["examples", "3", "15"]
    assert figure.layout.xaxis.ticktext == ("cat", "dog")


def test_numbers_are_legible_on_every_shade() -> None:
    counts = np.arange(1, 17).reshape(4, 4)
    for theme in (LIGHT, DARK):
        numbers = label_partition_figure(counts, list("abcd"), list("wxyz"), theme).data[1]
        for value, colour in zip(counts.ravel(), numbers.textfont.color, strict=True):
            assert contrast_ratio(colour, colour_at(theme.sequential, value / 16)) >= 4.5


def test_a_hundred_clients_fit() -> None:
    counts = np.ones((100, 10), int)
    figure = label_partition_figure(
        counts, [f"c{i:03d}" for i in range(100)], [str(i) for i in range(10)], LIGHT
    )
    assert [trace.type for trace in figure.data] == ["heatmap", "bar"]
    assert figure.layout.yaxis.ticktext[:2] == ("c000", "c002")
    assert figure.layout.height < 1200
    assert figure.data[0].text[99][3] == "<b>c099</b>, label 3"


def test_sixty_two_classes_are_named_where_names_are_short() -> None:
    counts = np.ones((10, 62), int)
    ids = [f"c{i:02d}" for i in range(10)]
    terse = label_partition_figure(counts, ids, [chr(65 + i) for i in range(62)], LIGHT)
    assert len(terse.layout.xaxis.ticktext) == 62
    wordy = label_partition_figure(counts, ids, [f"class {i}" for i in range(62)], LIGHT)
    assert wordy.layout.xaxis.tickvals == tuple(range(0, 62, 2))


def test_a_cohort_without_examples() -> None:
    figure = label_partition_figure(np.zeros((2, 2), int), ["a", "b"], ["x", "y"], DARK)
    assert np.isnan(figure.data[0].z).all()
    assert figure.data[0].zmax == 1
