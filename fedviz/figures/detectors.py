"""How well detectors of outliers do against the ground truth: a ROC curve for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from fedviz.figures.layout import UNFADED, add_labels, add_shapes, blank_layout, label
from fedviz.figures.text import decimals, escaped
from fedviz.figures.theme import Theme, blend

__all__ = ["RocCurve", "roc_figure"]

_COLUMNS = 4
_PANEL = 150


@dataclass(frozen=True)
class RocCurve:
    """One detector: shares of false and of true positives as its threshold falls.

    ``at`` is the point of the threshold that is in use; ``is_chosen`` marks the score that the
    page shows.
    """

    name: str
    fpr: NDArray[Any]
    tpr: NDArray[Any]
    auc: float
    at: tuple[float, float]
    is_chosen: bool = False


def roc_figure(curves: Sequence[RocCurve], theme: Theme) -> go.Figure:
    """A small panel for each detector, since their curves would hide each other in one.

    Parameters
    ----------
    curves : sequence of RocCurve
    theme : Theme

    Returns
    -------
    Figure
        For each detector two traces: its curve with the area below it, and the threshold's dot.
    """
    rows = -(-len(curves) // _COLUMNS)
    figure = make_subplots(
        rows=rows,
        cols=_COLUMNS,
        horizontal_spacing=0.05,
        vertical_spacing=0.2 if rows > 1 else 0,
    )
    figure.update_layout(blank_layout(theme, rows * _PANEL + 60, l=40, r=12, t=28, b=40))
    figure.update_xaxes(range=[-0.03, 1.03], tickvals=[0, 1], ticktext=["0", "1"], showgrid=False)
    figure.update_yaxes(range=[-0.03, 1.06], tickvals=[0, 1], ticktext=["0", "1"], showgrid=False)
    for i, curve in enumerate(curves):
        _draw(figure, curve, i // _COLUMNS + 1, i % _COLUMNS + 1, i + 1, theme)
    for i in range(len(curves), rows * _COLUMNS):
        figure.update_xaxes(visible=False, row=i // _COLUMNS + 1, col=i % _COLUMNS + 1)
        figure.update_yaxes(visible=False, row=i // _COLUMNS + 1, col=i % _COLUMNS + 1)
    below = label(
        "share of the honest clients that are named",
        0.5,
        0,
        xref="paper",
        yref="paper",
        yshift=-30,
        xanchor="center",
        colour=theme.sub,
    )
    beside = label(
        "share of the faulty ones",
        0,
        0.5,
        xref="paper",
        yref="paper",
        xshift=-30,
        xanchor="center",
        textangle=-90,
        colour=theme.sub,
    )
    add_labels(figure, [below, beside])
    return figure


def _draw(
    figure: go.Figure, curve: RocCurve, row: int, column: int, number: int, theme: Theme
) -> None:
    place = {"row": row, "col": column}
    axes = str(number) if number > 1 else ""
    stroke = {"color": theme.rule, "width": 1, "dash": "dot"}
    chance = {"x0": 0, "y0": 0, "x1": 1, "y1": 1, "xref": f"x{axes}", "yref": f"y{axes}"}
    box = {**chance, "type": "rect", "line": {"color": theme.rule, "width": 1}}
    add_shapes(
        figure,
        [
            {**box, "layer": "below"},
            {"type": "line", **chance, "layer": "below", "line": stroke},
        ],
    )
    colour = theme.ink if curve.is_chosen else theme.faint
    figure.add_scatter(
        x=curve.fpr,
        y=curve.tpr,
        mode="lines",
        line={"color": colour, "width": 2},
        fill="tozeroy",
        fillcolor=blend(theme.faint, 0.14, theme.page),
        hovertemplate=(
            f"{escaped(curve.name)}: %{{y:.0%}} of the faulty, %{{x:.0%}} of the honest"
            "<extra></extra>"
        ),
        cliponaxis=False,
        **place,
    )
    figure.add_scatter(
        x=[curve.at[0]],
        y=[curve.at[1]],
        mode="markers",
        marker={
            "size": 9,
            "color": theme.orange.colour,
            "opacity": 1,
            "line": {"width": 1.5, "color": theme.page},
        },
        cliponaxis=False,
        unselected=UNFADED,
        hovertemplate=(
            f"{escaped(curve.name)} at the threshold: %{{y:.0%}} of the faulty, %{{x:.0%}} of the "
            "honest<extra></extra>"
        ),
        **place,
    )
    name = f"<b>{escaped(curve.name)}</b>" if curve.is_chosen else escaped(curve.name)
    add_labels(
        figure,
        [
            label(
                f"{name}  {decimals(curve.auc, 2)}",
                0,
                1,
                xref=f"x{axes} domain",
                yref=f"y{axes} domain",
                yshift=10,
                colour=theme.ink if curve.is_chosen else theme.sub,
            )
        ],
    )
