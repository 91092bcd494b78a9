"""What every drawing of a matrix is made of: its cells, what is not finite, axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedviz.analysis.heatmap import MatrixLayout, Ticks
from fedviz.analysis.reduction import ReducedMatrix
from fedviz.analysis.scales import Histogram
from fedviz.figures.colour import symlog_place
from fedviz.figures.draft import Canvas
from fedviz.figures.text import (
    short_number,
)
from fedviz.figures.theme import Theme

__all__ = [
    "LEFT_MARGIN",
    "RIGHT_MARGIN",
    "Box",
    "axis_name",
    "box_shape",
    "cell_positions",
    "colour_bar",
    "draw_cells",
    "finite_cells",
    "frame",
    "in_domain",
    "index_axes",
    "nonfinite_text",
    "select_box",
]

# Pixels that a bar needs for five numbers one above the other.
_FIVE_NUMBERS = 80

LEFT_MARGIN, RIGHT_MARGIN = 52, 60


@dataclass(frozen=True)
class Box:
    """A place in the figure: shares of the width, pixels from the top."""

    left: float
    right: float
    top: float
    bottom: float


def axis_name(letter: str, k: int) -> str:
    """Plotly's name of the k-th axis: x, x2, x3 and so on."""
    return letter if k == 1 else f"{letter}{k}"


def select_box(theme: Theme) -> dict[str, Any]:
    """Layout in which a box can be dragged, drawn in the aggregate's colour."""
    return {
        "dragmode": "select",
        "newselection": {"line": {"color": theme.aggregate, "width": 2, "dash": "solid"}},
        "activeselection": {"fillcolor": theme.aggregate, "opacity": 0.12},
    }


def draw_cells(
    figure: Canvas,
    k: int,
    matrix: ReducedMatrix,
    layout: MatrixLayout,
    name: str,
    **colours: Any,
) -> None:
    """Add a matrix as a heatmap on the k-th axes, each cell at the tensor's own index."""
    names = _window_names(matrix, layout)
    figure.add_heatmap(
        z=finite_cells(matrix),
        text=names,
        **cell_positions(matrix),
        **colours,
        xaxis=axis_name("x", k),
        yaxis=axis_name("y", k),
        hovertemplate=_hover(matrix, layout, names is not None) + f"<extra>{name}</extra>",
        hoverongaps=False,
    )


def finite_cells(matrix: ReducedMatrix) -> NDArray[np.float32]:
    """The values to colour; a block that holds anything not finite is marked instead."""
    cells = np.where(matrix.nonfinite, np.nan, matrix.values)
    return cells.astype(np.float32)


def cell_positions(matrix: ReducedMatrix) -> dict[str, float]:
    """Where the first block lies and how far the next one is, for plotly's heatmap."""
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


def index_axes(
    k: int, matrix: ReducedMatrix, layout: MatrixLayout, box: Box, width: int
) -> dict[str, Any]:
    """Layout of a matrix's axes: ranges and ticks, in the tensor's own indices."""
    (row, column), (rows, columns) = matrix.origin, matrix.extent
    pixels = (box.right - box.left) * (width - LEFT_MARGIN - RIGHT_MARGIN)
    return {
        f"xaxis{k}": {
            "range": [column - 0.5, column + columns - 0.5],
            "showgrid": False,
            **_index_ticks(column, columns, layout.column_ticks, max(2, int(pixels / 38))),
        },
        f"yaxis{k}": {
            "range": [row + rows - 0.5, row - 0.5],
            "showgrid": False,
            **_index_ticks(row, rows, layout.row_ticks, max(2, int(box.bottom - box.top) // 44)),
        },
    }


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


def box_shape(corners: tuple[float, float, float, float], **options: Any) -> dict[str, Any]:
    """A rectangle (x0, x1, y0, y1) above the traces."""
    x0, x1, y0, y1 = corners
    return {"type": "rect", "x0": x0, "x1": x1, "y0": y0, "y1": y1, "layer": "above", **options}


def frame(k: int, theme: Theme) -> dict[str, Any]:
    """A thin border round the k-th axes."""
    return box_shape((0, 1, 0, 1), **in_domain(k), line={"color": theme.rule, "width": 1})


def in_domain(k: int) -> dict[str, str]:
    """References by which 0 to 1 is a panel, whatever its axes count."""
    return {"xref": f"{axis_name('x', k)} domain", "yref": f"{axis_name('y', k)} domain"}


def nonfinite_text(histogram: Histogram) -> str:
    """How many values are NaN, +∞ and −∞; empty where none is."""
    counts = (
        (histogram.nan, "NaN"),
        (histogram.positive_infinite, "+∞"),
        (histogram.negative_infinite, "−∞"),
    )
    return ", ".join(f"{count:,} {name}" for count, name in counts if count)


def colour_bar(
    limit: float, theme: Theme, *, is_symlog: bool = False, length: float = math.inf
) -> dict[str, Any]:
    """The bar of the shared scale, from −limit to +limit; a logarithmic one from −1 to 1.

    On one that is less than so many pixels long as five numbers need stand the ends alone.
    """
    ticks = [-limit, -limit / 2, 0.0, limit / 2, limit]
    names = [short_number(value) for value in ticks]
    if is_symlog:
        shares = (-1.0, -0.1, 0.0, 0.1, 1.0)
        names = [short_number(share * limit) for share in shares]
        ticks = [symlog_place(share) for share in shares]
    if length < _FIVE_NUMBERS:
        ticks, names = ticks[::4], names[::4]
    return {
        "thickness": 8,
        "x": 1.008,
        "xanchor": "left",
        "xpad": 0,
        "outlinewidth": 0,
        "ticks": "",
        "tickvals": ticks,
        "ticktext": [f" {name}" for name in names],
        "tickfont": {"size": 11, "color": theme.sub},
    }
