"""The part of a tensor that is looked at: boxes dragged on it, the way back, and chosen cells."""

from __future__ import annotations

import math

import streamlit as st

from fedviz.analysis.before_after import BeforeAfter, whole_window
from fedviz.analysis.heatmap import MatrixLayout, Window
from fedviz.dashboard import kept, widgets
from fedviz.dashboard.places import HOW_TO_WRITE, parse_window, window_text
from fedviz.dashboard.plot import OnHeatmaps
from fedviz.dashboard.state import Selection
from fedviz.errors import FedvizError
from fedviz.figures.text import counted

__all__ = [
    "box_choice",
    "chosen_cells",
    "start",
    "told",
    "way_back",
    "window_of",
]

_LOOKS_CLOSER, _ASKS = "a box looks closer", "a box asks who moved it"
_KEYS = ("w", "cells")


def start(chosen: Selection, *axes: str) -> None:
    """Forget window and cells where they were another tensor's; before any control is drawn."""
    subject = (chosen.dataset.path.name, chosen.tensor)
    if st.session_state.get("_window_subject", subject) != subject:
        kept.forget(*axes)
        st.session_state["_trail"] = []
        for key in _KEYS:
            if kept.held(key):
                kept.put(key, "")
    st.session_state["_window_subject"] = subject


def box_choice() -> None:
    """What a box does that is dragged on a panel."""
    kept.choice("Box", [_LOOKS_CLOSER, _ASKS], "box")


def window_of(layout: MatrixLayout) -> Window | None:
    """The window that is chosen; None for the whole matrix, also where there is no such window."""
    window, problem = _asked("w", layout)
    _tell(problem)
    return None if window == whole_window(layout) else window


def chosen_cells(view: BeforeAfter) -> Window | None:
    """The cells that are chosen; the one that moved most without a choice in view."""
    cells, problem = _asked("cells", view.layout)
    _tell(problem)
    if cells is not None and _overlap(cells, view.window):
        return cells
    if view.most_moved is None:
        return None
    row, column = view.layout.cell_of(view.most_moved)
    return (row, row + 1, column, column + 1)


def told(view: BeforeAfter) -> OnHeatmaps:
    """What becomes of clicks and boxes on the panels."""
    return OnHeatmaps(
        cell=lambda cells: _on_cell(cells, view), box=lambda corners: _on_box(corners, view)
    )


def _on_box(corners: list[float], view: BeforeAfter) -> None:
    """Look closer at a box that was dragged on a panel, or ask who moved its cells.

    ``corners`` are two rows and two columns, in whichever order, where a cell's centre is whole.
    """
    top, bottom = _span(corners[:2], *view.window[:2])
    left, right = _span(corners[2:], *view.window[2:])
    is_one = (bottom - top, right - left) == (1, 1)
    if is_one or st.session_state.get("box") == _ASKS:
        kept.put("cells", window_text((top, bottom, left, right)))
        return
    if not view.is_whole:
        st.session_state["_trail"] = [*st.session_state.get("_trail", []), view.window]
    kept.put("w", window_text((top, bottom, left, right)))


def _on_cell(cells: list[int], view: BeforeAfter) -> None:
    """Choose the cells of the block that was clicked."""
    (top, bottom), (left, right) = sorted(cells[:2]), sorted(cells[2:])
    rows, columns = view.layout.shape
    inside = (max(0, top), min(bottom, rows), max(0, left), min(right, columns))
    kept.put("cells", window_text(inside))


def way_back(view: BeforeAfter) -> None:
    """Where one is in the tensor, and the windows that led there, each a step back."""
    trail = [] if view.is_whole else _trail(view)
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center", key="way_back"):
        st.button(
            "Whole tensor",
            icon=":material/zoom_out_map:",
            type="tertiary",
            on_click=_go,
            args=(0, None),
            disabled=view.is_whole,
        )
        for i, window in enumerate(trail):
            st.markdown(":gray[›]", width="content")
            place = _place(window)
            st.button(place, key=f"trail_{i}", type="tertiary", on_click=_go, args=(i, window))
        if not view.is_whole:
            st.markdown(f":gray[›] **{_place(view.window)}**", width="content")
        st.markdown(f":gray[{_drawn(view)}]", width="content")
        with st.popover("Go to", icon=":material/my_location:", type="tertiary"):
            _field("Look closer at", "w", *_asked("w", view.layout))
            _field("Ask who moved", "cells", *_asked_in_view("cells", view))


def _field(label: str, key: str, window: Window | None, problem: str) -> None:
    """A place to write cells, and below it what was understood, or what is wrong."""
    kept.text(label, key, placeholder="12, 30 or 10:20, 5:9", help=HOW_TO_WRITE.capitalize())
    if problem:
        st.markdown(f":small[:red[{widgets.literal(problem)}]]")
    elif window is not None:
        st.markdown(f":small[:gray[{_place(window)}]]")


def _trail(view: BeforeAfter) -> list[Window]:
    """The larger windows that this one was dragged in."""
    found: list[Window] = st.session_state.get("_trail", [])
    return [w for w in found if w != view.window and _holds(w, view.window)]


def _go(steps: int, window: Window | None) -> None:
    st.session_state["_trail"] = st.session_state.get("_trail", [])[:steps]
    kept.put("w", "" if window is None else window_text(window))


def _drawn(view: BeforeAfter) -> str:
    top, bottom, left, right = view.window
    cells = f"{bottom - top:,} × {right - left:,} cells"
    matrix = view.panels[0].matrix
    if not matrix.is_reduced:
        return f"{cells}, all drawn"
    rows, columns = matrix.steps
    return f"{cells}, {counted(rows * columns, 'value')} ({rows} × {columns}) to each that is drawn"


def _place(window: Window) -> str:
    top, bottom, left, right = window
    return f"{_run('row', top, bottom)}, {_run('column', left, right)}"


def _run(noun: str, first: int, end: int) -> str:
    return f"{noun} {first:,}" if end == first + 1 else f"{noun}s {first:,}–{end - 1:,}"


def _asked(key: str, layout: MatrixLayout) -> tuple[Window | None, str]:
    """The cells that a field or the address asks for, or what is wrong with them."""
    given = str(kept.held(key) or "").strip()
    if not given:
        return None, ""
    try:
        return parse_window(given, layout), ""
    except FedvizError as error:
        return None, str(error)


def _asked_in_view(key: str, view: BeforeAfter) -> tuple[Window | None, str]:
    cells, problem = _asked(key, view.layout)
    if cells is None or _overlap(cells, view.window):
        return cells, problem
    return None, f"{_place(cells)} are not in view, which is {_place(view.window)}"


def _tell(problem: str) -> None:
    """What an address asks for in vain; the fields say it too, but may be closed."""
    if problem:
        st.toast(widgets.literal(problem), icon=":material/info:")


def _span(ends: list[float], first: int, end: int) -> tuple[int, int]:
    """The cells whose centres lie within a box; the one in its middle where none does."""
    low, high = sorted(ends)
    start, stop = math.ceil(low), math.floor(high) + 1
    if stop <= start:
        start = round((low + high) / 2)
        stop = start + 1
    start = min(max(start, first), max(first, end - 1))
    return start, max(start + 1, min(stop, end))


def _overlap(one: Window, other: Window) -> bool:
    rows = one[0] < other[1] and other[0] < one[1]
    return rows and one[2] < other[3] and other[2] < one[3]


def _holds(outer: Window, inner: Window) -> bool:
    rows = outer[0] <= inner[0] and inner[1] <= outer[1]
    return rows and outer[2] <= inner[2] and inner[3] <= outer[3]
