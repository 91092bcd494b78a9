"""Who is alike: the matrix of all pairs of clients, in the order of its dendrogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fedviz.figures.layout import add_labels, add_shapes, blank_figure, label, text_width
from fedviz.figures.text import counted, decimals, escaped, middle_ellipsis, number
from fedviz.figures.theme import Theme, colour_at, colourscale, readable_on

__all__ = ["MOST_CELLS", "SimilarityCells", "similarity_figure"]

MOST_CELLS = 60
"""Rows of cells that are drawn at most; more clients are folded into these."""

_MOST_NAMED = 32
_MOST_LETTERED = 14
_NAME_LIMIT = 12
_DENDROGRAM = 64
_RIGHT = 92


@dataclass(frozen=True)
class SimilarityCells:
    """What the matrix shows.

    Attributes
    ----------
    values : ndarray of shape (b, b)
        In the order of the dendrogram; NaN cells stay blank.
    groups : sequence of sequence of str
        The clients of each row of cells.
    pairs : sequence of sequence of tuple of 2 str
        The clients that a click on each cell selects.
    cuts : sequence of int
        Rows before which a cluster begins.
    lines : ndarray of shape (joins, 4, 2)
        Corners of the dendrogram's lines: place along the clients, from 0, and distance.
    measure : {"cosine", "distance"}
    """

    values: NDArray[Any]
    groups: Sequence[Sequence[str]]
    pairs: Sequence[Sequence[tuple[str, str]]]
    cuts: Sequence[int]
    lines: NDArray[Any]
    measure: Literal["cosine", "distance"] = "cosine"


def similarity_figure(
    cells: SimilarityCells, theme: Theme, *, selected: tuple[str, str] = ("", "")
) -> go.Figure:
    """The matrix with its dendrogram above it.

    Over the cells lie transparent squares, whose ``customdata`` is the pair of clients that a
    click selects.

    Parameters
    ----------
    cells : SimilarityCells
    theme : Theme
    selected : tuple of 2 str
        Clients A and B: their names are bold, their cell is outlined.

    Returns
    -------
    Figure
        Traces, in this order: the cells, their numbers (where they have room), the dendrogram, the
        squares.
    """
    count = len(cells.groups)
    names = [_name(group) for group in cells.groups]
    named = count <= _MOST_NAMED
    widest = max((text_width(name) for name in names), default=0.0) if named else 0.0
    top = 8 + _DENDROGRAM + (20 if named else 6)
    height = top + count * _row_height(count) + 6
    figure = blank_figure(theme, height, l=12 + widest, r=_RIGHT, t=8, b=6)
    matrix_share = (height - top - 6) / (height - 14)
    _draw_cells(figure, cells, theme)
    if count <= _MOST_LETTERED:
        _draw_numbers(figure, cells, theme)
    _draw_dendrogram(figure, cells, theme)
    _draw_targets(figure, cells)
    _draw_cuts(figure, cells, theme)
    _outline(figure, cells, selected, theme)
    ticks = [
        f"<b>{escaped(name)}</b>" if set(group) & set(selected) else escaped(name)
        for name, group in zip(names, cells.groups, strict=True)
    ]
    axis = {"tickvals": list(range(count)), "ticktext": ticks, "showgrid": False}
    font = {"size": 12 if count <= _MOST_LETTERED else 10, "color": theme.ink}
    figure.update_layout(
        clickmode="event+select",
        xaxis={
            **axis,
            "range": [-0.5, count - 0.5],
            "side": "top",
            "anchor": "y",
            "tickfont": font,
            "tickangle": 0 if count * (widest + 6) < 480 else -90,
            "showticklabels": named and count * 20 < 480,
        },
        yaxis={
            **axis,
            "range": [count - 0.5, -0.5],
            "domain": [0, matrix_share],
            "tickfont": font,
            "showticklabels": named,
        },
        yaxis2={
            "domain": [1 - _DENDROGRAM / (height - 14), 1],
            "range": _heights(cells),
            "showticklabels": False,
            "showgrid": False,
            "anchor": "x",
            "fixedrange": True,
        },
    )
    return figure


def _name(group: Sequence[str]) -> str:
    if len(group) == 1:
        return middle_ellipsis(group[0], _NAME_LIMIT)
    return f"{middle_ellipsis(group[0], 8)} +{len(group) - 1}"


def _row_height(count: int) -> float:
    return 32.0 if count <= _MOST_LETTERED else 16.0 if count <= _MOST_NAMED else 420 / count


def _scale(cells: SimilarityCells, theme: Theme) -> tuple[tuple[str, ...], float, float]:
    """Stops, lowest and highest value of the colour scale."""
    if cells.measure == "cosine":
        return theme.diverging, -1.0, 1.0
    finite = cells.values[np.isfinite(cells.values)]
    return theme.sequential, 0.0, float(finite.max(initial=0)) or 1.0


def _draw_cells(figure: go.Figure, cells: SimilarityCells, theme: Theme) -> None:
    stops, low, high = _scale(cells, theme)
    cosine = cells.measure == "cosine"
    gap = 1 if len(cells.groups) <= _MOST_NAMED else 0
    figure.add_heatmap(
        z=cells.values.astype(np.float32),
        zmin=low,
        zmax=high,
        colorscale=colourscale(stops),
        xgap=gap,
        ygap=gap,
        hoverinfo="skip",
        hoverongaps=False,
        colorbar={
            "thickness": 8,
            "len": 0.5,
            "y": 0.4,
            "x": 1,
            "xpad": 14,
            "outlinewidth": 0,
            "tickvals": [-1, 0, 1] if cosine else [0, high],
            "ticktext": ["−1 opposed", "0", "1 same way"] if cosine else ["0", number(high)],
            "tickfont": {"size": 11, "color": theme.sub},
        },
    )


def _draw_numbers(figure: go.Figure, cells: SimilarityCells, theme: Theme) -> None:
    stops, low, high = _scale(cells, theme)
    rows, columns = np.nonzero(np.isfinite(cells.values))
    values = cells.values[rows, columns]
    figure.add_scatter(
        x=columns,
        y=rows,
        mode="text",
        text=[_short(value, cells.measure) for value in values],
        textfont={
            "size": 11,
            "color": [readable_on(colour_at(stops, (v - low) / (high - low))) for v in values],
        },
        hoverinfo="skip",
        # Without a colour of its own for selected text plotly fades all the other text.
        selected={"textfont": {"color": theme.ink}},
    )


def _short(value: float, measure: str) -> str:
    if measure == "distance":
        return number(value, 2)
    return decimals(value, 2).replace("0.", ".", 1)


def _upper_joins(cells: SimilarityCells) -> NDArray[Any]:
    """The joins that are drawn: those of the highest branches, one for each row of cells."""
    highest = np.argsort(-cells.lines[:, 1, 1], kind="stable")[: max(0, len(cells.groups) - 1)]
    return cells.lines[highest]


def _heights(cells: SimilarityCells) -> list[float]:
    """Range of the dendrogram's axis: from 0, or from a little below the lowest join drawn."""
    joins = _upper_joins(cells)
    high = float(joins[..., 1].max(initial=0)) or 1.0
    low = float(joins[:, 1, 1].min(initial=high))
    whole = len(joins) == len(cells.lines)
    return [0.0 if whole else low - 0.15 * (high - low), 1.02 * high]


