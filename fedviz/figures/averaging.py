"""What averaging gains: accuracy of each aggregate, and how far models lie from each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    swarm,
    text_width,
)
from fedviz.figures.text import (
    decimals,
    distinct_names,
    escaped,
    middle_ellipsis,
    percentage,
    short_number,
)
from fedviz.figures.theme import Theme, client_colour

__all__ = ["AggregateScore", "accuracy_strip", "distance_by_tensor", "moved_by_tensor"]

_ROW = 33
# Upwards only: the names of the lowest and the highest stand below.
_LANES = (0.0, -0.33, -0.66, -0.99)
_NAME_LIMIT = 28
_USUAL_WIDTH = 700


@dataclass(frozen=True)
class AggregateScore:
    """How well one aggregate of the round does.

    ``name`` is the aggregate's; ``is_chosen`` marks the one that the page is about.
    """

    name: str
    value: float
    is_chosen: bool = False


def accuracy_strip(
    client_ids: Sequence[str],
    clients: NDArray[Any] | Sequence[float],
    aggregates: Sequence[AggregateScore],
    theme: Theme,
    *,
    server: float | None = None,
    metric_name: str = "accuracy",
    selected: Sequence[str] = (),
) -> go.Figure:
    """Each client alone, and every aggregate, on one axis; the server model as a dotted line.

    Parameters
    ----------
    client_ids : sequence of str
    clients : array of shape (clients,)
        NaN for clients that were not measured.
    aggregates : sequence of AggregateScore
        A row for each, in this order; may be empty.
    theme : Theme
    server : float, optional
        Of the server model before the round.
    metric_name : str
        Title of the axis, such as ``accuracy on 360 held-out examples``.
    selected : sequence of str
        Clients to colour and to name. The lowest and the highest are named always.

    Returns
    -------
    Figure
        The clients' dots first, then one trace for each aggregate.
    """
    scores = np.asarray(clients, dtype=np.float64)
    names = [middle_ellipsis(a.name, _NAME_LIMIT) for a in aggregates]
    rows = ["each client alone", *names]
    low, high = _span([*scores, *(a.value for a in aggregates), server], metric_name)
    last = len(aggregates)
    figure = blank_figure(
        theme,
        (last + 2.8) * _ROW + 44,
        l=16 + max(text_width(row) for row in rows),
        r=62,
        t=4,
        b=44,
    )
    if server is not None and np.isfinite(server):
        _draw_server(figure, server, last, theme)
    _draw_clients(figure, client_ids, scores, high - low, theme, selected)
    for row, aggregate in enumerate(aggregates, 1):
        _draw_aggregate(figure, row, aggregate, server, theme)
    ticks = even_ticks(low, high, most=8)
    figure.update_xaxes(
        range=[low, high],
        tickvals=ticks,
        ticktext=[short_number(tick) for tick in ticks],
        title={"text": escaped(metric_name)},
    )
    chosen = [False, *(a.is_chosen for a in aggregates)]
    figure.update_yaxes(
        tickvals=list(range(last + 1)),
        ticktext=[
            f"<b>{escaped(row)}</b>" if bold else escaped(row)
            for row, bold in zip(rows, chosen, strict=True)
        ],
        range=[last + 0.7, -2.1],
        showgrid=False,
        tickfont={"size": 12, "color": theme.ink},
    )
    return figure


def _span(values: Sequence[float | None], metric_name: str) -> tuple[float, float]:
    """Range of the axis; an accuracy stays within 0 and 1, but for half a dot."""
    finite = [v for v in values if v is not None and np.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.05
    low, high = low - margin, high + margin
    if "accuracy" in metric_name:
        low, high = max(low, -0.01), min(high, 1.01)
    return low, high


def _draw_server(figure: go.Figure, server: float, last: int, theme: Theme) -> None:
    stroke = {"color": theme.server, "width": 1, "dash": "dot"}
    ends = {"x0": server, "x1": server, "y0": -1.3, "y1": last + 0.6}
    add_shapes(figure, [{"type": "line", **ends, "layer": "below", "line": stroke}])
    name = label("server model", server, -1.7, xanchor="center", colour=theme.sub, size=11)
    add_labels(figure, [name])


def _draw_clients(
    figure: go.Figure,
    client_ids: Sequence[str],
    scores: NDArray[np.float64],
    span: float,
    theme: Theme,
    selected: Sequence[str],
) -> None:
    known = np.flatnonzero(np.isfinite(scores))
    size = 11 if len(known) <= 40 else 7
    offsets = swarm(scores[known], span * (size + 1) / _USUAL_WIDTH, _LANES)
    colours = [client_colour(theme, i) if client_ids[i] in selected else theme.faint for i in known]
    figure.add_scatter(
        x=scores[known],
        y=offsets,
        mode="markers",
        cliponaxis=False,
        marker={"size": size, "color": colours, "line": {"width": 1, "color": theme.page}},
        customdata=[escaped(client_ids[i]) for i in known],
        hovertemplate="%{customdata} alone: %{x:.3f}<extra></extra>",
    )
    if not known.size:
        return
    order = np.argsort(scores[known], kind="stable")
    extremes = {int(order[0]), int(order[-1])}
    chosen = {k for k, i in enumerate(known) if client_ids[i] in selected}
    add_labels(
        figure,
        [
            label(
                f"{escaped(middle_ellipsis(client_ids[known[k]], 14))} "
                f"{decimals(scores[known[k]], 2)}",
                scores[known[k]],
                0,
                xanchor="center",
                yshift=-15,
                colour=theme.ink if k in chosen else theme.sub,
                size=11,
            )
            for k in sorted(extremes | chosen)
        ],
    )


def _draw_aggregate(
    figure: go.Figure, row: int, aggregate: AggregateScore, server: float | None, theme: Theme
) -> None:
    chosen = aggregate.is_chosen
    if server is not None and np.isfinite(server) and np.isfinite(aggregate.value):
        stroke = {"color": theme.aggregate if chosen else theme.rule, "width": 2}
        ends = {"x0": server, "x1": aggregate.value, "y0": row, "y1": row}
        add_shapes(figure, [{"type": "line", **ends, "layer": "below", "line": stroke}])
    figure.add_scatter(
        x=[aggregate.value],
        y=[row],
        mode="markers",
        cliponaxis=False,
        marker={
            "size": 15 if chosen else 10,
            "color": theme.aggregate if chosen else theme.page,
            "opacity": 1,
            "line": {"width": 2, "color": theme.aggregate},
        },
        customdata=[escaped(aggregate.name)],
        hovertemplate="%{customdata}: %{x:.3f}<extra></extra>",
    )
    value = decimals(aggregate.value)
    number = label(
        f"<b>{value}</b>" if chosen else value,
        1,
        row,
        xref="paper",
        xshift=10,
        colour=theme.aggregate if chosen else theme.sub,
        size=14 if chosen else 12,
    )
    add_labels(figure, [number])


def distance_by_tensor(
    distances: NDArray[Any],
    medians: NDArray[Any] | Sequence[float],
    client_ids: Sequence[str],
    tensor_names: Sequence[str],
    theme: Theme,
    *,
    selected: Sequence[str] = (),
) -> go.Figure:
    """How far the clients lie from the aggregate, tensor by tensor; the furthest is named.

    Parameters
    ----------
    distances : ndarray of shape (clients, tensors)
        ‖client − aggregate‖ / ‖aggregate‖; NaN where there is none.
    medians : array of shape (tensors,)
        Of each tensor's distances: a teal bar.
    client_ids, tensor_names : sequence of str
        About 24 tensors are legible.
    theme : Theme
    selected : sequence of str
        Clients to colour.

    Returns
    -------
    Figure
        One trace with all dots, one with the medians.
    """
    finite = np.isfinite(distances)
    widest = max((text_width(name) for name in client_ids), default=0.0)
    figure = _tensor_rows(tensor_names, theme, r=16 + min(widest, 90.0))
    clients, tensors = np.nonzero(finite)
    # Selected clients last, so that they lie above the others.
    last = np.argsort([client_ids[c] in selected for c in clients], kind="stable")
    clients, tensors = clients[last], tensors[last]
    figure.add_scatter(
        x=distances[clients, tensors],
        y=tensors,
        mode="markers",
        cliponaxis=False,
        marker={
            "size": 10 if len(client_ids) <= 40 else 7,
            "color": [
                client_colour(theme, int(c)) if client_ids[c] in selected else theme.faint
                for c in clients
            ],
            "opacity": 0.75,
            "line": {"width": 1, "color": theme.page},
        },
        customdata=[
            f"{escaped(client_ids[c])}, {escaped(tensor_names[t])}"
            for c, t in zip(clients, tensors, strict=True)
        ],
        hovertemplate="%{customdata}: %{x:.3~g}<extra></extra>",
    )
    figure.add_scatter(
        x=np.asarray(medians, np.float64),
        y=list(range(len(tensor_names))),
        mode="markers",
        marker={
            "symbol": "line-ns",
            "size": 16,
            "opacity": 1,
            "line": {"width": 2.5, "color": theme.aggregate},
        },
        hovertemplate="median: %{x:.3~g}<extra></extra>",
    )
    add_labels(
        figure,
        [
            _furthest(distances[:, j], int(j), client_ids, theme)
            for j in np.flatnonzero(finite.any(axis=0))
        ],
    )
    _measure(figure, float(distances[finite].max()) if finite.any() else 1.0, short_number)
    figure.update_xaxes(title={"text": "‖client − aggregate‖ / ‖aggregate‖"})
    return figure


def _furthest(
    distances: NDArray[Any], row: int, client_ids: Sequence[str], theme: Theme
) -> dict[str, Any]:
    furthest = int(np.nanargmax(np.where(np.isfinite(distances), distances, np.nan)))
    name = escaped(middle_ellipsis(client_ids[furthest], 14))
    return label(name, float(distances[furthest]), row, xshift=9, colour=theme.ink, size=11)


def moved_by_tensor(
    tensor_names: Sequence[str], moved: NDArray[Any] | Sequence[float], theme: Theme
) -> go.Figure:
    """How far the aggregate lies from the server model, tensor by tensor.

    Parameters
    ----------
    tensor_names : sequence of str
        About 24 are legible.
    moved : array of shape (tensors,)
        ‖aggregate − server‖ / ‖server‖; NaN where that is not defined.
    theme : Theme
    """
    shares = np.asarray(moved, dtype=np.float64)
    figure = _tensor_rows(tensor_names, theme, r=64)
    figure.add_bar(
        x=shares,
        y=list(range(len(tensor_names))),
        orientation="h",
        width=0.5,
        marker={"color": theme.aggregate, "line": {"width": 0}},
        customdata=[escaped(name) for name in tensor_names],
        hovertemplate="%{customdata}: %{x:.3~p}<extra></extra>",
    )
    finite = np.isfinite(shares)
    add_labels(figure, [_share(float(share), j, theme) for j, share in enumerate(shares)])
    _measure(
        figure, float(shares[finite].max()) if finite.any() else 1.0, lambda v: f"{v * 100:.3g}%"
    )
    figure.update_xaxes(title={"text": "‖aggregate − server‖ / ‖server‖"})
    return figure


def _share(share: float, row: int, theme: Theme) -> dict[str, Any]:
    if not np.isfinite(share):
        return label("not finite", 0.0, row, xshift=6, colour=theme.failure, size=11)
    # As fine as the axis, whose ticks are close where all shares are small.
    text = f"{share * 100:.2g}%" if 0 < share < 0.001 else percentage(share)
    return label(text, share, row, xshift=6, colour=theme.ink, size=11)


def _tensor_rows(tensor_names: Sequence[str], theme: Theme, r: float) -> go.Figure:
    """A figure with a row for each tensor, its name at the left."""
    count = len(tensor_names)
    names = distinct_names(tensor_names, _NAME_LIMIT)
    pitch = 38 if count <= 8 else 26
    figure = blank_figure(
        theme,
        pitch * max(1, count) + 48,
        l=16 + max((text_width(name) for name in names), default=0.0),
        r=r,
        t=4,
        b=44,
    )
    line = {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "layer": "below"}
    stroke = {"color": theme.grid, "width": 1}
    add_shapes(figure, [{**line, "y0": j, "y1": j, "line": stroke} for j in range(count)])
    figure.update_yaxes(
        tickvals=list(range(count)),
        ticktext=[escaped(name) for name in names],
        range=[count - 0.5, -0.5],
        showgrid=False,
        tickfont={"size": 12, "color": theme.ink},
    )
    return figure


def _measure(figure: go.Figure, highest: float, text: Any) -> None:
    """An axis from zero, with room for half a dot at its end."""
    ticks = even_ticks(0.0, highest, most=6)
    figure.update_xaxes(
        range=[0, 1.02 * highest if highest > 0 else 1.0],
        tickvals=ticks,
        ticktext=[text(tick) for tick in ticks],
    )
