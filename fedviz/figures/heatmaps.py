"""Heatmaps of one tensor, on one scale or each on its own, a histogram with each.

Magnified differences are not multiplied: they are drawn on a scale that is so much narrower, and
hovering and their histogram's axis tell the true values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import plotly.graph_objects as go

from fedviz.analysis.heatmap import Form, MatrixLayout, Window
from fedviz.analysis.reduction import ReducedMatrix
from fedviz.analysis.scales import Histogram
from fedviz.figures.cells import (
    LEFT_MARGIN,
    RIGHT_MARGIN,
    Box,
    axis_name,
    box_shape,
    colour_bar,
    draw_cells,
    in_domain,
    index_axes,
    nonfinite_text,
    select_box,
)
from fedviz.figures.colour_range import ColourRange, spread_range, weights_range
from fedviz.figures.draft import Draft
from fedviz.figures.histogram_rows import (
    HistogramPlace,
    draw_histogram,
    histogram_axes,
    row_boxes,
    row_places,
)
from fedviz.figures.layout import (
    add_labels,
    add_shapes,
    label,
)
from fedviz.figures.special_cells import (
    LEGEND_HEIGHT,
    Look,
    draw_legend,
    looks_of,
    mark_nonfinite,
)
from fedviz.figures.text import (
    escaped,
    middle_ellipsis,
    percentage,
    short_number,
)
from fedviz.figures.theme import Theme

__all__ = ["HeatmapPanel", "heatmap_grid", "panels_per_row"]

# Pixels that belong to one panel: above it, below it, its histogram, and the line under that.
_TITLE, _AXIS = 44, 40
_HISTOGRAM, _NOTE = 52, 38
_STRIP_TITLE, _STRIP_GAP, _STRIP_WIDTH = 26, 8, 0.84
_COLUMN_GAP = 0.018


@dataclass(frozen=True, eq=False)
class HeatmapPanel:
    """One of the heatmaps that are compared.

    Parameters
    ----------
    title : str
        What is shown, such as ``client c00``; plain text.
    colour : str
        Of the square before the title: the client's, the server's or the aggregate's.
    matrix : ReducedMatrix
    histogram : Histogram
        Of the same values, its limit the panel's: the grid's limit over the magnification.
    subtitle : str, optional
        A number to know, such as ``rms 0.165``.
    magnification : int, optional
        How much narrower the panel's scale is than the grid's; written into the title.
    own_limit : float, optional
        The panel has a scale of its own that reaches so far, written under the title.
    is_spread : bool, optional
        The values are never negative: the scale of its own is from 0, without a sign.
    """

    title: str
    colour: str
    matrix: ReducedMatrix
    histogram: Histogram
    subtitle: str = ""
    magnification: int = 1
    own_limit: float | None = None
    is_spread: bool = False


@dataclass(frozen=True)
class _Arrangement:
    height: float
    heatmaps: list[Box]
    histograms: list[Box]
    per_row: int

    @property
    def histogram_places(self) -> list[HistogramPlace]:
        """Their axes come after the heatmaps'."""
        return row_places(self.histograms, len(self.heatmaps) + 1)


def panels_per_row(shape: tuple[int, int], count: int) -> int:
    """How many panels stand side by side.

    Parameters
    ----------
    shape : (rows, columns)
        Of the matrices.
    count : int
        Panels there are.

    Returns
    -------
    int
        Tall matrices, and small square ones, stand in one row; wide ones in rows of three.
    """
    rows, columns = shape
    is_wide = columns > 1.6 * rows
    is_large = columns > 96 and rows > 96 and rows < 1.6 * columns
    return min(count, 3 if is_wide or is_large else 6)


