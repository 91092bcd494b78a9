"""Updates by length and direction, and how well the clusters hold together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fedviz.figures.layout import UNFADED, add_labels, add_shapes, blank_figure, label, text_width
from fedviz.figures.text import decimals, escaped, middle_ellipsis, number, short_number
from fedviz.figures.theme import Theme, client_colour

__all__ = ["directions_figure", "silhouettes_figure"]

_NAME_LIMIT = 14
_MOST_NAMED = 40
# About how many pixels: where names would run into each other is judged by them.
_PER_DECADE, _PER_COSINE = 800.0, 200.0
_TICKS = np.array([0.01, 0.03, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 100, 1000])


def directions_figure(
    norms: NDArray[Any],
    cosines: NDArray[Any],
    client_ids: Sequence[str],
    theme: Theme,
    *,
    indices: Sequence[int],
    selected: Sequence[str] = (),
    marked: Sequence[str] = (),
) -> go.Figure:
    """One dot for each client: how long its update is, and where it points.

    Parameters
    ----------
    norms : ndarray of shape (n,)
        Over the median client's; NaN or 0 for those that are not drawn. The axis is logarithmic.
    cosines : ndarray of shape (n,)
        To the direction that most clients share.
    client_ids : sequence of str
    theme : Theme
    indices : sequence of int
        The clients' places in the cohort's order, which decide their colours.
    selected : sequence of str
        Clients to colour and to name.
    marked : sequence of str
        Outliers: an orange rim, and a name.

    Returns
    -------
    Figure
        The usual clients, then the selected and the marked; ``customdata`` is the client.
    """
    figure = blank_figure(theme, 280, l=50, r=24, t=12, b=42)
    known = np.flatnonzero(np.isfinite(norms) & np.isfinite(cosines) & (norms > 0))
    # The marked and the selected last, so that they lie above the others, in a trace of their own:
    # plotly looks at each colour of a list.
    weight = [2 * (client_ids[i] in selected) + (client_ids[i] in marked) for i in known]
    known = known[np.argsort(weight, kind="stable")]
    last = known[len(known) - int(np.count_nonzero(weight)) :]
    usual = {"size": 6 if len(known) > _MOST_NAMED else 9, "color": theme.faint}
    rims = {
        "size": [12 if client_ids[i] in selected else 9 for i in last],
        "color": [
            client_colour(theme, indices[i]) if client_ids[i] in selected else theme.faint
            for i in last
        ],
        "line": {
            "width": [2 if client_ids[i] in marked else 0 for i in last],
            "color": theme.orange.colour,
        },
    }
    _add_dots(figure, norms, cosines, client_ids, known[: len(known) - len(last)], usual)
    _add_dots(figure, norms, cosines, client_ids, last, rims)
    figure.update_layout(clickmode="event+select", hoverdistance=30)
    _name_dots(figure, norms, cosines, client_ids, known, indices, selected, marked, theme)
    low, high = _length_range(norms[known])
    ticks = [float(t) for t in _TICKS if low <= np.log10(t) <= high]
    figure.update_xaxes(
        type="log",
        range=[low, high],
        tickvals=ticks,
        ticktext=[f"{short_number(t)} ×" for t in ticks],
        title={"text": "length of the update, over the median client's"},
    )
    least = float(cosines[known].min(initial=0.0))
    ticks = [-1.0, -0.5, 0.0, 0.5, 1.0]
    figure.update_yaxes(
        range=[max(-1.06, least - 0.12), 1.06],
        tickvals=ticks,
        ticktext=[short_number(t) for t in ticks],
        title={"text": "cosine to the common direction"},
    )
    stroke = {"color": theme.rule, "width": 1.5}
    zero = {"x0": 0, "x1": 1, "xref": "paper", "y0": 0, "y1": 0}
    add_shapes(figure, [{"type": "line", **zero, "layer": "below", "line": stroke}])
    return figure


def _add_dots(
    figure: go.Figure,
    norms: NDArray[Any],
    cosines: NDArray[Any],
    client_ids: Sequence[str],
    rows: NDArray[np.int64],
    marker: dict[str, Any],
) -> None:
    figure.add_scatter(
        x=norms[rows],
        y=cosines[rows],
        mode="markers",
        cliponaxis=False,
        marker={"opacity": 1, "line": {"width": 0}, **marker},
        unselected=UNFADED,
        customdata=[client_ids[i] for i in rows],
        hovertext=[
            f"<b>{escaped(client_ids[i])}</b><br>{number(float(norms[i]))} × the median length"
            f"<br>cosine {decimals(float(cosines[i]), 2)} to the common direction"
            for i in rows
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _length_range(norms: NDArray[Any]) -> tuple[float, float]:
    """Range of the axis, in powers of ten: from half to twice the median at least."""
    logs = np.log10(norms) if len(norms) else np.zeros(1)
    low, high = min(-0.32, float(logs.min())), max(0.32, float(logs.max()))
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def _name_dots(
    figure: go.Figure,
    norms: NDArray[Any],
    cosines: NDArray[Any],
    client_ids: Sequence[str],
    known: NDArray[np.int64],
    indices: Sequence[int],
    selected: Sequence[str],
    marked: Sequence[str],
    theme: Theme,
) -> None:
    few = len(known) <= 14
    shown = [*selected, *[name for name in marked if name not in selected][:12]]
    labels: list[dict[str, Any]] = []
    taken: list[tuple[float, float]] = []
    # The selected come last among the dots, and first among the names.
    for i in known[::-1]:
        name = client_ids[i]
        place = float(np.log10(norms[i])) * _PER_DECADE, float(cosines[i]) * _PER_COSINE
        crowd = sum(abs(place[0] - x) < 40 and abs(place[1] - y) < 14 for x, y in taken)
        if name not in shown and (crowd or not few):
            continue
        taken.append(place)
        bold = name in selected
        text = escaped(middle_ellipsis(name, _NAME_LIMIT))
        colour = client_colour(theme, indices[i]) if bold else theme.ink
        labels.append(
            label(
                f"<b>{text}</b>" if bold else text,
                # Annotations on a logarithmic axis are placed by the logarithm.
                float(np.log10(norms[i])),
                float(cosines[i]),
                colour=colour if name in shown else theme.sub,
                size=11,
                # Names that would cover each other go below and above.
                yshift=(12, -13, 25, -26)[min(crowd, 3)],
                xanchor="center",
            )
        )
    add_labels(figure, labels)


def silhouettes_figure(
    silhouettes: NDArray[Any],
    labels: NDArray[Any],
    client_ids: Sequence[str],
    theme: Theme,
    *,
    indices: Sequence[int],
    selected: Sequence[str] = (),
) -> go.Figure:
    """How well each client fits its cluster: from −1 (elsewhere) to 1.

    Parameters
    ----------
    silhouettes, labels : ndarray of shape (n,)
        The clusters are numbered from 0 and drawn in that order.
    client_ids : sequence of str
    theme : Theme
    indices : sequence of int
        The clients' places in the cohort's order, which decide their colours.
    selected : sequence of str
        Clients to colour.

    Returns
    -------
    Figure
        The bars of the others, then those of the selected; ``customdata`` is the client.
    """
    order = np.lexsort((-silhouettes, labels))
    named = len(order) <= _MOST_NAMED
    pitch = 18.0 if len(order) <= 20 else 13.0 if named else 240 / max(1, len(order))
    gap = 0.6 if named else 0.02 * len(order)
    places = np.arange(len(order)) + gap * labels[order]
    names = [client_ids[i] for i in order]
    widest = max((text_width(middle_ellipsis(n, _NAME_LIMIT)) for n in names), default=0.0)
    last = float(places.max(initial=0.0))
    figure = blank_figure(
        theme, (last + 1) * pitch + 46, l=12 + (widest if named else 0), r=84, t=4, b=40
    )
    coloured = [k for k, name in enumerate(names) if name in selected]
    others = [k for k, name in enumerate(names) if name not in selected]
    colours = [client_colour(theme, indices[order[k]]) for k in coloured]
    for part, colour in ((others, theme.faint), (coloured, colours)):
        rows = order[part]
        figure.add_bar(
            x=silhouettes[rows],
            y=places[part],
            orientation="h",
            width=0.7 if named else 1.0,
            marker={"color": colour, "line": {"width": 0}},
            unselected=UNFADED,
            customdata=[client_ids[i] for i in rows],
            hovertext=[
                f"<b>{escaped(client_ids[i])}</b>, cluster {int(labels[i]) + 1}<br>"
                f"silhouette {decimals(float(silhouettes[i]), 2)}"
                for i in rows
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    low = min(-0.02, float(silhouettes.min(initial=0.0)) * 1.05)
    high = max(0.5, float(silhouettes.max(initial=0.0)) * 1.05)
    figure.update_layout(clickmode="event+select", bargap=0, barmode="overlay")
    ticks = [tick for tick in (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0) if low <= tick <= high]
    figure.update_xaxes(
        range=[low, high],
        tickvals=ticks,
        ticktext=[short_number(tick) for tick in ticks],
        title={"text": "silhouette"},
    )
    figure.update_yaxes(
        range=[last + 0.7, -0.7],
        tickvals=places if named else [],
        ticktext=[
            f"<b>{escaped(middle_ellipsis(n, _NAME_LIMIT))}</b>"
            if n in selected
            else escaped(middle_ellipsis(n, _NAME_LIMIT))
            for n in names
        ]
        if named
        else [],
        showgrid=False,
        tickfont={"size": 11, "color": theme.ink},
    )
    add_labels(figure, _cluster_labels(labels[order], places, theme))
    return figure


def _cluster_labels(
    labels: NDArray[Any], places: NDArray[Any], theme: Theme
) -> list[dict[str, Any]]:
    found = []
    for cluster in np.unique(labels):
        inside = places[labels == cluster]
        name, middle = f"cluster {int(cluster) + 1}", float(inside.mean())
        found.append(label(name, 1, middle, colour=theme.sub, size=11, xref="paper", xshift=8))
    return found
