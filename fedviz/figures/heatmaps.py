"""The values of one tensor: heatmaps on one scale, histograms, and who moved a cell.

Magnified differences are not multiplied: they are drawn on a scale that is so much narrower, and
hovering and their histogram's axis tell the true values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fedviz.analysis.heatmap import Form, Histogram, MatrixLayout, ReducedMatrix, Spike, Ticks
from fedviz.figures.layout import (
    UNFADED,
    add_labels,
    add_shapes,
    blank_figure,
    label,
    text_width,
)
from fedviz.figures.text import (
    counted,
    escaped,
    middle_ellipsis,
    percentage,
    short_number,
    signed,
)
from fedviz.figures.theme import Theme, colourscale

__all__ = [
    "HeatmapPanel",
    "contribution_bars",
    "heatmap_grid",
    "histogram_figure",
    "large_heatmap",
    "minimap",
    "panels_per_row",
]

_LEFT, _RIGHT = 52, 60
_TITLE, _AXIS = 44, 40
_HISTOGRAM, _NOTE = 52, 38
_STRIP_TITLE, _STRIP_GAP, _STRIP_WIDTH = 26, 8, 0.84
_COLUMN_GAP = 0.018
# More hatched patches than this are slow in a browser; flat colours stand for them.
_MOST_PATCHES = 600


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
    """

    title: str
    colour: str
    matrix: ReducedMatrix
    histogram: Histogram
    subtitle: str = ""
    magnification: int = 1


@dataclass(frozen=True)
class _Box:
    """A place in the figure: shares of the width, pixels from the top."""

    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True)
class _Arrangement:
    height: float
    heatmaps: list[_Box]
    histograms: list[_Box]
    per_row: int


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
    selected: tuple[int, int] | None = None,
    width: int = 1200,
) -> go.Figure:
    """Up to six heatmaps on one scale, a histogram with each.

    A box can be dragged on any panel: with ``st.plotly_chart(..., on_select="rerun",
    selection_mode="box")`` its corners come back in cells of the matrix.

    Parameters
    ----------
    panels : sequence of HeatmapPanel
        One to six, their matrices of one extent.
    limit : float
        The colours reach from −limit to +limit.
    layout : MatrixLayout
        How the tensor was laid out: names of the axes, ticks, and indices to hover.
    theme : Theme
    selected : (row, column), optional
        A cell of the matrix to outline in every panel.
    width : int
        About how many pixels there will be; decides the height, nothing else.

    Returns
    -------
    Figure
        For each panel a heatmap on axes ``x{k}``, ``y{k}`` (k = 1, 2, …) and a bar trace on
        ``x{n + k}``, ``y{n + k}``; patches over cells that are not finite.
    """
    extent = panels[0].matrix.extent
    if layout.form is Form.STRIP and extent[1] >= 4 * extent[0]:
        places = _stack_strips(len(panels), extent, width)
    else:
        places = _arrange_panels(panels, layout, width)
    figure = blank_figure(theme, places.height, l=_LEFT, r=_RIGHT, t=0, b=0)
    figure.update_layout(bargap=0.08, barmode="overlay", **_select_box(theme))
    _place_axes(figure, [*places.heatmaps, *places.histograms], places.height)
    for k, panel in enumerate(panels, 1):
        _draw_panel(figure, k, panel, layout, theme)
        _draw_histogram(figure, len(panels) + k, panel.histogram, theme)
        _number_axes(figure, k, panel.matrix, layout, places.heatmaps[k - 1], width)
    _draw_boxes(figure, panels, selected, theme)
    if places.per_row:
        _finish_panels(figure, panels, places, layout, theme)
    else:
        _finish_strips(figure, panels, layout, theme)
    _share_scale(figure, panels, limit, places, theme)
    return figure


