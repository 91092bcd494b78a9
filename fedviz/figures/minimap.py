"""Where in a tensor a window lies."""

from __future__ import annotations

import plotly.graph_objects as go

from fedviz.analysis.reduction import ReducedMatrix
from fedviz.figures.cells import box_shape, cell_positions, finite_cells, frame
from fedviz.figures.colour_range import weights_range
from fedviz.figures.layout import add_shapes, blank_figure
from fedviz.figures.theme import Theme

__all__ = ["minimap"]


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
        **weights_range(limit, theme).on_heatmap,
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
