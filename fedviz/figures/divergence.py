"""Where clients differ: the distance of each client from the aggregate, tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fedviz.figures.layout import add_shapes, blank_figure, text_width
from fedviz.figures.text import decimals, distinct_names, escaped, middle_ellipsis, number
from fedviz.figures.theme import Theme, colour_at, colourscale, readable_on

__all__ = ["MOST_ROWS", "MOST_TENSORS", "divergence_figure"]

MOST_ROWS = 20
"""Clients that have a row of their own."""

MOST_TENSORS = 24
"""Tensors that have a column of their own."""

HIGHEST = 3.0
"""Where the colour scale ends at the latest: else one exploded client leaves nothing to see."""

_NAME_LIMIT = 18
_LETTERED_TENSORS = 8
_ROW, _USUAL_WIDTH, _RIGHT = 28, 450, 78


def divergence_figure(
    ratios: NDArray[Any],
    client_ids: Sequence[str],
    tensor_names: Sequence[str],
    theme: Theme,
    *,
    rest: str = "",
    selected: tuple[str, str] = ("", ""),
) -> go.Figure:
    """Clients × tensors on a sequential scale; the median client has 1.

    Over the cells lie transparent squares, whose ``customdata`` is ``[client, tensor]``.

    Parameters
    ----------
    ratios : ndarray of shape (rows, tensors)
        Distance over the median client's; NaN cells stay blank.
    client_ids : sequence of str
        One for each row but the last, where that is ``rest``.
    tensor_names : sequence of str
    theme : Theme
    rest : str
        Name of a last row that stands for all other clients; none by default.
    selected : tuple of 2 str
        Client and tensor whose cell is outlined.

    Returns
    -------
    Figure
        Traces, in this order: the cells, their numbers (where they have room), the squares.
    """
    names = [middle_ellipsis(c, _NAME_LIMIT) for c in client_ids] + ([rest] if rest else [])
    columns = distinct_names(tensor_names, 22)
    parts = [name.rpartition("/") for name in columns]
    flat = (max((text_width(n) for n in columns), default=0.0) + 8) * len(columns) < _USUAL_WIDTH
    turned = not flat and len(columns) > 6
    two_lines = not flat and not turned
    longest = max((text_width(name, 11) for name in columns), default=0.0)
    top = 14 + longest if turned else 40.0 if two_lines else 26.0
    figure = blank_figure(
        theme,
        top + _ROW * len(names) + 6,
        l=14 + max((text_width(name) for name in names), default=0.0),
        r=_RIGHT,
        t=top,
        b=6,
    )
    finite = ratios[np.isfinite(ratios)]
    high = float(np.clip(finite.max(initial=1.0), 1.2, HIGHEST))
    _draw_cells(figure, ratios, high, theme)
    if len(columns) <= _LETTERED_TENSORS:
        _draw_numbers(figure, ratios, high, theme)
    _draw_targets(figure, ratios, client_ids, tensor_names)
    _outline(figure, client_ids, tensor_names, selected, theme)
    figure.update_layout(clickmode="event+select")
    figure.update_xaxes(
        side="top",
        tickvals=list(range(len(columns))),
        ticktext=[
            f"{escaped(layer)}{slash}<br>{escaped(variable)}"
            if two_lines and layer
            else escaped(layer + slash + variable)
            for layer, slash, variable in parts
        ],
        range=[-0.5, len(columns) - 0.5],
        showgrid=False,
        tickangle=-90 if turned else 0,
        tickfont={"size": 11, "color": theme.ink},
    )
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[
            f"<b>{escaped(name)}</b>"
            if i < len(client_ids) and client_ids[i] == selected[0]
            else f"<i>{escaped(name)}</i>"
            if i == len(client_ids)
            else escaped(name)
            for i, name in enumerate(names)
        ],
        range=[len(names) - 0.5, -0.5],
        showgrid=False,
        tickfont={"size": 12, "color": theme.ink},
    )
    return figure


def _draw_cells(figure: go.Figure, ratios: NDArray[Any], high: float, theme: Theme) -> None:
    beyond = bool((ratios[np.isfinite(ratios)] > high).any())
    figure.add_heatmap(
        z=ratios.astype(np.float32),
        zmin=1,
        zmax=high,
        colorscale=colourscale(theme.sequential),
        xgap=2 if ratios.shape[1] <= MOST_TENSORS else 1,
        ygap=2,
        hoverinfo="skip",
        hoverongaps=False,
        colorbar={
            "thickness": 8,
            "len": min(1.0, 160 / max(1, _ROW * len(ratios))),
            "y": 1,
            "yanchor": "top",
            "x": 1,
            "xpad": 14,
            "outlinewidth": 0,
            "tickvals": [1, high],
            "ticktext": ["1 or less", f"{number(high, 2)}{' or more' if beyond else ''}"],
            "tickfont": {"size": 11, "color": theme.sub},
        },
    )


def _draw_numbers(figure: go.Figure, ratios: NDArray[Any], high: float, theme: Theme) -> None:
    rows, columns = np.nonzero(np.isfinite(ratios))
    values = ratios[rows, columns]
    shades = [colour_at(theme.sequential, (v - 1) / (high - 1)) for v in values]
    figure.add_scatter(
        x=columns,
        y=rows,
        mode="text",
        text=[decimals(value, 2) if value < 10 else number(value) for value in values],
        textfont={"size": 11, "color": [readable_on(shade) for shade in shades]},
        hoverinfo="skip",
        selected={"textfont": {"color": theme.ink}},
    )


def _draw_targets(
    figure: go.Figure, ratios: NDArray[Any], client_ids: Sequence[str], tensors: Sequence[str]
) -> None:
    rows, columns = np.nonzero(np.isfinite(ratios[: len(client_ids)]))
    invisible = {"marker": {"opacity": 0}}
    figure.add_scatter(
        x=columns,
        y=rows,
        mode="markers",
        marker={"symbol": "square", "size": _ROW, "opacity": 0},
        selected=invisible,
        unselected=invisible,
        customdata=[[client_ids[i], tensors[j]] for i, j in zip(rows, columns, strict=True)],
        hovertext=[
            f"<b>{escaped(client_ids[i])}</b> {escaped(tensors[j])}<br>"
            f"{number(float(ratios[i, j]))} × the median client's distance"
            for i, j in zip(rows, columns, strict=True)
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _outline(
    figure: go.Figure,
    client_ids: Sequence[str],
    tensors: Sequence[str],
    selected: tuple[str, str],
    theme: Theme,
) -> None:
    if selected[0] not in client_ids or selected[1] not in tensors:
        return
    i, j = list(client_ids).index(selected[0]), list(tensors).index(selected[1])
    box = {"x0": j - 0.5, "x1": j + 0.5, "y0": i - 0.5, "y1": i + 0.5}
    add_shapes(figure, [{"type": "rect", **box, "line": {"color": theme.aggregate, "width": 2}}])
