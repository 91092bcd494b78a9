"""What several figures share: a blank figure, direct labels, and where they fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fedviz.figures.theme import TRANSPARENT, Theme, template

__all__ = [
    "UNFADED",
    "add_labels",
    "add_shapes",
    "blank_figure",
    "blank_layout",
    "even_ticks",
    "label",
    "push_apart",
    "swarm",
    "text_width",
]

UNFADED = {"marker": {"opacity": 1}}
"""As a trace's ``unselected``: plotly would fade every mark that a selection leaves out."""


def blank_figure(theme: Theme, height: float, **margins: float) -> go.Figure:
    """A figure with the theme's template, a height and margins ``l``, ``r``, ``t``, ``b`` in px."""
    return go.Figure(layout=blank_layout(theme, height, **margins))


def blank_layout(theme: Theme, height: float, **margins: float) -> dict[str, Any]:
    """The layout of :func:`blank_figure`."""
    return {
        "template": template(theme),
        "height": round(height),
        "margin": margins,
        # The page's own colour: a picture that is taken along needs it.
        "paper_bgcolor": theme.page,
        "plot_bgcolor": TRANSPARENT,
        "modebar": {"bgcolor": TRANSPARENT, "color": theme.sub, "activecolor": theme.ink},
    }


def label(
    text: str, x: float, y: float, *, colour: str, size: float = 12, **options: Any
) -> dict[str, Any]:
    """Text at a place, left-aligned and without an arrow; ``options`` are an annotation's."""
    return {
        "text": text,
        "x": x,
        "y": y,
        "xanchor": "left",
        "yanchor": "middle",
        "align": "left",
        "showarrow": False,
        "font": {"size": size, "color": colour},
        **options,
    }


def add_labels(figure: go.Figure, labels: Iterable[dict[str, Any]]) -> None:
    """Add labels all at once: one by one plotly checks those that are there again each time."""
    figure.layout.annotations = [*figure.layout.annotations, *labels]


def add_shapes(figure: go.Figure, shapes: Iterable[dict[str, Any]]) -> None:
    """Add lines and boxes all at once, for the same reason."""
    figure.layout.shapes = [*figure.layout.shapes, *shapes]


def text_width(text: str, size: float = 12) -> float:
    """About how many pixels a line of text takes in the sans-serif font."""
    return 0.52 * size * len(text)


def push_apart(places: Sequence[float] | NDArray[Any], gap: float) -> NDArray[np.float64]:
    """Places at least ``gap`` apart, in the same order, moved as little as may be.

    Neighbours that are too close become one group around their mean (the pool adjacent
    violators algorithm, which solves this least-squares problem exactly).
    """
    wanted = np.asarray(places, dtype=np.float64)
    order = np.argsort(wanted, kind="stable")
    # Less the gaps that lie before it, each place need only not be lower than the last.
    targets = wanted[order] - gap * np.arange(wanted.size)
    groups: list[tuple[float, int]] = []
    for target in targets:
        mean, size = float(target), 1
        while groups and groups[-1][0] > mean:
            previous, count = groups.pop()
            mean, size = (previous * count + mean * size) / (count + size), count + size
        groups.append((mean, size))
    settled = np.repeat([mean for mean, _ in groups], [size for _, size in groups])
    moved = np.empty_like(wanted)
    moved[order] = settled + gap * np.arange(wanted.size)
    return moved


def swarm(places: NDArray[Any], distance: float, lanes: Sequence[float]) -> NDArray[np.float64]:
    """Offsets across the axis, so that dots on it do not hide each other.

    Parameters
    ----------
    places : ndarray of shape (n,)
        Along the axis; not NaN.
    distance : float
        Two dots in the same lane are at least so far apart, while there are free lanes.
    lanes : sequence of float
        Offsets, the preferred one first.

    Returns
    -------
    ndarray of shape (n,)
        The lane of each dot.
    """
    last = dict.fromkeys(lanes, -np.inf)
    offsets = np.zeros(len(places))
    for i in np.argsort(places, kind="stable"):
        free = [lane for lane in lanes if places[i] - last[lane] >= distance]
        lane = free[0] if free else min(lanes, key=lambda option: last[option])
        last[lane], offsets[i] = places[i], lane
    return offsets


def even_ticks(lowest: float, highest: float, most: int = 6) -> list[float]:
    """Round numbers from ``lowest`` to ``highest``, ``most`` at the utmost."""
    if not highest > lowest:
        return [lowest]
    power = 10.0 ** np.floor(np.log10(highest - lowest) - 1)
    for step in power * np.array([1, 2, 2.5, 5, 10, 20, 25, 50, 100]):
        first, last = np.ceil(lowest / step - 1e-9), np.floor(highest / step + 1e-9)
        if last - first < most:
            break
    return [float(f"{k * step:.12g}") + 0.0 for k in np.arange(first, last + 1)]
