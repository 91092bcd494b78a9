"""Aggregators side by side: how far their models lie apart, and whom the mean follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fedviz.figures.layout import add_labels, blank_figure, label, text_width
from fedviz.figures.text import counted, distinct_names, escaped, middle_ellipsis, number
from fedviz.figures.theme import Theme, colour_at, colourscale, readable_on

__all__ = ["distance_cells", "influence_bars"]

_NAME_LIMIT = 26
_PITCH = 30
# Characters in one line of a column's heading: where there are few columns, and where many.
_LINE, _SHORT_LINE, _FEW_COLUMNS = 16, 9, 5


def distance_cells(
    distances: NDArray[Any],
    row_names: Sequence[str],
    column_names: Sequence[str],
    theme: Theme,
    *,
    chosen: str = "",
) -> go.Figure:
    """Distances as cells with their numbers; the darker, the further.

    Parameters
    ----------
    distances : ndarray of shape (rows, columns)
        Not negative. NaN leaves a cell empty. About 10 columns are legible.
    row_names, column_names : sequence of str
    theme : Theme
    chosen : str
        Name of a row that stands out.
    """
    values = np.asarray(distances, np.float64)
    rows = [middle_ellipsis(name, _NAME_LIMIT) for name in row_names]
    line = _SHORT_LINE if len(column_names) > _FEW_COLUMNS else _LINE
    columns = [_in_lines(name, line) for name in distinct_names(column_names, 2 * line)]
    lines = max((name.count("<br>") + 1 for name in columns), default=1)
    figure = blank_figure(
        theme,
        _PITCH * len(rows) + 14 * lines + 22,
        l=16 + max((text_width(name) for name in rows), default=0.0),
        r=8,
        t=14 * lines + 12,
        b=8,
    )
    finite = np.isfinite(values)
    highest = float(values[finite].max()) if finite.any() else 0.0
    figure.add_heatmap(
        z=np.where(finite, values, np.nan).astype(np.float32),
        zmin=0,
        zmax=highest or 1.0,
        colorscale=colourscale(theme.sequential),
        showscale=False,
        xgap=3,
        ygap=3,
        text=[[f"{escaped(row)}<br>{escaped(c)}" for c in column_names] for row in row_names],
        hovertemplate="%{text}<br>%{z:.4~g}<extra></extra>",
        hoverongaps=False,
    )
    _number_cells(figure, values, highest, theme)
    figure.update_xaxes(
        tickvals=list(range(len(columns))),
        ticktext=columns,
        side="top",
        showgrid=False,
        tickangle=0,
        tickfont={"size": 11, "color": theme.sub},
    )
    figure.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=[
            f"<b>{escaped(short)}</b>" if name == chosen else escaped(short)
            for name, short in zip(row_names, rows, strict=True)
        ],
        range=[len(rows) - 0.5, -0.5],
        showgrid=False,
        tickfont={"size": 12, "color": theme.ink},
    )
    return figure


def _in_lines(name: str, limit: int) -> str:
    """A heading of at most two short lines, broken where a name has its joints."""
    if len(name) <= limit:
        return escaped(name)
    joints = [i + 1 for i, c in enumerate(name[:-1]) if c == "/"]
    joints = joints or [i + 1 for i, c in enumerate(name[:-1]) if c in "-_ "]
    middle = min(joints or [len(name) // 2], key=lambda i: abs(i - len(name) / 2))
    return f"{escaped(name[:middle])}<br>{escaped(name[middle:])}"


def _number_cells(
    figure: go.Figure, values: NDArray[np.float64], highest: float, theme: Theme
) -> None:
    rows, columns = np.nonzero(np.isfinite(values))
    shown = values[rows, columns]
    figure.add_scatter(
        x=columns,
        y=rows,
        text=[number(float(value)) if value else "0" for value in shown],
        mode="text",
        textfont={
            "size": 11,
            # plotly's own choice of a text colour fails on the mid greys of the scale.
            "color": [
                readable_on(colour_at(theme.sequential, value / highest if highest else 0.0))
                for value in shown
            ],
        },
        hoverinfo="skip",
    )


def influence_bars(
    client_ids: Sequence[str],
    influence: NDArray[Any] | Sequence[float],
    theme: Theme,
    *,
    most: int = 16,
) -> go.Figure:
    """How far the mean moves when a client is left out, the most influential first.

    Parameters
    ----------
    client_ids : sequence of str
    influence : array of shape (clients,)
        Not negative; NaN where it is not defined.
    theme : Theme
    most : int
        Bars; of more clients a line says how many are left out.
    """
    values = np.asarray(influence, np.float64)
    order = np.argsort(-np.nan_to_num(values, nan=np.inf), kind="stable")[:most]
    names = [middle_ellipsis(client_ids[i], 18) for i in order]
    shown = values[order]
    hidden = len(values) - len(order)
    figure = blank_figure(
        theme,
        24 * (len(names) + (hidden > 0)) + 30,
        l=14 + max((text_width(name) for name in names), default=0.0),
        r=64,
        t=4,
        b=8,
    )
    lengths = np.where(np.isfinite(shown), shown, 0.0)
    figure.add_bar(
        x=lengths,
        y=list(range(len(names))),
        orientation="h",
        width=0.62,
        marker={"color": theme.faint, "line": {"width": 0}},
        customdata=[escaped(client_ids[i]) for i in order],
        hovertemplate="without %{customdata}: %{x:.4~g}<extra></extra>",
    )
    labels = [
        label(
            number(float(value)) if np.isfinite(value) else "not finite",
            float(length),
            row,
            xshift=6,
            colour=theme.ink if np.isfinite(value) else theme.failure,
            size=11,
        )
        for row, (value, length) in enumerate(zip(shown, lengths, strict=True))
    ]
    if hidden:
        text = f"{counted(hidden, 'other')}, each less"
        labels.append(label(text, 0, len(names), xshift=2, colour=theme.sub, size=11))
    add_labels(figure, labels)
    figure.update_xaxes(
        range=[0, 1.02 * float(lengths.max(initial=0.0)) or 1.0],
        showticklabels=False,
        showgrid=False,
    )
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[escaped(name) for name in names],
        range=[len(names) - 0.4 + (hidden > 0), -0.6],
        showgrid=False,
        tickfont={"size": 12, "color": theme.ink},
    )
    return figure
