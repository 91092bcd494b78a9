"""The pieces of the heatmaps page."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from fedviz.analysis.before_after import BeforeAfter, CellStory, PanelValues
from fedviz.dashboard import widgets, wording
from fedviz.dashboard.state import Selection
from fedviz.figures.heatmaps import HeatmapPanel
from fedviz.figures.text import counted, number, shape_text, signed
from fedviz.figures.theme import client_colour

__all__ = [
    "cell_table",
    "chosen_cell",
    "controls",
    "figures",
    "grid_key",
    "note",
    "on_box",
    "outlined",
    "pair",
]

_RANGES = {"99.5th percentile": 99.5, "full range": 100.0}
_DIFFERENCES = {"differences magnified": True, "as they are": False}


def pair(chosen: Selection) -> tuple[str, str]:
    """The two clients that are compared."""
    return chosen.client, chosen.other


def controls() -> tuple[float, bool]:
    """How far the scale reaches, and whether differences are magnified."""
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        reach = _choice("Range", list(_RANGES), "range")
        differences = _choice("Differences", list(_DIFFERENCES), "differences")
    return _RANGES[reach], _DIFFERENCES[differences]


def _choice(label: str, options: list[str], key: str) -> str:
    chosen = st.segmented_control(
        label,
        options,
        default=options[0],
        key=key,
        label_visibility="collapsed",
        required=True,
        bind="query-params",
    )
    return chosen or options[0]


def figures(view: BeforeAfter, chosen: Selection) -> list[HeatmapPanel]:
    """The panels with their titles and colours."""
    return [
        HeatmapPanel(
            title=_title(panel),
            colour=_colour(panel, chosen),
            matrix=panel.matrix,
            histogram=panel.histogram,
            subtitle=f"rms {number(panel.rms)}",
            magnification=panel.magnification,
        )
        for panel in view.panels
    ]


def _title(panel: PanelValues) -> str:
    return {
        "server": "server",
        "client": f"client {panel.client}",
        "aggregate": "aggregate",
        "client-aggregate": f"{panel.client} − aggregate",
        "client-server": f"{panel.client} − server",
        "aggregate-server": "aggregate − server",
    }[panel.role]


def _colour(panel: PanelValues, chosen: Selection) -> str:
    theme = widgets.theme()
    if panel.client:
        ids = [record.id for record in chosen.round.records]
        return client_colour(theme, ids.index(panel.client))
    return theme.server if panel.role == "server" else theme.aggregate


def grid_key(chosen: Selection) -> str:
    """The chart's key: another tensor is another chart, with no box left over."""
    return f"grid_{chosen.round.number}_{chosen.dataset.signature.index(chosen.tensor)}"


def on_box(chosen: Selection) -> None:
    """Choose the cell in the middle of a box that was dragged on a panel."""
    boxes = st.session_state[grid_key(chosen)]["selection"]["box"]
    if boxes:
        row, column = (round((min(boxes[-1][axis]) + max(boxes[-1][axis])) / 2) for axis in "yx")
        st.session_state["_cell"] = (chosen.tensor, row, column)


def chosen_cell(view: BeforeAfter, chosen: Selection) -> tuple[int, ...] | None:
    """Index in the tensor of the chosen cell; of the one that moved most without a choice."""
    tensor, row, column = st.session_state.get("_cell", ("", -1, -1))
    rows, columns = view.layout.shape
    if tensor != chosen.tensor or not (0 <= row < rows and 0 <= column < columns):
        return view.most_moved
    return view.layout.index_at(row, column) or view.most_moved


def outlined(view: BeforeAfter, chosen: Selection) -> tuple[int, int] | None:
    """The cell of the matrix that is outlined."""
    index = chosen_cell(view, chosen)
    return None if index is None else view.layout.cell_of(index)


def note(view: BeforeAfter) -> None:
    """What the panels do not show themselves."""
    matrix = view.panels[0].matrix
    shape = shape_text(view.layout.tensor_shape)
    text = f"{shape}: {counted(view.layout.shape[0] * view.layout.shape[1], 'cell')}, all drawn."
    if matrix.is_reduced:
        rows, columns = matrix.steps
        text = f"{shape}: {rows} × {columns} values to each cell that is drawn."
    st.markdown(f":small[:gray[{text} Drag a box on a panel to choose the cell in its middle.]]")


def cell_table(story: CellStory) -> None:
    """The value of one cell in every model."""
    rows = [
        {"model": wording.plain_text(name), "value": f"`{signed(value, 5)}`"}
        for name, value in story.values
    ]
    st.table(pd.DataFrame(rows), border="horizontal", hide_index=True, hide_header=True)
