"""Heatmaps: one scale, marks for what has no colour, real indices."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from fedviz.analysis.heatmap import MatrixLayout, as_matrix, layout_for
from fedviz.analysis.reduction import reduce_cells
from fedviz.analysis.scales import histogram
from fedviz.figures.colour_range import ColourRange, spread_range, weights_range
from fedviz.figures.contributions import contribution_bars
from fedviz.figures.heatmaps import HeatmapPanel, heatmap_grid, panels_per_row
from fedviz.figures.minimap import minimap
from fedviz.figures.numbers import figure_csv
from fedviz.figures.special_cells import LEGEND_HEIGHT
from fedviz.figures.theme import DARK, LIGHT, TRANSPARENT, Theme, blend

LIMIT = 0.5


def panel(
    values: np.ndarray, layout: MatrixLayout, title: str = "server", magnification: int = 1
) -> HeatmapPanel:
    matrix = as_matrix(values, layout)
    return HeatmapPanel(
        title,
        LIGHT.server,
        reduce_cells(matrix, gap=layout.gap),
        histogram(matrix, LIMIT / magnification, gap=layout.gap),
        "rms 0.1",
        magnification,
    )


def grid(shape: tuple[int, ...], count: int = 6, **options: object) -> go.Figure:
    layout = layout_for(shape, "dense/kernel")
    values = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
    panels = [panel(values, layout, f"panel {k}") for k in range(count)]
    return drawn(panels, LIMIT, layout, LIGHT, **options)


def drawn(*args: Any, **options: Any) -> go.Figure:
    """The grid, after plotly has found that it knows all of its options: drafts are not checked."""
    return go.Figure(heatmap_grid(*args, **options))


def heatmaps(figure: go.Figure) -> list[go.Heatmap]:
    return [trace for trace in figure.data if trace.type == "heatmap"]


def titles(figure: go.Figure) -> list[str]:
    return [a.text for a in figure.layout.annotations]


def test_all_panels_share_one_scale() -> None:
    figure = grid((64, 32))
    assert len(heatmaps(figure)) == 6
    assert {trace.coloraxis for trace in heatmaps(figure)} == {"coloraxis"}
    axis = figure.layout.coloraxis
    assert axis.cmin == -axis.cmax
    assert (0.5, LIGHT.page) in axis.colorscale
    assert axis.colorbar.ticktext == (" −0.5", " −0.25", " 0", " 0.25", " 0.5")


def test_magnified_differences_keep_their_values_on_a_narrower_scale() -> None:
    layout = layout_for((4, 3))
    values = np.full((4, 3), 0.01, np.float32)
    figure = drawn(
        [panel(values, layout), panel(values, layout, "c00 − aggregate", 8)], LIMIT, layout, LIGHT
    )
    assert heatmaps(figure)[1].coloraxis == "coloraxis8"
    assert figure.layout.coloraxis8.cmax == figure.layout.coloraxis.cmax / 8
    assert figure.layout.coloraxis8.showscale is False
    np.testing.assert_array_equal(heatmaps(figure)[1].z, values)
    assert any(text.endswith("<b>c00 − aggregate × 8</b>") for text in titles(figure))


@pytest.mark.parametrize(
    ("shape", "per_row"),
    [((64, 32), 6), ((10, 10), 6), ((32, 128), 3), ((512, 512), 3), ((2000, 10), 6)],
)
def test_panels_stand_by_their_aspect(shape: tuple[int, int], per_row: int) -> None:
    assert panels_per_row(shape, 6) == per_row
    assert panels_per_row(shape, 2) == 2
    figure = grid(shape)
    firsts = {round(figure.layout[f"xaxis{k}"].domain[0], 6) for k in range(1, 7)}
    assert len(firsts) == per_row


def test_panels_do_not_overlap_and_the_height_follows_the_aspect() -> None:
    figure = grid((64, 32))
    right = [figure.layout[f"xaxis{k}"].domain for k in range(1, 7)]
    assert all(a[1] < b[0] for a, b in pairwise(right))
    heat, bars = figure.layout.yaxis.domain, figure.layout.yaxis7.domain
    assert bars[1] < heat[0]
    pixels = (heat[1] - heat[0]) * figure.layout.height
    width = (right[0][1] - right[0][0]) * (1200 - 112)
    assert pixels == pytest.approx(2 * width, rel=0.01)
    assert 400 < figure.layout.height < 640


def test_axes_are_numbered_in_the_tensor_s_indices() -> None:
    figure = grid((64, 32))
    assert tuple(figure.layout.xaxis.range) == (-0.5, 31.5)
    assert tuple(figure.layout.yaxis.range) == (63.5, -0.5)
    assert figure.layout.xaxis.tickvals == (0, 8, 16, 24)
    assert figure.layout.yaxis.title.text == "input"
    assert figure.layout.xaxis.title.text == "unit"
    assert figure.layout.yaxis2.showticklabels is False


def test_cells_that_are_not_finite_are_marked_apart_and_counted() -> None:
    layout = layout_for((6, 5))
    values = np.zeros((6, 5), np.float32)
    values[1:3, 2:5] = np.nan
    values[4, 0], values[0, 1] = -np.inf, np.inf
    values[5, 4] = 0.9
    figure = drawn([panel(values, layout)], LIMIT, layout, LIGHT)
    (marks,) = (trace for trace in figure.data if trace.name == "not finite")
    assert marks.hovertext == ("+∞", "−∞", "NaN")
    # One cell each, and one rectangle of 2 × 3 cells.
    assert marks.base.tolist() == [0.5, -0.5, 1.5]
    assert marks.x.tolist() == [1, 1, 3]
    assert marks.y.tolist() == [0, 4, 1.5]
    assert marks.width.tolist() == [1, 1, 2]
    pattern = marks.marker.pattern
    assert pattern.shape == ("+", "-", "x")
    assert pattern.bgcolor == (LIGHT.ink, LIGHT.sub, LIGHT.faint)
    assert np.isnan(heatmaps(figure)[0].z).sum() == 8
    note = next(text for text in titles(figure) if "NaN" in text)
    assert "6 NaN, 1 +∞, 1 −∞" in note
    assert "4.5% clipped" in note
    assert LIGHT.failure in note


def test_many_scattered_cells_are_marked_flat_in_a_byte_each() -> None:
    layout = layout_for((60, 60))
    values = np.zeros((60, 60), np.float32)
    values[::2, ::2] = np.nan
    values[1, 1], values[1, 3], values[1, 5] = np.inf, -np.inf, -np.inf
    figure = drawn([panel(values, layout)], LIMIT, layout, DARK)
    flat = next(t for t in figure.data if t.name == "not finite")
    assert flat.z.dtype == np.uint8
    assert np.bincount(flat.z.ravel()).tolist() == [3600 - 903, 1, 2, 900]
    colours = [colour for _, colour in flat.colorscale]
    assert colours == [TRANSPARENT, DARK.ink, DARK.sub, DARK.faint]
    assert flat.hoverinfo == "skip"
    assert "not finite" not in figure_csv(figure)


def test_a_block_with_several_kinds_of_values_has_the_look_of_one() -> None:
    layout = layout_for((4, 4))
    values = np.zeros((4, 4), np.float32)
    values[:2] = [[np.nan, np.inf, -np.inf, np.nan], [-np.inf, 0, 0, 0]]
    reduced = HeatmapPanel(
        "server", LIGHT.server, reduce_cells(values, 2), histogram(values, LIMIT)
    )
    figure = drawn([reduced], LIMIT, layout, LIGHT)
    marks = next(t for t in figure.data if t.name == "not finite")
    assert marks.hovertext == ("+∞", "−∞")
    assert [look.fillcolor for look in swatches(figure)] == [LIGHT.ink, LIGHT.sub]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("is_symlog", [False, True])
def test_the_scale_ends_at_its_limits_and_other_colours_lie_beyond(
    theme: Theme, is_symlog: bool
) -> None:
    for limit in (LIMIT, 0.3, 1e-6):
        axis = weights_range(limit, theme, is_symlog=is_symlog)
        ends = (theme.diverging[0], theme.diverging[-1])
        for value, end, beyond in zip((-limit, limit), ends, theme.beyond, strict=True):
            assert colour_of(axis, np.float32(value)) == end
            assert colour_of(axis, np.float32(value * 1.00001)) == beyond
            assert colour_of(axis, np.float32(value * 1000)) == beyond
        assert colour_of(axis, 0.0) == theme.page
    spread = spread_range(LIMIT, theme)
    assert colour_of(spread, 0.0) == theme.sequential[0]
    assert colour_of(spread, LIMIT) == theme.sequential[-1]
    assert colour_of(spread, 1.1 * LIMIT) == theme.beyond_spread


def colour_of(colours: ColourRange, value: float) -> str:
    """As plotly finds it: held within the range, and between the two stops around it."""
    place = (float(value) - colours.low) / (colours.high - colours.low)
    place = min(1.0, max(0.0, place))
    k = next((i for i, (at, _) in enumerate(colours.stops) if at > place), len(colours.stops) - 1)
    (left, before), (right, after) = colours.stops[k - 1 : k + 1]
    return blend(after, (place - left) / (right - left), before)


def test_clipped_values_colour_the_end_bars() -> None:
    layout = layout_for((2, 2))
    figure = drawn([panel(np.array([[0, 0.9], [0, 0]], np.float32), layout)], LIMIT, layout, LIGHT)
    bars = next(t for t in figure.data if t.type == "bar")
    assert bars.marker.color[-1] == LIGHT.beyond[1]
    assert set(bars.marker.color[:-1]) == {LIGHT.faint}
    assert bars.customdata[-1].tolist() == pytest.approx([25, bars.customdata[-1, 1]])
    assert bars.customdata[0, 1] == pytest.approx(-bars.customdata[-1, 1])
    assert any("25.0% clipped" in text for text in titles(figure))


def test_histograms_of_a_row_share_its_axes_each_below_its_heatmap() -> None:
    figure = grid((64, 32))
    bars = [t for t in figure.data if t.type == "bar"]
    assert {(t.xaxis, t.yaxis) for t in bars} == {("x7", "y7")}
    axis = figure.layout.xaxis7
    assert len(axis.tickvals) == len(axis.ticktext) == 3 * len(bars)
    for k, trace in enumerate(bars):
        left, right = figure.layout["xaxis" if k == 0 else f"xaxis{k + 1}"].domain
        assert left < trace.x.min() - trace.width / 2 < trace.x.max() + trace.width / 2 < right
        middle = axis.tickvals[3 * k + 1]
        assert middle == pytest.approx((left + right) / 2)
        assert axis.ticktext[3 * k + 1] == "0"
        zero = np.interp(0, trace.customdata[:, 1], trace.x)
        assert zero == pytest.approx(middle)


def test_wide_heatmaps_stand_in_two_rows_each_with_its_histograms() -> None:
    figure = grid((32, 64))
    axes = [t.xaxis for t in figure.data if t.type == "bar"]
    assert axes == ["x7"] * 3 + ["x8"] * 3
    assert figure.layout.yaxis8.domain[1] < figure.layout.yaxis7.domain[0]


def swatches(figure: go.Figure) -> list[go.layout.Shape]:
    return [shape for shape in figure.layout.shapes if shape.type == "path" and shape.fillcolor]


def test_the_legend_explains_what_occurs_and_costs_no_trace() -> None:
    layout = layout_for((2, 2))
    plain = panel(np.zeros((2, 2), np.float32), layout)
    figure = drawn([plain, plain], LIMIT, layout, LIGHT)
    assert (len(figure.data), swatches(figure)) == (4, [])
    clipped = panel(np.array([[-0.9, 0.9], [0, 0]], np.float32), layout)
    spread = replace(clipped, is_spread=True, own_limit=LIMIT)
    explained = drawn([clipped, spread], LIMIT, layout, LIGHT)
    assert len(explained.data) == 4
    assert explained.layout.height == figure.layout.height + LEGEND_HEIGHT
    colours = [shape.fillcolor for shape in swatches(explained)]
    assert colours == [*LIGHT.beyond, LIGHT.beyond_spread]
    assert titles(explained)[-3:] == ["below the scale", "above the scale", "above the spread's"]


def test_gaps_between_tiles_are_neither_coloured_nor_marked() -> None:
    layout = layout_for((3, 3, 4, 6), "conv/kernel")
    values = np.ones((3, 3, 4, 6), np.float32)
    figure = drawn([panel(values, layout)], LIMIT, layout, LIGHT)
    cells = heatmaps(figure)[0]
    assert np.isnan(cells.z).sum() == layout.gap.sum()  # type: ignore[union-attr]
    assert not [t for t in figure.data if t.name == "NaN"]
    assert cells.text[0][4] == "[0, 0, 0, 1]"
    assert figure.layout.xaxis.ticktext == ("0", "1", "2", "3", "4", "5")


def test_vectors_are_strips_that_share_their_axis() -> None:
    figure = grid((32,))
    assert figure.layout.xaxis2.matches == "x"
    assert figure.layout.xaxis.showticklabels is False
    assert figure.layout.xaxis6.showticklabels is True
    assert figure.layout.xaxis6.title.text == "index"
    tops = [figure.layout[f"yaxis{k}"].domain[0] for k in range(1, 7)]
    assert tops == sorted(tops, reverse=True)
    assert figure.layout.height < 420
    assert any("rms 0.1 · none clipped" in text for text in titles(figure))


def test_the_selected_cell_is_outlined_in_every_panel() -> None:
    figure = grid((64, 32), selected=(36, 37, 16, 17))
    boxes = [s for s in figure.layout.shapes if s.line.color == LIGHT.ink]
    assert [s.xref for s in boxes] == ["x", "x2", "x3", "x4", "x5", "x6"]
    assert all(s.x0 <= 15.5 and s.x1 >= 16.5 and s.y0 <= 35.5 and s.y1 >= 36.5 for s in boxes)


def test_a_box_can_be_dragged_but_nothing_zooms() -> None:
    figure = grid((8, 8))
    assert figure.layout.dragmode == "select"
    assert figure.layout.template.layout.xaxis.fixedrange is True
    bars = [t for t in figure.data if t.type == "bar"]
    assert all(t.unselected.marker.opacity == 1 for t in bars)


def test_cells_are_float32() -> None:
    layout = layout_for((4, 4))
    figure = drawn([panel(np.ones((4, 4)), layout)], LIMIT, layout, LIGHT)
    assert heatmaps(figure)[0].z.dtype == np.float32


def test_titles_are_plain_text() -> None:
    layout = layout_for((2, 2))
    figure = drawn([panel(np.zeros((2, 2)), layout, "<a href='x'>c</a>")], LIMIT, layout, LIGHT)
    assert "&lt;a href='x'&gt;" in titles(figure)[0]
    assert f"<span style='color:{LIGHT.server}'>■</span>" in titles(figure)[0]


def test_a_reduced_window_keeps_the_tensor_s_indices() -> None:
    values = np.zeros((784, 1024), np.float32)
    values[351, 533], values[380, 500] = 2.4, -1.9
    window = values[282:438, 460:644]
    reduced = reduce_cells(window, 92, "signed-extreme", origin=(282, 460))
    layout = layout_for(values.shape, "dense/kernel")
    shown = HeatmapPanel("server", LIGHT.server, reduced, histogram(window, LIMIT))
    figure = drawn([shown], LIMIT, layout, LIGHT)
    (cells,) = heatmaps(figure)
    assert cells.z.shape == (78, 92)
    assert (cells.x0, cells.dx, cells.y0, cells.dy) == (460.5, 2, 282.5, 2)
    assert (np.nanmax(cells.z), np.nanmin(cells.z)) == pytest.approx((2.4, -1.9))
    assert tuple(figure.layout.yaxis.range) == (437.5, 281.5)
    assert all(460 <= tick < 644 for tick in figure.layout.xaxis.tickvals)
    assert "2 × 2 cells around" in cells.hovertemplate


def test_minimap_frames_the_window() -> None:
    values = np.zeros((784, 1024), np.float32)
    figure = minimap(reduce_cells(values, 128), (282, 439, 460, 645), 0.2, LIGHT)
    box = figure.layout.shapes[-1]
    assert (box.x0, box.x1, box.y0, box.y1) == (459.5, 644.5, 281.5, 438.5)
    assert box.line.color == LIGHT.aggregate
    assert tuple(figure.layout.xaxis.range) == (-0.5, 1023.5)


def test_contributions_are_sorted_and_add_up() -> None:
    figure = contribution_bars(["a", "b", "c"], [0.1, -0.3, 0.25], 0.05, LIGHT)
    clients, total = figure.data
    assert list(clients.x) == [-0.3, 0.25, 0.1]
    assert clients.marker.color == (LIGHT.negative, LIGHT.positive, LIGHT.positive)
    assert total.marker.color == LIGHT.aggregate
    assert figure.layout.yaxis.ticktext == ("b", "c", "a", "<b>aggregate</b>")
    assert titles(figure) == ["−0.300", "+0.250", "+0.100", "<b>+0.0500</b>"]


def test_many_contributions_are_folded() -> None:
    figure = contribution_bars(
        [f"c{i}" for i in range(30)], np.arange(30, dtype=float), 435.0, LIGHT, most=20
    )
    assert len(figure.data[0].x) == 20
    assert figure.data[0].customdata[-1] == "11 others"
    assert figure.data[0].x[-1] == sum(range(11))


def test_a_client_without_a_finite_contribution_comes_first() -> None:
    figure = contribution_bars(["a", "b"], [0.1, np.nan], np.nan, DARK)
    assert figure.layout.yaxis.ticktext[0] == "b"
    assert titles(figure)[0] == "NaN"
    assert all(np.isfinite(figure.layout.xaxis.range))


@pytest.mark.parametrize("shape", [(), (1,), (0,), (0, 4), (1, 1), (3, 3, 0, 2)])
def test_tiny_and_empty_tensors_have_a_figure(shape: tuple[int, ...]) -> None:
    figure = grid(shape, count=2)
    assert len(heatmaps(figure)) == 2
    assert figure.layout.height > 60
