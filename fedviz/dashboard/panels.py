"""The pieces of the heatmaps page."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from fedviz.analysis.before_after import BeforeAfter, HeatmapView, PanelValues
from fedviz.analysis.heatmap import Plane, layout_for
from fedviz.analysis.models import DEFAULT_ROLES, Models, Role
from fedviz.analysis.movers import Movers
from fedviz.analysis.scales import ClientHistograms
from fedviz.dashboard import cache, kept, widgets, windows, wording
from fedviz.dashboard.state import Selection
from fedviz.figures.distributions import Distribution
from fedviz.figures.heatmaps import HeatmapPanel
from fedviz.figures.text import number, panel_title, signed
from fedviz.pictures import heatmap_panels, panel_colour

__all__ = [
    "Drawing",
    "all_clients",
    "cell_table",
    "colour",
    "controls",
    "counts_table",
    "distributions",
    "figures",
    "pair",
    "total_name",
    "who_moved",
    "whole",
]

_RANGES = {"99.5th percentile": 99.5, "full range": 100.0, "by hand": 99.5}
_PANELS: dict[str, Role] = {
    "server": "server",
    "client A": "client",
    "client B": "other",
    "aggregate": "aggregate",
    "A - aggregate": "client-aggregate",
    "A - server": "client-server",
    "B - aggregate": "other-aggregate",
    "B - server": "other-server",
    "aggregate - server": "aggregate-server",
    "spread": "spread",
}
_BY_ROLE = {role: name for name, role in _PANELS.items()}
_AXES = ("axes", "rows", "columns", *(f"at{axis}" for axis in range(16)))
_LARGE = 320


@dataclass(frozen=True)
class Drawing:
    """What the controls say: what is read, and how it is coloured."""

    view: HeatmapView
    is_symlog: bool


def pair(chosen: Selection) -> tuple[str, str]:
    """The two clients that are compared."""
    return chosen.client, chosen.other


def controls(chosen: Selection) -> Drawing:
    """Which panels, on which scale, of which part of the tensor."""
    windows.start(chosen, *_AXES)
    shape = chosen.dataset.signature[chosen.tensor].shape
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="controls"):
        roles = _panels(chosen)
        with st.popover("Scale", icon=":material/palette:", type="tertiary"):
            view, is_symlog = _scale()
        if len(shape) > 2:
            with st.popover("Axes", icon=":material/view_in_ar:", type="tertiary"):
                view = dataclasses.replace(view, plane=_plane(shape))
        layout = layout_for(shape, chosen.tensor, plane=view.plane)
        if max(layout.shape) > _LARGE:
            how = kept.choice("Blocks", ["signed extreme", "mean"], "blocks")
            view = dataclasses.replace(view, how="mean" if how == "mean" else "signed-extreme")
        windows.box_choice()
    window = windows.window_of(layout)
    return Drawing(dataclasses.replace(view, roles=roles, window=window), is_symlog)


def _panels(chosen: Selection) -> tuple[Role, ...] | None:
    layout = layout_for(())
    models = Models(chosen.round, chosen.tensor, layout, pair(chosen), chosen.aggregate)
    options = [_BY_ROLE[role] for role in models.available(tuple(_BY_ROLE))]
    usual = [_BY_ROLE[role] for role in models.available(None)]
    picked = kept.choices("Panels", options, usual, "panels")
    return None if picked == usual else tuple(_PANELS[name] for name in picked)


def _scale() -> tuple[HeatmapView, bool]:
    reach = kept.choice("It reaches to", list(_RANGES), "range", shows_label=True)
    limit = _limit() if reach == "by hand" else None
    form = kept.choice("Its colours are", ["linear", "logarithmic"], "scale", shows_label=True)
    shared = kept.choice(
        "Panels have", ["one scale", "scales of their own"], "share", shows_label=True
    )
    differences = kept.choice(
        "Differences are", ["magnified", "as they are"], "differences", shows_label=True
    )
    view = HeatmapView(
        percentile=_RANGES[reach],
        limit=limit,
        is_shared=shared == "one scale",
        is_magnified=differences == "magnified",
    )
    return view, form == "logarithmic"


def _limit() -> float | None:
    """The limit by hand; None where it is no number above 0."""
    given = kept.text("Limit", "limit", placeholder="0.5")
    try:
        limit = float(given)
    except ValueError:
        limit = 0.0
    if 0 < limit < float("inf"):
        return limit
    if given:
        st.markdown(f":red[{widgets.literal(given[:40])} is no number above 0.]")
    return None


def _plane(shape: tuple[int, ...]) -> Plane | None:
    """Two axes of the tensor, and an index for each of the others."""
    if kept.choice("Shown are", ["tiles", "two axes"], "axes", shows_label=True) == "tiles":
        return None
    names = [str(axis) for axis in range(len(shape))]
    rows = int(kept.choice("Down", names, "rows", shows_label=True))
    rest = [name for name in names if int(name) != rows]
    columns = int(kept.choice("Across", rest, "columns", shows_label=True))
    at = [
        0
        if axis in (rows, columns)
        else kept.whole_number(f"Axis {axis}, of {size:,}", f"at{axis}", max(0, size - 1))
        for axis, size in enumerate(shape)
    ]
    return Plane(rows, columns, tuple(at))


def figures(view: BeforeAfter, drawing: Drawing, chosen: Selection) -> list[HeatmapPanel]:
    """The panels with their titles and colours."""
    return heatmap_panels(view, chosen.round, widgets.theme(), is_shared=drawing.view.is_shared)


def colour(panel: PanelValues, chosen: Selection) -> str:
    """The colour that stands for whose values a panel shows."""
    return panel_colour(panel, chosen.round, widgets.theme())


def distributions(view: BeforeAfter, chosen: Selection) -> list[Distribution]:
    """The models' histograms that have the shared scale."""
    return [
        Distribution(panel_title(panel.role, panel.client), panel.histogram, colour(panel, chosen))
        for panel in view.panels
        if panel.role in DEFAULT_ROLES[:4] and panel.limit == view.limit
    ]


