"""One large tensor, or a window of it, with a small map of where that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from fedviz.analysis.heatmap import MatrixLayout
from fedviz.analysis.reduction import ReducedMatrix
from fedviz.analysis.scales import Histogram, Spike
from fedviz.figures.cells import (
    LEFT_MARGIN,
    RIGHT_MARGIN,
    Box,
    box_shape,
    cell_positions,
    colour_bar,
    draw_cells,
    draw_histogram,
    finite_cells,
    frame,
    mark_nonfinite,
    number_axes,
    select_box,
)
from fedviz.figures.layout import (
    UNFADED,
    add_labels,
    add_shapes,
    blank_figure,
    label,
)
from fedviz.figures.text import (
    short_number,
    signed,
)
from fedviz.figures.theme import Theme, colourscale

__all__ = ["histogram_figure", "large_heatmap", "minimap"]


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
    height = min(max((width - LEFT_MARGIN - RIGHT_MARGIN) * rows / max(1, columns), 160), 600)
    figure = blank_figure(theme, height + 52, l=LEFT_MARGIN + 4, r=RIGHT_MARGIN, t=8, b=44)
    figure.update_layout(bargap=0, barmode="overlay", **select_box(theme))
    bar = {**colour_bar(limit, theme), "len": 1, "y": 0.5, "ypad": 0}
    draw_cells(
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
    mark_nonfinite(figure, 1, matrix, theme)
    inside = [
        s for s in spikes if row <= s.row < row + rows and column <= s.column < column + columns
    ]
    _ring_spikes(figure, inside, matrix, layout, theme)
    _count_nonfinite(figure, matrix, histogram, theme)
    number_axes(figure, 1, matrix, layout, Box(0, 1, 0, height), width)
    add_shapes(figure, [frame(1, theme)])
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
        z=finite_cells(matrix),
        **cell_positions(matrix),
        zmin=-limit,
        zmax=limit,
        colorscale=colourscale(theme.diverging),
        showscale=False,
        hoverinfo="skip",
        hoverongaps=False,
    )
    top, bottom, left, right = window
    corners = (left - 0.5, right - 0.5, top - 0.5, bottom - 0.5)
    here = box_shape(corners, line={"color": theme.aggregate, "width": 2})
    add_shapes(figure, [frame(1, theme), here])
    figure.update_xaxes(visible=False, range=[-0.5, columns - 0.5])
    figure.update_yaxes(visible=False, range=[rows - 0.5, -0.5])
    return figure


def histogram_figure(histogram: Histogram, theme: Theme) -> go.Figure:
    """How often each value occurs; end bars in the end colours hold what is clipped."""
    figure = blank_figure(theme, 116, l=20, r=20, t=4, b=24)
    draw_histogram(figure, 1, histogram, theme)
    limit = float(histogram.edges[-1])
    ticks = [-limit, 0.0, limit]
    figure.update_xaxes(tickvals=ticks, ticktext=[short_number(value) for value in ticks])
    figure.update_layout(bargap=0.06)
    return figure
