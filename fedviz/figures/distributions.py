"""How the values of several models are spread, over each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from fedviz.analysis.scales import ClientHistograms, Histogram
from fedviz.figures.layout import add_labels, blank_figure, label
from fedviz.figures.text import escaped, middle_ellipsis, short_number
from fedviz.figures.theme import Theme, blend

__all__ = ["Distribution", "overlaid_histograms"]

_HEIGHT = 210


@dataclass(frozen=True, eq=False)
class Distribution:
    """A model's histogram, its name, and its colour."""

    name: str
    histogram: Histogram
    colour: str


def overlaid_histograms(
    series: Sequence[Distribution],
    clients: ClientHistograms | None,
    limit: float,
    theme: Theme,
) -> go.Figure:
    """Histograms as lines over those of all clients; the aggregate's is filled.

    Parameters
    ----------
    series : sequence of Distribution
        Their histograms have the same edges.
    clients : ClientHistograms, optional
        In the same bins.
    limit : float
        The colours of the heatmaps reach from −limit to +limit; the axis too.
    theme : Theme

    Returns
    -------
    Figure
        At first what the clients have together: one trace of thin lines, or one for each band.
        Then one trace for each of ``series``, in their order.
    """
    figure = blank_figure(theme, _HEIGHT, l=8, r=8, t=26, b=24)
    if clients is not None:
        _draw_curves(figure, clients, theme)
        _draw_bands(figure, clients, theme)
    for each in series:
        _draw(figure, each, theme)
    add_labels(figure, [_key(series, theme)])
    ticks = [-limit, -limit / 2, 0.0, limit / 2, limit]
    figure.update_xaxes(
        range=[-1.08 * limit, 1.08 * limit],
        tickvals=ticks,
        ticktext=[short_number(value) for value in ticks],
        showgrid=False,
        showline=True,
    )
    figure.update_yaxes(visible=False, rangemode="tozero")
    figure.update_layout(hovermode="x unified")
    return figure


def _draw_curves(figure: go.Figure, clients: ClientHistograms, theme: Theme) -> None:
    """All in one trace, with a gap behind each: a trace is what costs a browser time."""
    count = len(clients.curves)
    if not count:
        return
    x = np.tile(np.append(clients.centres, np.nan), count)
    y = np.pad(clients.curves * 100, ((0, 0), (0, 1)), constant_values=np.nan).reshape(-1)
    figure.add_scatter(
        x=x.astype("f4"),
        y=y.astype("f4"),
        mode="lines",
        line={"shape": "hvh", "width": 1, "color": blend(theme.faint, 0.5, theme.page)},
        name="clients",
        hoverinfo="skip",
    )


def _draw_bands(figure: go.Figure, clients: ClientHistograms, theme: Theme) -> None:
    for (low, high), share in zip(clients.bands, (0.22, 0.45), strict=False):
        figure.add_scatter(
            x=np.concatenate([clients.centres, clients.centres[::-1]]),
            y=np.concatenate([low, high[::-1]]) * 100,
            mode="lines",
            line={"shape": "hvh", "width": 0},
            fill="toself",
            fillcolor=blend(theme.faint, share, theme.page),
            name="clients",
            hoverinfo="skip",
        )


def _draw(figure: go.Figure, each: Distribution, theme: Theme) -> None:
    is_filled = each.colour == theme.aggregate
    figure.add_scatter(
        x=each.histogram.centres,
        y=each.histogram.shares * 100,
        mode="lines",
        line={"shape": "hvh", "width": 1.75, "color": each.colour},
        fill="tozeroy" if is_filled else None,
        fillcolor=_translucent(theme.aggregate) if is_filled else None,
        name=escaped(middle_ellipsis(each.name, 24)),
        hovertemplate="%{y:.1f}%",
    )


def _translucent(colour: str) -> str:
    """The clients behind it stay in sight."""
    channels = (str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
    return f"rgba({','.join(channels)},0.16)"


def _key(series: Sequence[Distribution], theme: Theme) -> dict[str, object]:
    """All names in one line, each with its colour."""
    names = [
        f"<span style='color:{each.colour}'>■</span> {escaped(middle_ellipsis(each.name, 16))}"
        for each in series
    ]
    place = {"xref": "paper", "yref": "paper", "yanchor": "bottom", "yshift": 4}
    return label("   ".join(names), 0, 1, **place, colour=theme.sub, size=11)