def heatmap_grid(
    panels: Sequence[HeatmapPanel],
    limit: float,
    layout: MatrixLayout,
    theme: Theme,
    *,
    selected: Window | None = None,
    is_symlog: bool = False,
    width: int = 1200,
) -> go.Figure:
    """Heatmaps on one scale, a histogram with each.

    A box can be dragged on any panel; plotly tells its corners in cells of the matrix.

    Parameters
    ----------
    panels : sequence of HeatmapPanel
        At least one, their matrices of one extent.
    limit : float
        The colours reach from −limit to +limit, but for panels with a scale of their own.
    layout : MatrixLayout
        How the tensor was laid out: names of the axes, ticks, and indices to hover.
    theme : Theme
    selected : (first row, end row, first column, end column), optional
        Cells of the matrix to outline in every panel.
    is_symlog : bool
        Whether the colours go with the logarithm of the values, beyond a hundredth of the limit.
    width : int
        About how many pixels there will be; decides the height, nothing else.

    Returns
    -------
    Figure
        For each panel a heatmap on axes ``x{k}``, ``y{k}`` (k = 1, 2, …, n) and a bar trace on
        the axes of its row of histograms, the first of which is ``x{n + 1}``; a trace over cells
        that are not finite, where there are any.
    """
    extent = panels[0].matrix.extent
    if layout.form is Form.STRIP and extent[1] >= 4 * extent[0]:
        places = _stack_strips(len(panels), extent, width)
    else:
        places = _arrange_panels(panels, layout, width)
    looks = _special_looks(panels, theme)
    if looks:
        places = replace(places, height=places.height + LEGEND_HEIGHT)
    figure = Draft(theme, places.height, l=LEFT_MARGIN, r=RIGHT_MARGIN, t=0, b=0)
    figure.update_layout(barmode="overlay", **select_box(theme))
    _place_axes(figure, [*places.heatmaps, *row_boxes(places.histograms)], places.height)
    for k, panel in enumerate(panels, 1):
        _draw_panel(figure, k, panel, layout, theme, is_symlog=is_symlog)
        figure.update_layout(index_axes(k, panel.matrix, layout, places.heatmaps[k - 1], width))
    _draw_histograms(figure, panels, places, theme)
    _draw_boxes(figure, panels, places, selected, theme)
    if places.per_row:
        _finish_panels(figure, panels, places, layout, theme)
    else:
        _finish_strips(figure, panels, layout, theme)
    _share_scale(figure, panels, limit, places, theme, is_symlog=is_symlog)
    draw_legend(figure, looks, theme)
    return figure.figure()


def _special_looks(panels: Sequence[HeatmapPanel], theme: Theme) -> list[Look]:
    return looks_of(
        [panel.matrix for panel in panels],
        [panel.histogram for panel in panels if not panel.is_spread],
        [panel.histogram for panel in panels if panel.is_spread],
        theme,
    )


