"""Which labels each client holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fedviz.figures.layout import add_labels, blank_figure, label, text_width
from fedviz.figures.text import escaped, middle_ellipsis
from fedviz.figures.theme import Theme, colour_at, colourscale, readable_on

__all__ = ["label_partition_figure"]

_MOST_NUMBERED_ROWS, _MOST_NUMBERED_COLUMNS = 40, 24
_MOST_CLIENT_NAMES, _MOST_CLASS_NAMES = 60, 32


def label_partition_figure(
    counts: NDArray[Any], client_ids: Sequence[str], class_names: Sequence[str], theme: Theme
) -> go.Figure:
    """Examples of each class that each client holds, and of all classes at the right.

    Parameters
    ----------
    counts : ndarray of shape (clients, classes), int
        A cell without examples stays empty.
    client_ids, class_names : sequence of str
    theme : Theme

    Returns
    -------
    Figure
        The cells, their numbers (up to 40 clients and 24 classes; hovering tells them always),
        and a bar for each client's total.
    """
    rows, columns = counts.shape
    pitch = _row_pitch(rows)
    names = [middle_ellipsis(client, 16) for client in client_ids]
    figure = blank_figure(
        theme,
        rows * pitch + 44,
        l=12 + max((text_width(name) for name in names), default=0.0),
        r=46,
        t=34,
        b=8,
    )
    figure.update_layout(
        xaxis={"domain": [0, 0.83], "side": "top"},
        xaxis2={"domain": [0.86, 1], "anchor": "y", "visible": False},
        bargap=0,
    )
    _draw_cells(figure, counts, client_ids, class_names, theme)
    if rows <= _MOST_NUMBERED_ROWS and columns <= _MOST_NUMBERED_COLUMNS:
        _draw_numbers(figure, counts, pitch, theme)
    _draw_totals(figure, counts, client_ids, theme)
    _name_axes(figure, names, class_names, pitch, theme)
    return figure


def _row_pitch(rows: int) -> float:
    return 26.0 if rows <= 16 else 20.0 if rows <= _MOST_NUMBERED_ROWS else 11.0


def _draw_cells(
    figure: go.Figure,
    counts: NDArray[Any],
    client_ids: Sequence[str],
    class_names: Sequence[str],
    theme: Theme,
) -> None:
    rows, columns = counts.shape
    gap = 3 if columns <= 24 and rows <= 24 else 1
    figure.add_heatmap(
        z=np.where(counts > 0, counts, np.nan).astype(np.float32),
        zmin=0,
        zmax=max(1, int(counts.max(initial=0))),
        colorscale=colourscale(theme.sequential),
        showscale=False,
        xgap=gap,
        ygap=min(gap, 2),
        text=[
            [f"<b>{escaped(client)}</b>, label {escaped(name)}" for name in class_names]
            for client in client_ids
        ],
        hovertemplate="%{text}<br>%{z:,} examples<extra></extra>",
        hoverongaps=False,
    )


def _draw_numbers(figure: go.Figure, counts: NDArray[Any], pitch: float, theme: Theme) -> None:
    clients, classes = np.nonzero(counts > 0)
    values = counts[clients, classes]
    highest = max(1, int(counts.max(initial=0)))
    # plotly's own choice of a text colour fails on the mid greys of the scale.
    colours = [readable_on(colour_at(theme.sequential, value / highest)) for value in values]
    figure.add_scatter(
        x=classes,
        y=clients,
        text=[f"{value:,}" for value in values],
        mode="text",
        textfont={"size": 11 if pitch > 20 else 10, "color": colours},
        hoverinfo="skip",
    )


def _draw_totals(
    figure: go.Figure, counts: NDArray[Any], client_ids: Sequence[str], theme: Theme
) -> None:
    totals = counts.sum(axis=1)
    figure.add_bar(
        x=totals,
        y=list(range(len(totals))),
        orientation="h",
        width=0.5,
        xaxis="x2",
        yaxis="y",
        marker={"color": theme.faint, "line": {"width": 0}},
        customdata=[escaped(client) for client in client_ids],
        hovertemplate="%{customdata}: %{x:,} examples<extra></extra>",
    )
    figure.update_layout(xaxis2={"range": [0, max(1, int(totals.max(initial=0)))]})
    head = label(
        "examples", 0.86, 1, xref="paper", yref="paper", yshift=12, colour=theme.sub, size=11
    )
    sums = [
        label(f"{totals[i]:,}", int(totals[i]), i, xref="x2", xshift=5, colour=theme.sub, size=11)
        for i in _named_rows(len(totals))
    ]
    add_labels(figure, [head, *sums])


def _named_rows(rows: int) -> range:
    return range(0, rows, -(-rows // _MOST_CLIENT_NAMES)) if rows else range(0)


def _name_axes(
    figure: go.Figure, names: Sequence[str], class_names: Sequence[str], pitch: float, theme: Theme
) -> None:
    rows, columns = len(names), len(class_names)
    is_terse = all(len(name) == 1 for name in class_names)
    step = max(1, -(-columns // (_MOST_CLASS_NAMES * (1 + is_terse))))
    shown = range(0, columns, step)
    figure.update_layout(
        xaxis={
            "tickvals": list(shown),
            "ticktext": [escaped(middle_ellipsis(class_names[j], 10)) for j in shown],
            "range": [-0.5, columns - 0.5],
            "showgrid": False,
            "tickfont": {"size": 12 if columns <= 24 else 10, "color": theme.ink},
        }
    )
    figure.update_yaxes(
        tickvals=list(_named_rows(rows)),
        ticktext=[escaped(names[i]) for i in _named_rows(rows)],
        range=[rows - 0.5, -0.5],
        showgrid=False,
        tickfont={"size": 12 if pitch > 20 else 10, "color": theme.ink},
    )
