"""Who drifts: clients, the server model and the aggregate of all rounds in one plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fedviz.figures.layout import (
    UNFADED,
    add_labels,
    add_shapes,
    blank_figure,
    label,
    push_apart,
    text_width,
)
from fedviz.figures.text import escaped, middle_ellipsis, percentage
from fedviz.figures.theme import Theme, client_colour

__all__ = ["ModelPath", "paths_figure"]

_MOST_NAMED = 16
_NAME_LIMIT = 14
_USUAL_WIDTH = 560
_LOWEST, _HIGHEST = 240, 460
_LEFT, _TOP, _BOTTOM = 34, 14, 38
_LABEL_GAP = 17


@dataclass(frozen=True)
class ModelPath:
    """Where one model lies, round by round.

    ``rounds`` and ``places``, of shape (rounds, 2), belong together; a place that is NaN is not
    drawn. ``index`` is the client's in the cohort's order, which decides its colour.
    """

    name: str
    rounds: Sequence[int]
    places: NDArray[np.float64]
    index: int = 0


def paths_figure(
    clients: Sequence[ModelPath],
    server: ModelPath | None,
    aggregates: Sequence[ModelPath],
    shares: tuple[float, float],
    theme: Theme,
    *,
    shown_round: int,
    selected: Sequence[str] = (),
    marked: Sequence[str] = (),
) -> go.Figure:
    """Paths of all models in the two directions of largest variance.

    Of one round alone a line joins the server model with each client.

    Parameters
    ----------
    clients : sequence of ModelPath
    server : ModelPath, optional
        The model that each round started from.
    aggregates : sequence of ModelPath
        One for each aggregate; the first is the one that the page is about.
    shares : tuple of 2 float
        Share of the variance along each direction.
    theme : Theme
    shown_round : int
        The page's round: its models get the larger dots.
    selected : sequence of str
        Clients to colour.
    marked : sequence of str
        Clients to name besides, such as outliers.

    Returns
    -------
    Figure
        Traces: all other clients' lines, their dots, one for each selected client, the server,
        the aggregate. ``customdata`` of a client's dot is its name.
    """
    everything = [*clients, *([server] if server else []), *aggregates]
    places = np.concatenate([p.places for p in everything] or [np.zeros((0, 2))])
    places = places[np.isfinite(places).all(axis=1)]
    ends = _ends(clients, aggregates, shown_round, selected, marked, theme)
    right = 46 + max((text_width(end[0]) for end in ends), default=0.0)
    low, high, height = _window(places, _USUAL_WIDTH - _LEFT - right)
    figure = blank_figure(theme, height, l=_LEFT, r=right, t=_TOP, b=_BOTTOM)
    figure.update_layout(clickmode="event+select", hoverdistance=30)
    others = [path for path in clients if path.name not in selected]
    chosen = [path for path in clients if path.name in selected]
    _draw_lines(figure, others, server, theme)
    _draw_dots(figure, others, shown_round, theme)
    for path in chosen:
        _draw_chosen(figure, path, server, shown_round, theme)
    if server is not None:
        _draw_server(figure, server, aggregates, theme)
    _draw_aggregate(figure, aggregates, shown_round, theme)
    _label_ends(figure, ends, low, high, height, theme)
    axis = {"showticklabels": False, "showgrid": False}
    names = [
        f"{which} direction, {percentage(share, 0)} of the variance"
        for which, share in zip(("first", "second"), shares, strict=True)
    ]
    figure.update_xaxes(**axis, range=[low[0], high[0]], title={"text": names[0], "standoff": 6})
    figure.update_yaxes(
        **axis,
        range=[low[1], high[1]],
        scaleanchor="x",
        constrain="domain",
        title={"text": names[1], "standoff": 4},
    )
    return figure


def _window(
    places: NDArray[np.float64], width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Lowest and highest corner of the plane that is drawn, and the figure's height in pixels.

    Both directions have one scale; the height follows from it, within bounds.
    """
    if not len(places):
        return np.zeros(2), np.ones(2), _LOWEST
    low, high = places.min(axis=0), places.max(axis=0)
    wide, tall = np.maximum(1.1 * (high - low), 0.02 * ((high - low).max() or 1.0))
    inside = float(np.clip(width * tall / wide + 24, _LOWEST, _HIGHEST)) - _TOP - _BOTTOM
    per_pixel = max(wide / width, tall / inside)
    half = per_pixel * np.array([width, inside]) / 2
    middle = (low + high) / 2
    return middle - half, middle + half, inside + _TOP + _BOTTOM


