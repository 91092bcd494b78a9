"""A few models' weights side by side, without axes: for people who only want to see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from numpy.typing import NDArray

from fedviz.figures.layout import add_labels, blank_figure, label
from fedviz.figures.text import escaped, middle_ellipsis
from fedviz.figures.theme import Theme, colourscale

__all__ = ["WeightsPanel", "weights_side_by_side"]

_HEIGHT, _GAP = 380, 0.03


@dataclass(frozen=True, eq=False)
class WeightsPanel:
    """One model's weights.

    Parameters
    ----------
    title : str
        Plain text.
    colour : str
        Of the square before it.
    values : ndarray of shape (rows, columns), float32
    limit : float
        Its colours reach from −limit to +limit.
    """

    title: str
    colour: str
    values: NDArray[Any]
    limit: float


def weights_side_by_side(panels: Sequence[WeightsPanel], theme: Theme) -> go.Figure:
    """Heatmaps of one size, a title above each.

    Parameters
    ----------
    panels : sequence of WeightsPanel
        One or more.
    theme : Theme

    Returns
    -------
    Figure
        One heatmap for each panel.
    """
    count = len(panels)
    share = (1 - _GAP * (count - 1)) / count
    figure = blank_figure(theme, _HEIGHT, l=4, r=4, t=34, b=6)
    axes: dict[str, Any] = {}
    for k, panel in enumerate(panels, 1):
        left = (k - 1) * (share + _GAP)
        suffix = "" if k == 1 else str(k)
        axes[f"xaxis{k}"] = {
            "domain": [left, min(1.0, left + share)],
            "visible": False,
            "anchor": f"y{suffix}",
        }
        axes[f"yaxis{k}"] = {"visible": False, "autorange": "reversed", "anchor": f"x{suffix}"}
        figure.add_heatmap(
            z=panel.values,
            xaxis=f"x{suffix}",
            yaxis=f"y{suffix}",
            zmin=-panel.limit,
            zmax=panel.limit,
            colorscale=colourscale(theme.diverging),
            showscale=False,
            name=escaped(panel.title),
            hovertemplate="%{z:.3f}<extra>%{fullData.name}</extra>",
        )
    figure.update_layout(axes)
    titles = [
        label(
            f"<span style='color:{panel.colour}'>■</span> "
            f"<b>{escaped(middle_ellipsis(panel.title, 30))}</b>",
            (k * (share + _GAP)),
            1,
            xref="paper",
            yref="paper",
            yshift=16,
            colour=theme.ink,
            size=14,
        )
        for k, panel in enumerate(panels)
    ]
    add_labels(figure, titles)
    return figure
