"""Lines over the rounds, small multiples, distributions, logarithmic colours."""

from __future__ import annotations

import numpy as np
import pytest

from fedviz.analysis.heatmap import layout_for
from fedviz.analysis.reduction import reduce_cells
from fedviz.analysis.scales import ClientHistograms, histogram
from fedviz.figures.colour import colour_at, symlog_colourscale, symlog_place
from fedviz.figures.colour_range import weights_range
from fedviz.figures.distributions import Distribution, overlaid_histograms
from fedviz.figures.heatmaps import HeatmapPanel, heatmap_grid
from fedviz.figures.round_figures import small_multiples, tensor_courses
from fedviz.figures.theme import DARK, LIGHT


def test_the_selected_line_is_ink_and_on_top() -> None:
    values = np.array([[0.1, 0.2], [0.2, np.nan], [0.3, 0.1]])
    figure = tensor_courses([0, 1, 2], values, ["a", "b"], LIGHT, selected="a", shown_round=1)
    other, chosen = figure.data
    assert (chosen.line.color, other.line.color) == (LIGHT.ink, LIGHT.faint)
    assert list(chosen.y) == [0.1, 0.2, 0.3]
    assert set(chosen.customdata) == {"a"}
    assert figure.layout.shapes[0].x0 == 1
    assert figure.layout.annotations[0].text == "<b>a</b>"
    assert figure.layout.yaxis.ticktext[-1] == "30%"


def test_a_band_lies_behind_the_lines() -> None:
    band = np.array([[0.1, 0.2], [0.3, np.nan]])
    figure = tensor_courses([0, 1], np.array([[0.2], [0.3]]), ["a"], LIGHT, band=band, selected="a")
    low, high, line = figure.data
    assert list(low.y) == [0.1, 0.2]
    assert (low.fill, high.fill, high.fillcolor) == (None, "tonexty", LIGHT.rule)
    assert {low.hoverinfo, high.hoverinfo} == {"skip"}
    assert line.line.color == LIGHT.ink


def test_a_round_without_values_keeps_its_place() -> None:
    layout = layout_for((4, 6))
    matrix = reduce_cells(np.full((4, 6), 0.25, np.float32))
    figure = small_multiples([(3, matrix), (4, None)], 0.5, layout, DARK, shown_round=3)
    assert [np.isfinite(np.asarray(trace.z)).sum() for trace in figure.data] == [24, 0]
    assert [a.text for a in figure.layout.annotations] == ["<b>round 3</b>", "round 4", "none"]
    assert figure.layout.shapes[0].line.color == DARK.aggregate
    assert figure.layout.coloraxis.cmax == weights_range(0.5, DARK).high


def clients(count: int) -> ClientHistograms:
    shares = np.linspace(0, 1, count)[:, None] * np.array([0.0, 0.25, 0.5, 0.25, 0.0])
    return ClientHistograms(np.linspace(-0.16, 0.16, 5), shares, count, 100, 100)


def test_distributions_lie_over_those_of_all_clients() -> None:
    bars = histogram(np.array([-0.1, 0.1, 0.1, 0.1]), 0.2, bins=5)
    series = [
        Distribution("c1", bars, LIGHT.clients[1]),
        Distribution("aggregate", bars, LIGHT.aggregate),
    ]
    figure = overlaid_histograms(series, clients(40), 0.2, LIGHT)
    behind, client, filled = figure.data
    assert np.isnan(behind.y).sum() == 40
    assert behind.y[-6:-1] == pytest.approx([0, 25, 50, 25, 0])
    assert behind.hoverinfo == "skip"
    assert client.fill is None
    assert filled.fill == "tozeroy"
    assert list(filled.y) == [0, 25, 0, 75, 0]
    assert "aggregate" in figure.layout.annotations[0].text
    assert len(overlaid_histograms(series, None, 0.2, LIGHT).data) == 2


def test_many_clients_are_two_bands() -> None:
    figure = overlaid_histograms([], clients(101), 0.2, DARK)
    whole, middle = figure.data
    assert whole.fill == middle.fill == "toself"
    assert list(whole.y) == pytest.approx([0] * 5 + [0, 25, 50, 25, 0])
    assert list(middle.y) == pytest.approx([0, 2.5, 5, 2.5, 0, 0, 22.5, 45, 22.5, 0])
    assert whole.fillcolor != middle.fillcolor


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_logarithmic_colours_are_the_same_colours_elsewhere(theme) -> None:
    scale = symlog_colourscale(theme.diverging)
    values, colours = zip(*scale, strict=True)
    assert list(values) == sorted(values)
    assert (values[0], values[-1]) == (0.0, 1.0)
    assert dict(scale)[0.5] == theme.page
    assert (colours[0], colours[-1]) == (theme.diverging[0], theme.diverging[-1])
    # A tenth of the limit lies at log(11) / log(101) of the way.
    assert symlog_place(-0.1) == pytest.approx(-np.log(11) / np.log(101))
    assert symlog_place(0.01) == pytest.approx(np.log(2) / np.log(101))
    place = int(np.argmin(np.abs(np.array(values) - 0.55)))
    share = 2 * values[place] - 1
    assert colours[place] == colour_at(theme.diverging, (symlog_place(share) + 1) / 2)


def test_panels_with_scales_of_their_own() -> None:
    layout = layout_for((2, 2))
    values = np.array([[0.0, 0.01], [0.02, 0.03]], np.float32)
    matrix = reduce_cells(values)
    own = [
        HeatmapPanel("a", LIGHT.server, matrix, histogram(values, 0.03), "rms 1", 1, 0.03),
        HeatmapPanel("s", LIGHT.faint, matrix, histogram(values, 0.04), "", 1, 0.04, True),
    ]
    figure = heatmap_grid(own, 0.5, layout, LIGHT)
    first, spread = (trace for trace in figure.data if trace.type == "heatmap")
    assert (first.zmin, first.zmax) == pytest.approx((-0.0318, 0.0318))
    assert (spread.zmin, spread.zmax) == pytest.approx((0, 0.0412))
    assert spread.colorscale[0][1] == LIGHT.sequential[0]
    assert figure.layout.coloraxis.colorbar.ticktext is None
    texts = [a.text for a in figure.layout.annotations]
    assert "rms 1 · ±0.03" in texts
    assert "0 to 0.04" in texts


def test_a_logarithmic_bar_is_even_and_the_cells_keep_their_values() -> None:
    layout = layout_for((2, 2))
    values = np.array([[0.0, 0.01], [-0.5, 0.3]], np.float32)
    panel = HeatmapPanel("a", LIGHT.server, reduce_cells(values), histogram(values, 0.5))
    figure = heatmap_grid([panel], 0.5, layout, LIGHT, is_symlog=True)
    np.testing.assert_array_equal(figure.data[0].z, values)
    assert figure.layout.coloraxis.showscale is False
    bar = next(t for t in figure.data if t.type == "scatter").marker
    assert bar.colorbar.ticktext == (" −0.5", " −0.05", " 0", " 0.05", " 0.5")
    assert bar.colorbar.tickvals[3] == pytest.approx(np.log(11) / np.log(101))
