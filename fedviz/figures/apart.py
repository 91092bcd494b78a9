"""Each client's score, and how far it is from the model that all began with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fedviz.figures.layout import (
    add_labels,
    add_shapes,
    blank_figure,
    even_ticks,
    label,
    text_width,
)
from fedviz.figures.text import decimals, escaped, middle_ellipsis, percentage, short_number
from fedviz.figures.theme import Theme

__all__ = ["scores_apart"]

_ROW = 34


def scores_apart(
    client_ids: Sequence[str],
    scores: NDArray[Any] | Sequence[float],
    colours: Sequence[str],
    theme: Theme,
    *,
    before: float | None = None,
    is_share: bool = True,
    title: str = "",
) -> go.Figure:
    """A row for each client, in the order given: a line from where all began to where it ended.

    Parameters
    ----------
    client_ids : sequence of str
    scores : array of shape (clients,)
        NaN where a client was not measured.
    colours : sequence of str
        The clients' own.
    theme : Theme
    before : float, optional
        Of the model that all began with: a dotted line.
    is_share : bool
        Whether scores are written as percentages.
    title : str
        Of the axis; plain text.

    Returns
    -------
    Figure
        One trace with a dot for each client.
    """
    values = np.asarray(scores, dtype=np.float64)
    names = [middle_ellipsis(client, 16) for client in client_ids]
    known = [v for v in [*values, before] if v is not None and np.isfinite(v)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.05
    low, high = low - margin, high + margin
    if is_share:
        low, high = max(low, -0.01), min(high, 1.01)
    rows = len(names)
    figure = blank_figure(
        theme,
        rows * _ROW + 78,
        l=16 + max((text_width(name, 13) for name in names), default=0.0),
        r=64,
        t=30,
        b=48,
    )
    figure.add_scatter(
        x=values,
        y=list(range(rows)),
        mode="markers",
        cliponaxis=False,
        marker={"size": 13, "color": list(colours), "opacity": 1, "line": {"width": 0}},
        customdata=[escaped(client) for client in client_ids],
        hovertemplate="%{customdata} alone: %{x:.3f}<extra></extra>",
    )
    _draw_start(figure, values, colours, before, theme)
    add_labels(
        figure,
        [
            label(_text(value, is_share), 1, i, xref="paper", xshift=10, colour=theme.ink, size=13)
            for i, value in enumerate(values)
            if np.isfinite(value)
        ],
    )
    ticks = even_ticks(low, high, most=7)
    figure.update_xaxes(
        range=[low, high],
        tickvals=ticks,
        ticktext=[percentage(t, 0) if is_share else short_number(t) for t in ticks],
        title={"text": escaped(title)},
    )
    figure.update_yaxes(
        range=[rows - 0.4, -0.6],
        tickvals=list(range(rows)),
        ticktext=[escaped(name) for name in names],
        showgrid=False,
        tickfont={"size": 13, "color": theme.ink},
    )
    return figure


def _text(value: float, is_share: bool) -> str:
    return percentage(value, 0) if is_share else decimals(value)


def _draw_start(
    figure: go.Figure,
    values: NDArray[np.float64],
    colours: Sequence[str],
    before: float | None,
    theme: Theme,
) -> None:
    if before is None or not np.isfinite(before):
        return
    moves = [
        {
            "type": "line",
            "x0": before,
            "x1": value,
            "y0": i,
            "y1": i,
            "layer": "between",
            "line": {"color": colours[i], "width": 2},
        }
        for i, value in enumerate(values)
        if np.isfinite(value)
    ]
    start = {
        "type": "line",
        "x0": before,
        "x1": before,
        "y0": -0.6,
        "y1": len(values) - 0.4,
        "line": {"color": theme.server, "width": 1.5, "dash": "dot"},
    }
    add_shapes(figure, [*moves, start])
    name = label(
        "where all began", before, -0.6, xanchor="center", yshift=12, colour=theme.ink, size=12
    )
    add_labels(figure, [name])
