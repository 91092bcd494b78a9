"""Who moved a cell: bars of the clients' contributions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fedviz.figures.layout import (
    add_labels,
    blank_figure,
    label,
    text_width,
)
from fedviz.figures.text import (
    counted,
    escaped,
    middle_ellipsis,
    signed,
)
from fedviz.figures.theme import Theme

__all__ = ["contribution_bars"]


def contribution_bars(
    client_ids: Sequence[str],
    contributions: NDArray[Any] | Sequence[float],
    total: float,
    theme: Theme,
    *,
    most: int = 20,
    total_name: str = "aggregate",
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
    total_name : str
        What moved by the total.
    """
    names, values = _largest_first(client_ids, np.asarray(contributions, np.float64), most)
    places = [*range(len(names)), len(names) + 0.4]
    figure = blank_figure(
        theme, 24 * (len(names) + 1) + 22, l=14 + _widest([*names, total_name]), r=8, t=4, b=4
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
        hovertemplate=f"{total_name}: %{{x:+.4~g}}<extra></extra>",
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
        ticktext=[*(escaped(name) for name in names), f"<b>{total_name}</b>"],
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