def _arrange_panels(
    panels: Sequence[HeatmapPanel], layout: MatrixLayout, width: int
) -> _Arrangement:
    extent = panels[0].matrix.extent
    per_row = panels_per_row(extent, len(panels))
    share = (1 - _COLUMN_GAP * (per_row - 1)) / per_row
    pixels = (width - LEFT_MARGIN - RIGHT_MARGIN) * share
    heat = min(max(pixels * extent[0] / max(1, extent[1]), 72), 440)
    note = _NOTE + 14 * any(panel.histogram.nonfinite for panel in panels)
    is_numbered = layout.column_ticks is None or layout.column_ticks.positions
    axis = _AXIS if is_numbered else 12
    block = _TITLE + heat + axis + _HISTOGRAM + note
    heatmaps, histograms = [], []
    for k in range(len(panels)):
        row, column = divmod(k, per_row)
        left, top = column * (share + _COLUMN_GAP), row * block + _TITLE
        heatmaps.append(Box(left, left + share, top, top + heat))
        low = top + heat + axis
        histograms.append(Box(left, left + share, low, low + _HISTOGRAM))
    return _Arrangement(block * -(-len(panels) // per_row), heatmaps, histograms, per_row)


def _stack_strips(count: int, extent: tuple[int, int], width: int) -> _Arrangement:
    pixels = (width - LEFT_MARGIN - RIGHT_MARGIN) * _STRIP_WIDTH
    heat = min(max(pixels / max(1, extent[1]), 9) * extent[0], 140.0)
    heat = max(heat, 24.0) if extent[0] > 1 else min(max(heat, 24.0), 32.0)
    block = _STRIP_TITLE + heat + _STRIP_GAP
    tops = [k * block + _STRIP_TITLE for k in range(count)]
    heatmaps = [Box(0, _STRIP_WIDTH, top, top + heat) for top in tops]
    histograms = [Box(_STRIP_WIDTH + 0.03, 1, top, top + heat) for top in tops]
    return _Arrangement(block * count + _AXIS, heatmaps, histograms, per_row=0)


def _place_axes(figure: Draft, boxes: Sequence[Box], height: float) -> None:
    axes = {}
    for k, box in enumerate(boxes, 1):
        bottom, top = max(0.0, 1 - box.bottom / height), 1 - box.top / height
        axes[f"xaxis{k}"] = {
            "domain": [box.left, min(1.0, box.right)],
            "anchor": axis_name("y", k),
        }
        axes[f"yaxis{k}"] = {"domain": [bottom, top], "anchor": axis_name("x", k)}
    figure.update_layout(axes)


def _draw_panel(
    figure: Draft,
    k: int,
    panel: HeatmapPanel,
    layout: MatrixLayout,
    theme: Theme,
    *,
    is_symlog: bool,
) -> None:
    name = escaped(panel.title)
    if panel.own_limit is None:
        # The first coloraxis is the grid's; each magnification has one of its own.
        coloraxis = axis_name("coloraxis", panel.magnification)
        draw_cells(figure, k, panel.matrix, layout, name, coloraxis=coloraxis)
    else:
        own = _own_range(panel, panel.own_limit, theme, is_symlog=is_symlog)
        draw_cells(figure, k, panel.matrix, layout, name, **own.on_heatmap, showscale=False)
    mark_nonfinite(figure, k, panel.matrix, theme)


def _draw_histograms(
    figure: Draft, panels: Sequence[HeatmapPanel], places: _Arrangement, theme: Theme
) -> None:
    rows = places.histogram_places
    for panel, place in zip(panels, rows, strict=True):
        ends = (theme.beyond_spread,) * 2 if panel.is_spread else theme.beyond
        draw_histogram(figure, place, panel.histogram, ends, theme)
    figure.update_layout(histogram_axes(rows, [panel.histogram for panel in panels]))


def _own_range(panel: HeatmapPanel, limit: float, theme: Theme, *, is_symlog: bool) -> ColourRange:
    if panel.is_spread:
        return spread_range(limit, theme)
    return weights_range(limit, theme, is_symlog=is_symlog)


def _draw_boxes(
    figure: Draft,
    panels: Sequence[HeatmapPanel],
    places: _Arrangement,
    selected: Window | None,
    theme: Theme,
) -> None:
    boxes = [_frames(places, theme)]
    if selected is not None:
        for k, panel in enumerate(panels, 1):
            boxes += _outline(k, panel.matrix, selected, theme)
    add_shapes(figure, boxes)


def _frames(places: _Arrangement, theme: Theme) -> dict[str, Any]:
    """A border round each heatmap and a line below each histogram, all of them one shape."""

    def height(pixels: float) -> float:
        return 1 - pixels / places.height

    borders = [
        f"M{box.left},{height(box.bottom)}V{height(box.top)}H{box.right}V{height(box.bottom)}Z"
        for box in places.heatmaps
    ]
    lines = [f"M{box.left},{height(box.bottom)}H{box.right}" for box in places.histograms]
    return {
        "type": "path",
        "path": "".join(borders + lines),
        "xref": "paper",
        "yref": "paper",
        "layer": "above",
        "line": {"color": theme.rule, "width": 1},
    }


def _outline(k: int, matrix: ReducedMatrix, cells: Window, theme: Theme) -> list[dict[str, Any]]:
    """A box of ink around cells, large enough to be found, with a halo to stand off dark cells."""
    spans = []
    for (first, end), origin, step, extent in zip(
        (cells[:2], cells[2:]), matrix.origin, matrix.steps, matrix.extent, strict=True
    ):
        start = origin + (first - origin) // step * step
        stop = origin - (origin - end) // step * step
        if stop <= origin or start >= origin + extent:
            return []
        margin = max(0.0, extent / 60 - (stop - start)) / 2
        spans.append((start - 0.5 - margin, stop - 0.5 + margin))
    (top, bottom), (left, right) = spans
    axes = {"xref": axis_name("x", k), "yref": axis_name("y", k)}
    return [
        box_shape((left, right, top, bottom), **axes, line={"color": colour, "width": width})
        for colour, width in ((theme.page, 4.0), (theme.ink, 1.5))
    ]


def _finish_panels(
    figure: Draft,
    panels: Sequence[HeatmapPanel],
    places: _Arrangement,
    layout: MatrixLayout,
    theme: Theme,
) -> None:
    """Titles above the heatmaps, notes under the histograms, names on the outer axes only."""
    row_title, column_title = layout.axis_titles
    histogram_places = places.histogram_places
    labels, axes = [], {}
    for k, panel in enumerate(panels, 1):
        title, subtitle = _panel_title(panel), _subtitle(panel)
        labels.append(label(title, 0, 1, **in_domain(k), yshift=31, colour=theme.ink, size=13))
        if subtitle:
            below = label(subtitle, 0, 1, **in_domain(k), yshift=13, colour=theme.sub, size=11)
            labels.append(below)
        labels.append(_note(histogram_places[k - 1], panel.histogram, theme))
        is_first = (k - 1) % places.per_row == 0
        axes[f"yaxis{k}"] = {
            "showticklabels": is_first,
            "title": {"text": row_title if is_first else "", "standoff": 4},
        }
        axes[f"xaxis{k}"] = {
            "title": {"text": column_title if is_first else "", "standoff": 2},
        }
    add_labels(figure, labels)
    figure.update_layout(axes)


def _panel_title(panel: HeatmapPanel) -> str:
    factor = f" × {panel.magnification:,}" if panel.magnification > 1 else ""
    name = escaped(middle_ellipsis(panel.title, 30))
    return f"<span style='color:{panel.colour}'>■</span> <b>{name}{factor}</b>"


def _subtitle(panel: HeatmapPanel) -> str:
    known = [escaped(panel.subtitle)] if panel.subtitle else []
    if panel.own_limit is not None:
        reach = short_number(panel.own_limit)
        known.append(f"0 to {reach}" if panel.is_spread else f"±{reach}")
    return " · ".join(known)


def _note(place: HistogramPlace, histogram: Histogram, theme: Theme) -> dict[str, Any]:
    lines = [_clipped_text(histogram)]
    nonfinite = nonfinite_text(histogram)
    if nonfinite:
        lines.insert(0, f"<b style='color:{theme.failure}'>{nonfinite}</b>")
    return label(
        "<br>".join(lines),
        place.centre,
        0,
        **in_domain(place.axes),
        yshift=-18,
        xanchor="center",
        yanchor="top",
        align="center",
        colour=theme.sub,
        size=11,
    )


def _clipped_text(histogram: Histogram) -> str:
    return f"{percentage(histogram.clipped)} clipped" if histogram.clipped else "none clipped"


def _finish_strips(
    figure: Draft, panels: Sequence[HeatmapPanel], layout: MatrixLayout, theme: Theme
) -> None:
    """One line above each strip says it all; the lowest carries the shared axis."""
    row_title, column_title = layout.axis_titles
    labels, axes = [], {}
    for k, panel in enumerate(panels, 1):
        is_last = k == len(panels)
        title = _strip_title(panel, theme)
        labels.append(label(title, 0, 1, **in_domain(k), yshift=11, colour=theme.ink, size=13))
        axes[f"xaxis{k}"] = {
            "showticklabels": is_last,
            "title": {"text": column_title if is_last else "", "standoff": 2},
            "matches": None if k == 1 else "x",
        }
        axes[f"xaxis{len(panels) + k}"] = {"showticklabels": is_last}
        axes[f"yaxis{k}"] = {"title": {"text": row_title if k == 1 else ""}}
    add_labels(figure, labels)
    figure.update_layout(axes)


def _strip_title(panel: HeatmapPanel, theme: Theme) -> str:
    known = [_subtitle(panel)] if _subtitle(panel) else []
    facts = " · ".join([*known, _clipped_text(panel.histogram)])
    nonfinite = nonfinite_text(panel.histogram)
    wrong = f"  <b style='color:{theme.failure}'>{nonfinite}</b>" if nonfinite else ""
    return f"{_panel_title(panel)}  <span style='color:{theme.sub}'>{facts}</span>{wrong}"


def _share_scale(
    figure: Draft,
    panels: Sequence[HeatmapPanel],
    limit: float,
    places: _Arrangement,
    theme: Theme,
    *,
    is_symlog: bool,
) -> None:
    shared = [panel for panel in panels if panel.own_limit is None]
    if not shared:
        return
    first = places.heatmaps[0]
    last = first if places.per_row else places.heatmaps[-1]
    length = min(last.bottom - first.top, 300)
    bar = colour_bar(limit, theme, is_symlog=is_symlog, length=length)
    bar.update(
        lenmode="pixels",
        len=length + 20,
        y=1 - first.top / places.height,
        # The bar is padded by ten pixels at its ends.
        ypad=10,
        yanchor="top",
    )
    scale = weights_range(limit, theme, is_symlog=is_symlog)
    axes: dict[str, Any] = {"coloraxis": {**scale.on_axis, "colorbar": bar}}
    if is_symlog:
        axes["coloraxis"] |= {"showscale": False, "colorbar": None}
        _draw_even_bar(figure, bar, theme)
    for factor in {panel.magnification for panel in shared} - {1}:
        narrow = weights_range(limit / factor, theme, is_symlog=is_symlog)
        axes[f"coloraxis{factor}"] = {**narrow.on_axis, "showscale": False}
    figure.update_layout(axes)


def _draw_even_bar(figure: Draft, bar: dict[str, Any], theme: Theme) -> None:
    """A bar whose colours are evenly spaced and whose numbers are not: a trace without a mark."""
    figure.add_scatter(
        x=[None],
        y=[None],
        mode="markers",
        hoverinfo="skip",
        marker={
            "color": [0],
            **weights_range(1, theme).on_axis,
            "colorbar": bar,
            "showscale": True,
        },
    )
