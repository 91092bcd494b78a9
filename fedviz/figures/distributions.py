"""How the values of several models are spread, over each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from fedviz.analysis.scales import Histogram
from fedviz.figures.layout import add_labels, blank_figure, label
from fedviz.figures.text import escaped, middle_ellipsis, short_number
from fedviz.figures.theme import Theme, blend

__all__ = ["Distribution", "overlaid_histograms"]

_HEIGHT = 210


@dataclass(frozen=True, eq=False)
class Distribution:
    """A model's histogram, its name, and its colour; one without a colour stays behind."""

    name: str
    histogram: Histogram
    colour: str | None = None


def overlaid_histograms(series: Sequence[Distribution], limit: float, theme: Theme) -> go.Figure:
    """Histograms as lines over each other, the clients' among them; the aggregate's is filled.

    Parameters
    ----------
    series : sequence of Distribution
        Their histograms have the same edges.
    limit : float
        The colours of the heatmaps reach from −limit to +limit; the axis too.
    theme : Theme
    """
    named = [each for each in series if each.colour is not None]
    figure = blank_figure(theme, _HEIGHT, l=8, r=8, t=26, b=24)
    behind = [each for each in series if each.colour is None]
    for each in (*behind, *named):
        _draw(figure, each, theme)
    add_labels(figure, [_key(named, theme)])
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


def _draw(figure: go.Figure, each: Distribution, theme: Theme) -> None:
    is_filled = each.colour == theme.aggregate
    figure.add_scatter(
        x=each.histogram.centres,
        y=each.histogram.shares * 100,
        mode="lines",
        line={
            "shape": "hvh",
            "width": 1 if each.colour is None else 1.75,
            "color": each.colour or blend(theme.faint, 0.5, theme.page),
        },
        fill="tozeroy" if is_filled else None,
        fillcolor=blend(theme.aggregate, 0.16, theme.page) if is_filled else None,
        name=escaped(middle_ellipsis(each.name, 24)),
        hovertemplate="%{y:.1f}%" if each.colour else None,
        hoverinfo=None if each.colour else "skip",
    )


def _key(series: Sequence[Distribution], theme: Theme) -> dict[str, object]:
    """All names in one line, each with its colour."""
    names = [
        f"<span style='color:{each.colour}'>■</span> {escaped(middle_ellipsis(each.name, 16))}"
        for each in series
    ]
    place = {"xref": "paper", "yref": "paper", "yanchor": "bottom", "yshift": 4}
    return label("   ".join(names), 0, 1, **place, colour=theme.sub, size=11)