def all_clients(view: BeforeAfter, drawing: Drawing, chosen: Selection) -> ClientHistograms | None:
    """How the values of all clients lie over the shared scale."""
    return cache.client_histograms(
        chosen.round, chosen.tensor, drawing.view.plane, view.window, view.limit
    )


def who_moved(story: Movers) -> tuple[str, str]:
    """What is asked, and how to read the answer."""
    first, last = (list(index) for index in story.indices)
    if story.num_cells == 1:
        note = "Each client's weight in the mean × (client − server). They add up to its move."
        if story.aggregate_move is not None:
            note += f" The aggregate is not that mean: it moved by {signed(story.aggregate_move)}."
        return f"Which client moved cell {first}", note
    return (
        f"Which client moved these {story.num_cells:,} cells, {first} to {last}",
        "Each client's weight × (client − server), along the direction in which the mean moved. "
        "They add up to the length of its move.",
    )


def total_name(story: Movers) -> str:
    """What moved by the clients' contributions together."""
    return "aggregate" if story.aggregate_move is None else "mean"


def cell_table(story: Movers) -> None:
    """The value of the cells in every model."""
    rows = [
        {"model": wording.plain_text(name), "value": f"`{signed(value, 5)}`"}
        for name, value in story.values
    ]
    st.table(pd.DataFrame(rows), border="horizontal", hide_index=True, hide_header=True)


def counts_table(view: BeforeAfter) -> None:
    """What is in view, in numbers."""
    rows = [
        {
            "": panel_title(panel.role, panel.client),
            "rms": number(panel.rms),
            "beyond the scale": f"{panel.histogram.below + panel.histogram.above:,}",
            "NaN": f"{panel.histogram.nan:,}",
            "+∞": f"{panel.histogram.positive_infinite:,}",
            "−∞": f"{panel.histogram.negative_infinite:,}",
        }
        for panel in view.panels
    ]
    frame = pd.DataFrame(rows)
    frame[""] = frame[""].map(wording.plain_text)
    st.table(frame, border="horizontal", hide_index=True)


def whole(drawing: Drawing) -> HeatmapView:
    """The same without a window."""
    return dataclasses.replace(drawing.view, window=None)
