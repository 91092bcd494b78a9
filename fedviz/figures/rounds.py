"""How a measured number goes over the rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fedviz.figures.averaging import AggregateScore, accuracy_strip
from fedviz.figures.layout import (
    add_labels,
    blank_figure,
    even_ticks,
    label,
    push_apart,
    text_width,
)
from fedviz.figures.text import decimals, escaped, middle_ellipsis
from fedviz.figures.theme import Theme, client_colour

__all__ = ["accuracy_over_rounds"]

_HEIGHT, _TOP, _BOTTOM = 260, 10, 30
_LABEL_GAP = 15
_MOST_ROUND_TICKS = 8


class _EndLabel(NamedTuple):
    text: str
    value: float
    colour: str
    is_bold: bool


def accuracy_over_rounds(
    rounds: Sequence[int],
    clients: NDArray[Any],
    aggregate: NDArray[Any] | Sequence[float],
    server: NDArray[Any] | Sequence[float] | None,
    client_ids: Sequence[str],
    metric_name: str,
    theme: Theme,
    *,
    selected: Sequence[str] = (),
    shown_round: int | None = None,
) -> go.Figure:
    """Each client alone, the server model, and the aggregate, round by round.

    Of one round alone there is no course to see: it is drawn as a strip of dots.

    Parameters
    ----------
    rounds : sequence of int
        Their numbers, rising.
    clients : ndarray of shape (rounds, clients)
        NaN where a client took no part or was not measured.
    aggregate : array of shape (rounds,)
        NaN where there is none.
    server : array of shape (rounds,), optional
        The server model that each round started from.
    client_ids : sequence of str
    metric_name : str
        ``accuracy`` or ``loss``; an axis of accuracies stays within 0 and 1.
    theme : Theme
    selected : sequence of str
        Clients to colour and to name. The lowest and the highest at the end are named always.
    shown_round : int, optional
        The round that the page is about gets a larger dot; by default the last.

    Returns
    -------
    Figure
        One faint trace with all other clients, one for each selected client, the server model's,
        the aggregate's.
    """
    course = np.asarray(clients, dtype=np.float64)
    whole = np.asarray(aggregate, dtype=np.float64)
    start = None if server is None else np.asarray(server, dtype=np.float64)
    if len(rounds) == 1:
        scores = [AggregateScore("aggregate", float(whole[0]), is_chosen=True)]
        return accuracy_strip(
            client_ids,
            course[0],
            scores if np.isfinite(whole[0]) else [],
            theme,
            server=None if start is None else float(start[0]),
            metric_name=metric_name,
            selected=selected,
        )
    chosen = [i for i, client in enumerate(client_ids) if client in set(selected)]
    labels = _end_labels(course, whole, start, client_ids, chosen, theme)
    widest = max((text_width(end.text, 12.5) for end in labels), default=0.0)
    figure = blank_figure(theme, _HEIGHT, l=40, r=14 + widest, t=_TOP, b=_BOTTOM)
    _draw_others(figure, rounds, course, client_ids, chosen, theme)
    for i in chosen:
        _draw_course(figure, rounds, course[:, i], client_ids[i], client_colour(theme, i), 2)
    if start is not None:
        _draw_course(figure, rounds, start, "server model", theme.server, 1.5, dash="dot")
    _draw_aggregate(figure, rounds, whole, shown_round, theme)
    low, high = _vertical_range([course, whole, start], metric_name)
    _draw_end_labels(figure, labels, low, high)
    _number_axes(figure, rounds, low, high)
    return figure


def _last_finite(course: NDArray[np.float64]) -> float:
    finite = course[np.isfinite(course)]
    return float(finite[-1]) if finite.size else float("nan")


def _end_labels(
    course: NDArray[np.float64],
    aggregate: NDArray[np.float64],
    server: NDArray[np.float64] | None,
    client_ids: Sequence[str],
    chosen: Sequence[int],
    theme: Theme,
) -> list[_EndLabel]:
    named = dict.fromkeys(chosen)
    finite = np.flatnonzero(np.isfinite(course[-1]))
    if finite.size:
        named.setdefault(int(finite[np.argmin(course[-1, finite])]))
        named.setdefault(int(finite[np.argmax(course[-1, finite])]))
    labels = [
        _EndLabel(
            middle_ellipsis(client_ids[i], 12),
            _last_finite(course[:, i]),
            client_colour(theme, i) if i in chosen else theme.sub,
            i in chosen,
        )
        for i in named
    ]
    labels.append(_EndLabel("aggregate", _last_finite(aggregate), theme.aggregate, True))
    if server is not None:
        labels.append(_EndLabel("server", _last_finite(server), theme.server, False))
    return [
        end._replace(text=f"{end.text} {decimals(end.value, 2)}")
        for end in labels
        if np.isfinite(end.value)
    ]


def _draw_others(
    figure: go.Figure,
    rounds: Sequence[int],
    course: NDArray[np.float64],
    client_ids: Sequence[str],
    chosen: Sequence[int],
    theme: Theme,
) -> None:
    """All clients that are not selected, as one trace: a NaN after each keeps them apart."""
    others = [i for i in range(len(client_ids)) if i not in chosen]
    lines = np.full((len(others), len(rounds) + 1), np.nan)
    lines[:, :-1] = course[:, others].T
    figure.add_scatter(
        x=np.tile([*rounds, rounds[-1]], len(others)),
        y=lines.ravel(),
        mode="lines",
        line={"color": theme.faint, "width": 1},
        opacity=0.6 if len(others) <= 40 else 0.3,
        customdata=np.repeat([escaped(client_ids[i]) for i in others], len(rounds) + 1),
        hovertemplate="%{customdata}, round %{x}: %{y:.3f}<extra></extra>",
        name="other clients",
    )


def _draw_course(
    figure: go.Figure,
    rounds: Sequence[int],
    values: NDArray[np.float64],
    name: str,
    colour: str,
    width: float,
    **line: str,
) -> None:
    figure.add_scatter(
        x=list(rounds),
        y=values,
        mode="lines",
        line={"color": colour, "width": width, **line},
        connectgaps=False,
        name=escaped(name),
        hovertemplate=f"{escaped(name)}, round %{{x}}: %{{y:.3f}}<extra></extra>",
    )


def _draw_aggregate(
    figure: go.Figure,
    rounds: Sequence[int],
    values: NDArray[np.float64],
    shown_round: int | None,
    theme: Theme,
) -> None:
    shown = rounds[-1] if shown_round is None else shown_round
    small = 6 if len(rounds) <= 30 else 0
    figure.add_scatter(
        x=list(rounds),
        y=values,
        mode="lines+markers",
        line={"color": theme.aggregate, "width": 2.5},
        marker={
            "size": [11 if number == shown else small for number in rounds],
            "color": theme.aggregate,
            # A list of sizes makes plotly think of bubbles: see-through, with white rims.
            "opacity": 1,
            "line": {"width": 0},
        },
        cliponaxis=False,
        name="aggregate",
        hovertemplate="aggregate, round %{x}: %{y:.3f}<extra></extra>",
    )


def _vertical_range(
    courses: Sequence[NDArray[np.float64] | None], metric_name: str
) -> tuple[float, float]:
    values = np.concatenate([c.ravel() for c in courses if c is not None])
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.05
    low, high = low - margin, high + margin
    if "accuracy" in metric_name:
        low, high = max(low, 0.0), min(high, 1.0)
    return low, high


def _draw_end_labels(
    figure: go.Figure, labels: Sequence[_EndLabel], low: float, high: float
) -> None:
    """Direct labels in the right margin, pushed apart; a margin in pixels fits any width."""
    per_pixel = (high - low) / (_HEIGHT - _TOP - _BOTTOM)
    places = push_apart([end.value for end in labels], _LABEL_GAP * per_pixel)
    add_labels(
        figure,
        [
            label(
                f"<b>{escaped(end.text)}</b>" if end.is_bold else escaped(end.text),
                1,
                float(place),
                xref="paper",
                xshift=8,
                colour=end.colour,
                size=12 if end.is_bold else 11,
            )
            for end, place in zip(labels, places, strict=True)
        ],
    )


def _number_axes(figure: go.Figure, rounds: Sequence[int], low: float, high: float) -> None:
    step = -(-len(rounds) // _MOST_ROUND_TICKS)
    shown = list(rounds[::step])
    margin = 0.016 * (rounds[-1] - rounds[0])
    figure.update_xaxes(
        range=[rounds[0] - margin, rounds[-1] + margin],
        tickvals=shown,
        ticktext=[f"round {number}" if i == 0 else str(number) for i, number in enumerate(shown)],
        showgrid=False,
    )
    ticks = even_ticks(low, high, most=5)
    figure.update_yaxes(
        range=[low, high], tickvals=ticks, ticktext=[decimals(tick, 2) for tick in ticks]
    )