def _draw_dendrogram(figure: go.Figure, cells: SimilarityCells, theme: Theme) -> None:
    clients = sum(len(group) for group in cells.groups)
    joins = _upper_joins(cells)
    corners = np.full((len(joins), 5, 2), np.nan)
    corners[:, :4] = joins
    # Places count clients; the axis counts rows of cells.
    across = (corners[..., 0] + 0.5) * len(cells.groups) / max(1, clients) - 0.5
    figure.add_scatter(
        x=across.ravel(),
        y=corners[..., 1].ravel(),
        yaxis="y2",
        mode="lines",
        line={"color": theme.faint, "width": 1.2 if clients <= 100 else 0.7},
        hoverinfo="skip",
    )


def _draw_targets(figure: go.Figure, cells: SimilarityCells) -> None:
    rows, columns = np.nonzero(np.isfinite(cells.values))
    invisible = {"marker": {"opacity": 0}}
    figure.add_scatter(
        x=columns,
        y=rows,
        mode="markers",
        marker={"symbol": "square", "size": _row_height(len(cells.groups)), "opacity": 0},
        selected=invisible,
        unselected=invisible,
        customdata=[list(cells.pairs[i][j]) for i, j in zip(rows, columns, strict=True)],
        hovertext=[_hover(cells, i, j) for i, j in zip(rows, columns, strict=True)],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _hover(cells: SimilarityCells, i: int, j: int) -> str:
    one, other = cells.pairs[i][j]
    value = f"{cells.measure} {number(float(cells.values[i, j]))}"
    size = len(cells.groups[i]) * len(cells.groups[j])
    if size == 1:
        return f"<b>{escaped(one)}</b> and <b>{escaped(other)}</b><br>{value}"
    return (
        f"mean {value} of {counted(size, 'pair')}<br>"
        f"a click selects {escaped(one)} and {escaped(other)}"
    )


def _draw_cuts(figure: go.Figure, cells: SimilarityCells, theme: Theme) -> None:
    end = len(cells.groups) - 0.5
    stroke = {"color": theme.ink, "width": 1.5}
    lines = []
    for cut in cells.cuts:
        place = cut - 0.5
        lines.append({"x0": place, "x1": place, "y0": -0.5, "y1": end})
        lines.append({"x0": -0.5, "x1": end, "y0": place, "y1": place})
    add_shapes(figure, [{"type": "line", **ends, "line": stroke} for ends in lines])


def _outline(
    figure: go.Figure, cells: SimilarityCells, selected: tuple[str, str], theme: Theme
) -> None:
    places = {name: i for i, group in enumerate(cells.groups) for name in group}
    if not all(name in places for name in selected) or selected[0] == selected[1]:
        return
    one, other = places[selected[0]], places[selected[1]]
    stroke = {"color": theme.aggregate, "width": 2}
    boxes = [
        {"x0": j - 0.5, "x1": j + 0.5, "y0": i - 0.5, "y1": i + 0.5}
        for i, j in {(one, other), (other, one)}
    ]
    add_shapes(figure, [{"type": "rect", **box, "line": stroke} for box in boxes])
    if len(places) > _MOST_NAMED:
        texts = dict.fromkeys([(selected[0], one), (selected[1], other)])
        add_labels(
            figure,
            [
                label(
                    f"<b>{escaped(middle_ellipsis(name, _NAME_LIMIT))}</b>",
                    1,
                    place,
                    xref="paper",
                    xshift=4,
                    colour=theme.ink,
                    size=11,
                )
                for name, place in texts
            ],
        )