def _arrange_panels(
    panels: Sequence[HeatmapPanel], layout: MatrixLayout, width: int
) -> _Arrangement:
    extent = panels[0].matrix.extent
    per_row = panels_per_row(extent, len(panels))
    share = (1 - _COLUMN_GAP * (per_row - 1)) / per_row
    pixels = (width - _LEFT - _RIGHT) * share
    heat = min(max(pixels * extent[0] / max(1, extent[1]), 72), 440)
    note = _NOTE + 14 * any(p.histogram.nan or p.histogram.infinite for p in panels)
    is_numbered = layout.column_ticks is None or layout.column_ticks.positions
    axis = _AXIS if is_numbered else 12
    block = _TITLE + heat + axis + _HISTOGRAM + note
    heatmaps, histograms = [], []
    for k in range(len(panels)):
        row, column = divmod(k, per_row)
        left, top = column * (share + _COLUMN_GAP), row * block + _TITLE
        heatmaps.append(_Box(left, left + share, top, top + heat))
        low = top + heat + axis
        histograms.append(_Box(left, left + share, low, low + _HISTOGRAM))
    return _Arrangement(block * -(-len(panels) // per_row), heatmaps, histograms, per_row)


def _stack_strips(count: int, extent: tuple[int, int], width: int) -> _Arrangement:
    pixels = (width - _LEFT - _RIGHT) * _STRIP_WIDTH
    heat = min(max(pixels / max(1, extent[1]), 9) * extent[0], 140.0)
    heat = max(heat, 24.0) if extent[0] > 1 else min(max(heat, 24.0), 32.0)
    block = _STRIP_TITLE + heat + _STRIP_GAP
    tops = [k * block + _STRIP_TITLE for k in range(count)]
    heatmaps = [_Box(0, _STRIP_WIDTH, top, top + heat) for top in tops]
    histograms = [_Box(_STRIP_WIDTH + 0.03, 1, top, top + heat) for top in tops]
    return _Arrangement(block * count + _AXIS, heatmaps, histograms, per_row=0)


def _axis(letter: str, k: int) -> str:
    return letter if k == 1 else f"{letter}{k}"


def _place_axes(figure: go.Figure, boxes: Sequence[_Box], height: float) -> None:
    axes = {}
    for k, box in enumerate(boxes, 1):
        bottom, top = max(0.0, 1 - box.bottom / height), 1 - box.top / height
        axes[f"xaxis{k}"] = {
            "domain": [box.left, min(1.0, box.right)],
            "anchor": _axis("y", k),
        }
        axes[f"yaxis{k}"] = {"domain": [bottom, top], "anchor": _axis("x", k)}
    figure.update_layout(axes)


def _select_box(theme: Theme) -> dict[str, Any]:
    return {
        "dragmode": "select",
        "newselection": {"line": {"color": theme.aggregate, "width": 2, "dash": "solid"}},
        "activeselection": {"fillcolor": theme.aggregate, "opacity": 0.12},
    }


def _draw_panel(
    figure: go.Figure, k: int, panel: HeatmapPanel, layout: MatrixLayout, theme: Theme
) -> None:
    # The first coloraxis is the grid's; each magnification has one of its own.
    coloraxis = _axis("coloraxis", panel.magnification)
    _draw_cells(figure, k, panel.matrix, layout, escaped(panel.title), coloraxis=coloraxis)
    _mark_nonfinite(figure, k, panel.matrix, theme)


def _draw_cells(
    figure: go.Figure,
    k: int,
    matrix: ReducedMatrix,
    layout: MatrixLayout,
    name: str,
    **colours: Any,
) -> None:
    names = _window_names(matrix, layout)
    figure.add_heatmap(
        z=_finite_cells(matrix),
        text=names,
        **_positions(matrix),
        **colours,
        xaxis=_axis("x", k),
        yaxis=_axis("y", k),
        hovertemplate=_hover(matrix, layout, names is not None) + f"<extra>{name}</extra>",
        hoverongaps=False,
    )


def _finite_cells(matrix: ReducedMatrix) -> NDArray[np.float32]:
    """The values to colour; a block that holds anything not finite is marked instead."""
    cells = np.where(matrix.nan | matrix.infinite, np.nan, matrix.values)
    return cells.astype(np.float32)


def _positions(matrix: ReducedMatrix) -> dict[str, float]:
    (row, column), (high, wide) = matrix.origin, matrix.steps
    return {
        "x0": column + (wide - 1) / 2,
        "dx": wide,
        "y0": row + (high - 1) / 2,
        "dy": high,
    }


def _window_names(matrix: ReducedMatrix, layout: MatrixLayout) -> NDArray[np.str_] | None:
    names = None if matrix.is_reduced else layout.cell_names()
    if names is None:
        return None
    (row, column), (rows, columns) = matrix.origin, matrix.extent
    return names[row : row + rows, column : column + columns]


def _hover(matrix: ReducedMatrix, layout: MatrixLayout, has_names: bool) -> str:
    value = "<b>%{z:.4~g}</b>"
    if has_names:
        return f"%{{text}}<br>{value}"
    if layout.places is not None:
        return value
    row, column = layout.axis_titles
    place = f"{column} %{{x:.0f}}"
    if row:
        place = f"{row} %{{y:.0f}}, {place}"
    if matrix.is_reduced:
        place = f"{matrix.steps[0]} × {matrix.steps[1]} cells around {place}"
    return f"{place}<br>{value}"


def _mark_nonfinite(figure: go.Figure, k: int, matrix: ReducedMatrix, theme: Theme) -> None:
    """NaN crosshatched; infinite dark with a light stripe; each with a border of ink."""
    infinite = matrix.infinite
    nan = matrix.nan & ~infinite
    if _num_runs(nan) + _num_runs(infinite) > _MOST_PATCHES:
        _mark_flat(figure, k, matrix, theme)
        return
    crossed = {"shape": "x", "fgcolor": theme.ink, "bgcolor": theme.page}
    dark = {"shape": "/", "fgcolor": theme.page, "bgcolor": theme.ink}
    for name, mask, pattern in (("NaN", nan, crossed), ("infinite", infinite, dark)):
        patches = _rectangles(mask)
        if patches:
            _add_patches(figure, k, matrix, patches, pattern, name, theme)


def _add_patches(
    figure: go.Figure,
    k: int,
    matrix: ReducedMatrix,
    patches: list[tuple[int, int, int, int]],
    pattern: dict[str, str],
    name: str,
    theme: Theme,
) -> None:
    (row, column), (high, wide) = matrix.origin, matrix.steps
    # A heatmap has no patterns. Bars have, and plotly draws them above heatmaps.
    figure.add_bar(
        x=[(right - left) * wide for _, _, left, right in patches],
        base=[column + left * wide - 0.5 for _, _, left, _ in patches],
        y=[row + (top + bottom) / 2 * high - 0.5 for top, bottom, *_ in patches],
        width=[(bottom - top) * high for top, bottom, *_ in patches],
        orientation="h",
        xaxis=_axis("x", k),
        yaxis=_axis("y", k),
        name=name,
        hovertemplate=f"<b>{name}</b><extra></extra>",
        unselected=UNFADED,
        marker={
            "color": pattern["bgcolor"],
            "line": {"width": 1, "color": theme.ink},
            "pattern": {**pattern, "size": 5, "solidity": 0.3},
        },
    )


def _mark_flat(figure: go.Figure, k: int, matrix: ReducedMatrix, theme: Theme) -> None:
    marks = np.select([matrix.infinite, matrix.nan], [1.0, 0.0], np.nan).astype(np.float32)
    figure.add_heatmap(
        z=marks,
        **_positions(matrix),
        zmin=0,
        zmax=1,
        colorscale=[(0, theme.faint), (1, theme.ink)],
        showscale=False,
        xaxis=_axis("x", k),
        yaxis=_axis("y", k),
        name="not finite",
        hovertemplate="<b>not finite</b><extra></extra>",
        hoverongaps=False,
    )


def _num_runs(mask: NDArray[np.bool_]) -> int:
    before = np.zeros_like(mask)
    before[:, 1:] = mask[:, :-1]
    return int((mask & ~before).sum())


def _rectangles(mask: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """Rectangles (top, bottom, left, right) that cover a mask: equal runs joined downwards."""
    if not mask.any():
        return []
    started: dict[tuple[int, int], int] = {}
    rectangles = []
    for i in range(mask.shape[0] + 1):
        runs = _runs(mask[i]) if i < mask.shape[0] else []
        for run in [run for run in started if run not in runs]:
            rectangles.append((started.pop(run), i, *run))
        for run in runs:
            started.setdefault(run, i)
    return rectangles


def _runs(line: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], line.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _draw_histogram(figure: go.Figure, k: int, histogram: Histogram, theme: Theme) -> None:
    limit = float(histogram.edges[-1])
    figure.add_bar(
        x=histogram.centres,
        y=histogram.counts / max(1, histogram.counts.max()),
        customdata=histogram.counts / max(1, histogram.total) * 100,
        hovertemplate="about %{x:.3~g}: %{customdata:.1f}% of the cells<extra></extra>",
        marker={"color": _bar_colours(histogram, theme), "line": {"width": 0}},
        xaxis=_axis("x", k),
        yaxis=_axis("y", k),
        unselected=UNFADED,
    )
    figure.update_layout(
        {
            f"xaxis{k}": {
                "range": [-1.02 * limit, 1.02 * limit],
                "showgrid": False,
                "showline": True,
                # At the limits themselves neighbours would collide.
                "tickvals": [-limit / 2, 0, limit / 2],
                "ticktext": [short_number(v) for v in (-limit / 2, 0.0, limit / 2)],
            },
            f"yaxis{k}": {"visible": False, "range": [0, 1.08]},
        }
    )


def _bar_colours(histogram: Histogram, theme: Theme) -> list[str]:
    """Pale bars; at an end that holds clipped values the end colour of the scale."""
    colours = [theme.faint] * len(histogram.counts)
    if histogram.below:
        colours[0] = theme.diverging[0]
    if histogram.above:
        colours[-1] = theme.diverging[-1]
    return colours


def _number_axes(
    figure: go.Figure, k: int, matrix: ReducedMatrix, layout: MatrixLayout, box: _Box, width: int
) -> None:
    """Ranges and ticks, in the tensor's own indices."""
    (row, column), (rows, columns) = matrix.origin, matrix.extent
    pixels = (box.right - box.left) * (width - _LEFT - _RIGHT)
    figure.update_layout(
        {
            f"xaxis{k}": {
                "range": [column - 0.5, column + columns - 0.5],
                "showgrid": False,
                **_index_ticks(column, columns, layout.column_ticks, max(2, int(pixels / 38))),
            },
            f"yaxis{k}": {
                "range": [row + rows - 0.5, row - 0.5],
                "showgrid": False,
                **_index_ticks(
                    row, rows, layout.row_ticks, max(2, int(box.bottom - box.top) // 44)
                ),
            },
        }
    )


def _index_ticks(first: int, count: int, ticks: Ticks | None, most: int) -> dict[str, Any]:
    if ticks is not None:
        step = max(1, -(-len(ticks.positions) // most))
        return {
            "tickvals": list(ticks.positions[::step]),
            "ticktext": list(ticks.labels[::step]),
        }
    step = _index_step(count, most)
    shown = range(-(-first // step) * step, first + count, step)
    return {"tickvals": list(shown), "ticktext": [f"{i:,}" for i in shown]}


def _index_step(count: int, most: int) -> int:
    """The smallest round step that makes at most ``most`` ticks; 2^k where the sizes are."""
    step, factors = 1, (2, 2, 2) if count % 8 == 0 and count <= 256 else (2, 2.5, 2)
    k = 0
    while -(-count // step) > most:
        step = int(step * factors[k % 3])
        k += 1
    return step


def _draw_boxes(
    figure: go.Figure,
    panels: Sequence[HeatmapPanel],
    selected: tuple[int, int] | None,
    theme: Theme,
) -> None:
    boxes = [_frame(k, theme) for k in range(1, len(panels) + 1)]
    if selected is not None:
        for k, panel in enumerate(panels, 1):
            boxes += _outline(k, panel.matrix, selected, theme)
    add_shapes(figure, boxes)


def _box(corners: tuple[float, float, float, float], **options: Any) -> dict[str, Any]:
    x0, x1, y0, y1 = corners
    return {"type": "rect", "x0": x0, "x1": x1, "y0": y0, "y1": y1, "layer": "above", **options}


def _frame(k: int, theme: Theme) -> dict[str, Any]:
    return _box((0, 1, 0, 1), **_domain(k), line={"color": theme.rule, "width": 1})


def _domain(k: int) -> dict[str, str]:
    """References by which 0 to 1 is a panel, whatever its axes count."""
    return {"xref": f"{_axis('x', k)} domain", "yref": f"{_axis('y', k)} domain"}


def _outline(
    k: int, matrix: ReducedMatrix, cell: tuple[int, int], theme: Theme
) -> list[dict[str, Any]]:
    """A box of ink around a cell, large enough to be found, with a halo to stand off dark cells."""
    spans = []
    for at, origin, step, extent in zip(
        cell, matrix.origin, matrix.steps, matrix.extent, strict=True
    ):
        start = origin + (at - origin) // step * step
        margin = max(0.0, extent / 60 - step) / 2
        spans.append((start - 0.5 - margin, start + step - 0.5 + margin))
    (top, bottom), (left, right) = spans
    axes = {"xref": _axis("x", k), "yref": _axis("y", k)}
    return [
        _box((left, right, top, bottom), **axes, line={"color": colour, "width": width})
        for colour, width in ((theme.page, 4.0), (theme.ink, 1.5))
    ]


def _finish_panels(
    figure: go.Figure,
    panels: Sequence[HeatmapPanel],
    places: _Arrangement,
    layout: MatrixLayout,
    theme: Theme,
) -> None:
    """Titles above the heatmaps, notes under the histograms, names on the outer axes only."""
    row_title, column_title = layout.axis_titles
    labels, axes = [], {}
    for k, panel in enumerate(panels, 1):
        title, subtitle = _panel_title(panel), escaped(panel.subtitle)
        labels.append(label(title, 0, 1, **_domain(k), yshift=31, colour=theme.ink, size=13))
        if subtitle:
            below = label(subtitle, 0, 1, **_domain(k), yshift=13, colour=theme.sub, size=11)
            labels.append(below)
        labels.append(_note(len(panels) + k, panel.histogram, theme))
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


def _note(k: int, histogram: Histogram, theme: Theme) -> dict[str, Any]:
    lines = [_clipped_text(histogram)]
    nonfinite = _nonfinite_text(histogram)
    if nonfinite:
        lines.insert(0, f"<b style='color:{theme.failure}'>{nonfinite}</b>")
    return label(
        "<br>".join(lines),
        0.5,
        0,
        **_domain(k),
        yshift=-18,
        xanchor="center",
        yanchor="top",
        align="center",
        colour=theme.sub,
        size=11,
    )


def _clipped_text(histogram: Histogram) -> str:
    return f"{percentage(histogram.clipped)} clipped" if histogram.clipped else "none clipped"


def _nonfinite_text(histogram: Histogram) -> str:
    counts = ((histogram.nan, "NaN"), (histogram.infinite, "infinite"))
    return ", ".join(f"{count:,} {name}" for count, name in counts if count)


def _finish_strips(
    figure: go.Figure, panels: Sequence[HeatmapPanel], layout: MatrixLayout, theme: Theme
) -> None:
    """One line above each strip says it all; the lowest carries the shared axis."""
    row_title, column_title = layout.axis_titles
    labels, axes = [], {}
    for k, panel in enumerate(panels, 1):
        is_last = k == len(panels)
        title = _strip_title(panel, theme)
        labels.append(label(title, 0, 1, **_domain(k), yshift=11, colour=theme.ink, size=13))
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
    known = [escaped(panel.subtitle)] if panel.subtitle else []
    facts = " · ".join([*known, _clipped_text(panel.histogram)])
    nonfinite = _nonfinite_text(panel.histogram)
    wrong = f"  <b style='color:{theme.failure}'>{nonfinite}</b>" if nonfinite else ""
    return f"{_panel_title(panel)}  <span style='color:{theme.sub}'>{facts}</span>{wrong}"


def _share_scale(
    figure: go.Figure,
    panels: Sequence[HeatmapPanel],
    limit: float,
    places: _Arrangement,
    theme: Theme,
) -> None:
    first = places.heatmaps[0]
    last = first if places.per_row else places.heatmaps[-1]
    bar = _colour_bar(limit, theme)
    bar.update(
        lenmode="pixels",
        len=min(last.bottom - first.top, 300) + 20,
        y=1 - first.top / places.height,
        # The bar is padded by ten pixels at its ends.
        ypad=10,
        yanchor="top",
    )
    scale = {"colorscale": colourscale(theme.diverging), "cmid": 0}
    axes: dict[str, Any] = {
        "coloraxis": {**scale, "cmin": -limit, "cmax": limit, "colorbar": bar},
    }
    for factor in {panel.magnification for panel in panels} - {1}:
        reach = limit / factor
        axes[f"coloraxis{factor}"] = {**scale, "cmin": -reach, "cmax": reach, "showscale": False}
    figure.update_layout(axes)


def _colour_bar(limit: float, theme: Theme) -> dict[str, Any]:
    ticks = [-limit, -limit / 2, 0.0, limit / 2, limit]
    return {
        "thickness": 8,
        "x": 1.008,
        "xanchor": "left",
        "xpad": 0,
        "outlinewidth": 0,
        "ticks": "",
        "tickvals": ticks,
        "ticktext": [f" {short_number(value)}" for value in ticks],
        "tickfont": {"size": 11, "color": theme.sub},
    }


def large_heatmap(
    matrix: ReducedMatrix,
    histogram: Histogram,
    limit: float,
    layout: MatrixLayout,
    theme: Theme,
    *,
    spikes: Sequence[Spike] = (),
    width: int = 880,
) -> go.Figure:
    """One tensor, or a window of it, as large as the page allows; a box can be dragged on it.

    Parameters
    ----------
    matrix : ReducedMatrix
        The window; its origin says where it lies.
    histogram : Histogram
        Of the window's values: how many are not finite.
    limit : float
        The colours reach from −limit to +limit.
    layout : MatrixLayout
        Of the whole tensor.
    theme : Theme
    spikes : sequence of Spike
        Single values to ring and to label, in cells of the whole matrix; those outside the
        window are left out.
    width : int
        About how many pixels there will be; decides the height, nothing else.
    """
    (row, column), (rows, columns) = matrix.origin, matrix.extent
    height = min(max((width - _LEFT - _RIGHT) * rows / max(1, columns), 160), 600)
    figure = blank_figure(theme, height + 52, l=_LEFT + 4, r=_RIGHT, t=8, b=44)
    figure.update_layout(bargap=0, barmode="overlay", **_select_box(theme))
    bar = {**_colour_bar(limit, theme), "len": 1, "y": 0.5, "ypad": 0}
    _draw_cells(
        figure,
        1,
        matrix,
        layout,
        "",
        zmin=-limit,
        zmax=limit,
        colorscale=colourscale(theme.diverging),
        colorbar=bar,
    )
    _mark_nonfinite(figure, 1, matrix, theme)
    inside = [
        s for s in spikes if row <= s.row < row + rows and column <= s.column < column + columns
    ]
    _ring_spikes(figure, inside, matrix, layout, theme)
    _count_nonfinite(figure, matrix, histogram, theme)
    _number_axes(figure, 1, matrix, layout, _Box(0, 1, 0, height), width)
    add_shapes(figure, [_frame(1, theme)])
    figure.update_xaxes(title={"text": layout.axis_titles[1]})
    figure.update_yaxes(title={"text": layout.axis_titles[0]})
    return figure


def _ring_spikes(
    figure: go.Figure,
    spikes: Sequence[Spike],
    matrix: ReducedMatrix,
    layout: MatrixLayout,
    theme: Theme,
) -> None:
    figure.add_scatter(
        x=[s.column for s in spikes],
        y=[s.row for s in spikes],
        mode="markers",
        marker={
            "symbol": "circle-open",
            "size": 16,
            "color": theme.ink,
            "line": {"width": 2},
        },
        hoverinfo="skip",
        unselected=UNFADED,
    )
    tags = []
    for spike in spikes:
        index = layout.index_at(spike.row, spike.column)
        place = ", ".join(map(str, index or ()))
        text = f"<b>{signed(spike.value)}</b> at [{place}]"
        tags.append(_tag(text, spike.column, spike.row, matrix, theme.ink, theme))
    add_labels(figure, tags)


def _count_nonfinite(
    figure: go.Figure, matrix: ReducedMatrix, histogram: Histogram, theme: Theme
) -> None:
    rows, columns = np.nonzero(matrix.nan | matrix.infinite)
    if not rows.size:
        return
    # Beside the first patch; the others are seen by their hatching.
    row = matrix.origin[0] + int(rows[0]) * matrix.steps[0]
    column = matrix.origin[1] + int(columns[0]) * matrix.steps[1]
    count = histogram.nan + histogram.infinite
    text = f"<b>{count:,}</b> {'cell' if count == 1 else 'cells'} not finite"
    add_labels(figure, [_tag(text, column, row, matrix, theme.failure, theme)])


def _tag(
    text: str, x: float, y: float, matrix: ReducedMatrix, colour: str, theme: Theme
) -> dict[str, Any]:
    """A label with a background beside a cell, on the side where there is room."""
    share = (x - matrix.origin[1]) / max(1, matrix.extent[1])
    return label(
        text,
        x,
        y,
        xanchor="left" if share < 0.6 else "right",
        xshift=14 if share < 0.6 else -14,
        colour=colour,
        bgcolor=theme.page,
        bordercolor=theme.rule,
        borderpad=3,
    )


def minimap(
    matrix: ReducedMatrix,
    window: tuple[int, int, int, int],
    limit: float,
    theme: Theme,
    *,
    width: int = 320,
) -> go.Figure:
    """The whole tensor, small, and the window that is looked at.

    Parameters
    ----------
    matrix : ReducedMatrix
        The whole matrix; 128 cells an axis are enough.
    window : (first row, end row, first column, end column)
        Ends exclusive, in cells of the whole matrix.
    limit : float
        The colours reach from −limit to +limit.
    theme : Theme
    width : int
        About how many pixels there will be; decides the height, nothing else.
    """
    rows, columns = matrix.extent
    height = min(max(width * rows / max(1, columns), 48), 260)
    figure = blank_figure(theme, height, l=2, r=2, t=2, b=2)
    figure.add_heatmap(
        z=_finite_cells(matrix),
        **_positions(matrix),
        zmin=-limit,
        zmax=limit,
        colorscale=colourscale(theme.diverging),
        showscale=False,
        hoverinfo="skip",
        hoverongaps=False,
    )
    top, bottom, left, right = window
    corners = (left - 0.5, right - 0.5, top - 0.5, bottom - 0.5)
    here = _box(corners, line={"color": theme.aggregate, "width": 2})
    add_shapes(figure, [_frame(1, theme), here])
    figure.update_xaxes(visible=False, range=[-0.5, columns - 0.5])
    figure.update_yaxes(visible=False, range=[rows - 0.5, -0.5])
    return figure


def histogram_figure(histogram: Histogram, theme: Theme) -> go.Figure:
    """How often each value occurs; end bars in the end colours hold what is clipped."""
    figure = blank_figure(theme, 116, l=20, r=20, t=4, b=24)
    _draw_histogram(figure, 1, histogram, theme)
    limit = float(histogram.edges[-1])
    ticks = [-limit, 0.0, limit]
    figure.update_xaxes(tickvals=ticks, ticktext=[short_number(value) for value in ticks])
    figure.update_layout(bargap=0.06)
    return figure


def contribution_bars(
    client_ids: Sequence[str],
    contributions: NDArray[Any] | Sequence[float],
    total: float,
    theme: Theme,
    *,
    most: int = 20,
) -> go.Figure:
    """Which client moved a cell of the aggregate, and by how much.

    Parameters
    ----------
    client_ids : sequence of str
    contributions : array of shape (clients,)
        Each client's weight × (client − server); NaN where that is not finite.
    total : float
        How far the aggregate moved.
    theme : Theme
    most : int
        Bars for clients; of more clients those that contribute least are summed in one bar.
    """
    names, values = _largest_first(client_ids, np.asarray(contributions, np.float64), most)
    places = [*range(len(names)), len(names) + 0.4]
    figure = blank_figure(
        theme, 24 * (len(names) + 1) + 22, l=14 + _widest([*names, "aggregate"]), r=8, t=4, b=4
    )
    figure.add_bar(
        x=values,
        y=places[:-1],
        orientation="h",
        width=0.62,
        marker={
            "color": [theme.positive if value > 0 else theme.negative for value in values],
            "line": {"width": 0},
        },
        customdata=[escaped(name) for name in names],
        hovertemplate="%{customdata}: %{x:+.4~g}<extra></extra>",
    )
    figure.add_bar(
        x=[total],
        y=places[-1:],
        orientation="h",
        width=0.62,
        marker={"color": theme.aggregate, "line": {"width": 0}},
        hovertemplate="aggregate: %{x:+.4~g}<extra></extra>",
    )
    sums = [
        label(signed(value), _tip(value), place, xshift=5, colour=theme.sub, size=11)
        for place, value in zip(places[:-1], values, strict=True)
    ]
    text = f"<b>{signed(total)}</b>"
    whole = label(text, _tip(total), places[-1], xshift=5, colour=theme.aggregate)
    add_labels(figure, [*sums, whole])
    finite = [value for value in (*values, total, 0.0) if np.isfinite(value)]
    span = max(finite) - min(finite) or 1.0
    figure.update_xaxes(
        range=[min(finite) - 0.03 * span, max(finite) + 0.24 * span],
        showticklabels=False,
        showgrid=False,
        zeroline=True,
        zerolinecolor=theme.rule,
    )
    figure.update_yaxes(
        tickvals=places,
        ticktext=[*(escaped(name) for name in names), "<b>aggregate</b>"],
        range=[len(names) + 1, -0.7],
        showgrid=False,
    )
    return figure


def _largest_first(
    client_ids: Sequence[str], values: NDArray[np.float64], most: int
) -> tuple[list[str], list[float]]:
    magnitude = np.where(np.isfinite(values), np.abs(values), np.inf)
    order = np.argsort(-magnitude, kind="stable")
    shown = order if len(order) <= most else order[: most - 1]
    names = [middle_ellipsis(client_ids[i], 18) for i in shown]
    numbers = [float(values[i]) for i in shown]
    if len(shown) < len(order):
        names.append(counted(len(order) - len(shown), "other"))
        numbers.append(float(values[order[len(shown) :]].sum()))
    return names, numbers


def _widest(names: Iterable[str]) -> float:
    return max((text_width(name, 11.5) for name in names), default=0.0)


def _tip(value: float) -> float:
    """Where the label of a bar begins: right of it, also where the bar points left."""
    return max(value, 0.0) if np.isfinite(value) else 0.0
