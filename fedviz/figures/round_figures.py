"""Tensors over the rounds: lines for each tensor, and small multiples of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fedviz.analysis.heatmap import MatrixLayout
from fedviz.analysis.reduction import ReducedMatrix
from fedviz.figures.cells import (
    axis_name,
    box_shape,
    cell_positions,
    finite_cells,
    in_domain,
)
from fedviz.figures.colour_range import weights_range
from fedviz.figures.layout import (
    UNFADED,
    add_labels,
    add_shapes,
    blank_figure,
    even_ticks,
    label,
    text_width,
)
from fedviz.figures.special_cells import mark_nonfinite
from fedviz.figures.text import escaped, middle_ellipsis, short_number
from fedviz.figures.theme import Theme

__all__ = ["small_multiples", "tensor_courses"]

_HEIGHT = 210
_MOST_TICKS = 8
_GAP, _TITLE, _TALLEST = 0.012, 22, 240


def tensor_courses(
    rounds: Sequence[int],
    values: NDArray[np.float64],
    names: Sequence[str],
    theme: Theme,
    *,
    band: NDArray[np.float64] | None = None,
    selected: str = "",
    shown_round: int | None = None,
    is_share: bool = True,
) -> go.Figure:
    """One line for each tensor (or client) over the rounds; the selected one in ink and named.

    Parameters
    ----------
    rounds : sequence of int
    values : ndarray of shape (rounds, names)
        NaN leaves a gap.
    names : sequence of str
    theme : Theme
    band : ndarray of shape (2, rounds), optional
        Between which most lie, of which not all have a line.
    selected : str, optional
    shown_round : int, optional
        Marked by a vertical line.
    is_share : bool
        Whether values are shares, shown in per cent.

    Returns
    -------
    Figure
        One trace for each name, the selected one last; its ``customdata`` is the name. Before
        them the two edges of the band.
    """
    margin = 16 + text_width(middle_ellipsis(selected, 18), 12) if selected in names else 12
    figure = blank_figure(theme, _HEIGHT, l=52, r=margin, t=10, b=30)
    order = sorted(range(len(names)), key=lambda i: names[i] == selected)
    form = ".2%" if is_share else ".4~g"
    if band is not None:
        _draw_band(figure, rounds, band, theme)
    for i in order:
        is_chosen = names[i] == selected
        colour = theme.ink if is_chosen else theme.faint
        figure.add_scatter(
            x=list(rounds),
            y=values[:, i],
            mode="lines+markers",
            line={"color": colour, "width": 2.25 if is_chosen else 1},
            marker={"size": 6 if is_chosen else 4, "color": colour, "line": {"width": 0}},
            opacity=1 if is_chosen else 0.7,
            name=escaped(names[i]),
            customdata=[names[i]] * len(rounds),
            hovertemplate=f"{escaped(names[i])}, round %{{x}}: %{{y:{form}}}<extra></extra>",
            connectgaps=False,
            cliponaxis=False,
            unselected=UNFADED,
        )
        if is_chosen:
            _name_line(figure, values[:, i], names[i], theme)
    _number(figure, rounds, values, is_share=is_share)
    if shown_round is not None:
        line = {"color": theme.aggregate, "width": 1.5, "dash": "dot"}
        place = {"x0": shown_round, "x1": shown_round, "y0": 0, "y1": 1, "yref": "paper"}
        add_shapes(figure, [{"type": "line", "layer": "below", "line": line, **place}])
    figure.update_layout(clickmode="event+select")
    return figure


def _draw_band(
    figure: go.Figure, rounds: Sequence[int], band: NDArray[np.float64], theme: Theme
) -> None:
    for edge, fill in zip(band, (None, "tonexty"), strict=True):
        figure.add_scatter(
            x=list(rounds),
            y=edge,
            mode="lines",
            line={"width": 0},
            fill=fill,
            fillcolor=theme.rule,
            hoverinfo="skip",
            showlegend=False,
            name="band",
        )


def _name_line(figure: go.Figure, course: NDArray[np.float64], name: str, theme: Theme) -> None:
    finite = course[np.isfinite(course)]
    if finite.size:
        text = f"<b>{escaped(middle_ellipsis(name, 18))}</b>"
        end = label(text, 1, float(finite[-1]), xref="paper", xshift=8, colour=theme.ink)
        add_labels(figure, [end])


def _number(
    figure: go.Figure, rounds: Sequence[int], values: NDArray[np.float64], *, is_share: bool
) -> None:
    step = -(-len(rounds) // _MOST_TICKS)
    margin = 0.02 * (rounds[-1] - rounds[0]) or 0.5
    shown = list(rounds[::step])
    figure.update_xaxes(
        range=[rounds[0] - margin, rounds[-1] + margin],
        tickvals=shown,
        ticktext=[f"round {n}" if i == 0 else str(n) for i, n in enumerate(shown)],
        showgrid=False,
    )
    finite = values[np.isfinite(values)]
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    ticks = even_ticks(0.0, top * 1.05, most=5)
    texts = [f"{100 * tick:.3g}%" if is_share else short_number(tick) for tick in ticks]
    # A little below 0, or the first numbers of both axes would touch.
    figure.update_yaxes(range=[-0.06 * top, top * 1.08], tickvals=ticks, ticktext=texts)


def small_multiples(
    panels: Sequence[tuple[int, ReducedMatrix | None]],
    limit: float,
    layout: MatrixLayout,
    theme: Theme,
    *,
    shown_round: int | None = None,
    width: int = 1200,
) -> go.Figure:
    """One tensor in several rounds, small, on one scale.

    Parameters
    ----------
    panels : sequence of (round, ReducedMatrix or None)
        None where the round has no such values, or cannot be read: its place says so.
    limit : float
        The colours reach from −limit to +limit.
    layout : MatrixLayout
    theme : Theme
    shown_round : int, optional
        Framed in the aggregate's colour.
    width : int
        About how many pixels there will be; decides the height, nothing else.
    """
    aspect = layout.shape[0] / max(1, layout.shape[1])
    per_row = min(len(panels), 12 if aspect > 1.2 else 8 if aspect > 0.4 else 4)
    share = (1 - _GAP * (per_row - 1)) / per_row
    high = min(max(width * share * aspect, 26), _TALLEST)
    lines = -(-len(panels) // per_row)
    height = lines * (high + _TITLE) + 4
    figure = blank_figure(theme, height, l=4, r=4, t=0, b=4)
    labels, boxes = [], []
    for k, (number, matrix) in enumerate(panels, 1):
        line, column = divmod(k - 1, per_row)
        left, top = column * (share + _GAP), line * (high + _TITLE) + _TITLE
        figure.update_layout(
            {
                f"xaxis{k}": {
                    "domain": [left, min(1.0, left + share)],
                    "anchor": axis_name("y", k),
                    "visible": False,
                    "range": [-0.5, layout.shape[1] - 0.5],
                },
                f"yaxis{k}": {
                    "domain": [max(0.0, 1 - (top + high) / height), 1 - top / height],
                    "anchor": axis_name("x", k),
                    "visible": False,
                    "range": [layout.shape[0] - 0.5, -0.5],
                },
            }
        )
        is_shown = number == shown_round
        text = f"<b>round {number}</b>" if is_shown else f"round {number}"
        colour = theme.aggregate if is_shown else theme.sub
        labels.append(label(text, 0, 1, **in_domain(k), yshift=10, colour=colour, size=11))
        _draw(figure, k, number, matrix, theme)
        if matrix is None:
            labels.append(
                label("none", 0.5, 0.5, **in_domain(k), xanchor="center", colour=theme.sub, size=11)
            )
        line_style = {"color": theme.aggregate if is_shown else theme.rule, "width": 1 + is_shown}
        boxes.append(box_shape((0, 1, 0, 1), **in_domain(k), line=line_style))
    add_labels(figure, labels)
    add_shapes(figure, boxes)
    scale = weights_range(limit, theme).on_axis
    figure.update_layout(coloraxis={**scale, "showscale": False}, bargap=0, barmode="overlay")
    return figure


def _draw(
    figure: go.Figure, k: int, number: int, matrix: ReducedMatrix | None, theme: Theme
) -> None:
    # A place without values has an empty heatmap: its axes are there all the same.
    cells = np.full((1, 1), np.nan, np.float32) if matrix is None else finite_cells(matrix)
    figure.add_heatmap(
        z=cells,
        **({} if matrix is None else cell_positions(matrix)),
        coloraxis="coloraxis",
        xaxis=axis_name("x", k),
        yaxis=axis_name("y", k),
        hovertemplate=f"round {number}: <b>%{{z:.4~g}}</b><extra></extra>",
        hoverongaps=False,
    )
    if matrix is not None:
        mark_nonfinite(figure, k, matrix, theme)