def _line(path: ModelPath, server: ModelPath | None) -> NDArray[np.float64]:
    """A client's places in order; of one round alone, from the server model to it."""
    if len(path.rounds) == 1 and server is not None and len(server.rounds) == 1:
        return np.vstack([server.places, path.places])
    return path.places


def _draw_lines(
    figure: go.Figure, paths: Sequence[ModelPath], server: ModelPath | None, theme: Theme
) -> None:
    """All in one trace: a NaN after each keeps them apart."""
    gap = np.full((1, 2), np.nan)
    lines = [part for path in paths for part in (_line(path, server), gap)]
    together = np.concatenate(lines) if lines else gap
    figure.add_scatter(
        x=together[:, 0],
        y=together[:, 1],
        mode="lines",
        line={"color": theme.faint, "width": 1},
        opacity=0.55 if len(paths) <= 40 else 0.2,
        hoverinfo="skip",
    )


def _draw_dots(
    figure: go.Figure, paths: Sequence[ModelPath], shown_round: int, theme: Theme
) -> None:
    few = len(paths) <= 40
    rounds = [number for path in paths for number in path.rounds]
    places = np.concatenate([path.places for path in paths] or [np.zeros((0, 2))])
    figure.add_scatter(
        x=places[:, 0],
        y=places[:, 1],
        mode="markers",
        marker={
            "size": np.where(np.array(rounds) == shown_round, *((8, 4) if few else (5, 3))),
            "color": theme.faint,
            "opacity": 1 if few else 0.6,
            "line": {"width": 0},
        },
        cliponaxis=False,
        unselected={"marker": {"opacity": 1 if few else 0.6}},
        customdata=[path.name for path in paths for _ in path.rounds],
        hovertext=[_where(path.name, n) for path in paths for n in path.rounds],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _where(name: str, number: int) -> str:
    return f"{escaped(name)}, round {number}"


def _draw_chosen(
    figure: go.Figure,
    path: ModelPath,
    server: ModelPath | None,
    shown_round: int,
    theme: Theme,
) -> None:
    line = _line(path, server)
    first = len(line) - len(path.places)
    sizes = [0] * first + [11 if number == shown_round else 5 for number in path.rounds]
    figure.add_scatter(
        x=line[:, 0],
        y=line[:, 1],
        mode="lines+markers",
        line={"color": client_colour(theme, path.index), "width": 2},
        # A list of sizes makes plotly think of bubbles: see-through, with white rims.
        marker={"size": sizes, "opacity": 1, "line": {"width": 0}},
        cliponaxis=False,
        unselected=UNFADED,
        customdata=[path.name] * len(line),
        hovertext=[""] * first + [_where(path.name, n) for n in path.rounds],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _draw_server(
    figure: go.Figure, server: ModelPath, aggregates: Sequence[ModelPath], theme: Theme
) -> None:
    """The path of the server model, which ends in the last aggregate."""
    last = aggregates[0].places[-1:] if aggregates else np.zeros((0, 2))
    line = np.concatenate([server.places, last])
    figure.add_scatter(
        x=line[:, 0],
        y=line[:, 1],
        mode="lines+markers",
        line={"color": theme.server, "width": 2.5},
        marker={
            "size": [7] * len(server.places) + [0] * len(last),
            "color": theme.server,
            "opacity": 1,
            "line": {"width": 0},
        },
        cliponaxis=False,
        unselected=UNFADED,
        hovertext=[f"server model, round {n}" for n in server.rounds] + [""] * len(last),
        hovertemplate="%{hovertext}<extra></extra>",
    )
    x, y = server.places[0]
    if np.isfinite([x, y]).all():
        text = f"server model, round {server.rounds[0]}"
        # On the side that the path does not take.
        rises = len(line) > 1 and line[1, 1] > y
        shift = -14 if rises else 14
        add_labels(figure, [label(text, x, y, yshift=shift, colour=theme.ink, size=11)])


def _draw_aggregate(
    figure: go.Figure, aggregates: Sequence[ModelPath], shown_round: int, theme: Theme
) -> None:
    for path in aggregates:
        shown = [i for i, number in enumerate(path.rounds) if number == shown_round]
        figure.add_scatter(
            x=path.places[shown, 0],
            y=path.places[shown, 1],
            mode="markers",
            marker={"size": 13, "color": theme.aggregate, "opacity": 1, "line": {"width": 0}},
            cliponaxis=False,
            unselected=UNFADED,
            hovertext=[f"{escaped(path.name)} of round {shown_round}"] * len(shown),
            hovertemplate="%{hovertext}<extra></extra>",
        )


def _ends(
    clients: Sequence[ModelPath],
    aggregates: Sequence[ModelPath],
    shown_round: int,
    selected: Sequence[str],
    marked: Sequence[str],
    theme: Theme,
) -> list[tuple[str, float, float, str, bool]]:
    """Labels of the shown round: text, place, colour, and whether it is bold."""
    many = len(clients) > _MOST_NAMED
    ends = []
    for path in clients:
        bold = path.name in selected
        if many and not bold and path.name not in marked[:_MOST_NAMED]:
            continue
        colour = client_colour(theme, path.index) if bold else theme.sub
        ends += [
            (middle_ellipsis(path.name, _NAME_LIMIT), *xy, colour, bold)
            for xy in _at(path, shown_round)
        ]
    for path in aggregates[:1]:
        ends += [("aggregate", *xy, theme.aggregate, True) for xy in _at(path, shown_round)]
    return ends


def _at(path: ModelPath, number: int) -> list[tuple[float, float]]:
    return [
        (float(x), float(y))
        for n, (x, y) in zip(path.rounds, path.places, strict=True)
        if n == number and np.isfinite([x, y]).all()
    ]


def _label_ends(
    figure: go.Figure,
    ends: Sequence[tuple[str, float, float, str, bool]],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    height: float,
    theme: Theme,
) -> None:
    """Names in a column at the right, pushed apart, each with a line to its dot."""
    span = float(high[1] - low[1])
    per_pixel = span / max(1.0, height - _TOP - _BOTTOM)
    wanted = push_apart([y for _, _, y, _, _ in ends], _LABEL_GAP * per_pixel)
    # The column stays within the figure, where there is room for it.
    shift = max(0.0, low[1] - wanted.min(initial=np.inf)) if len(ends) else 0.0
    shift = min(shift, max(0.0, high[1] - wanted.max(initial=-np.inf)) or shift)
    edge = float(high[0])
    lines, texts = [], []
    for (text, x, y, colour, bold), place in zip(ends, wanted + shift, strict=True):
        stroke = {"color": colour if bold else theme.rule, "width": 1}
        lines.append({"x0": x, "y0": y, "x1": edge, "y1": place, "line": stroke})
        shown = f"<b>{escaped(text)}</b>" if bold else escaped(text)
        texts.append(label(shown, edge, place, xshift=8, colour=colour, size=12 if bold else 11))
    add_shapes(figure, [{"type": "line", "layer": "below", **line} for line in lines])
    add_labels(figure, texts)
