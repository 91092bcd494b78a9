"""What a browser has to do itself: one cursor for all panels, clicks on cells, back and forward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

__all__ = ["cursor", "history"]

_HERE = Path(__file__).parent


def cursor(on_cell: Callable[[list[int]], None]) -> None:
    """Point at a cell, and see it in every heatmap; click it, and ``on_cell`` is told.

    It takes the first row, end row, first column and end column of the block.
    """
    component = st.components.v2.component("linked_cursor", js=_source("linked.js"))

    def clicked() -> None:
        cells = st.session_state["linked_cursor"]["cell"]
        if isinstance(cells, list) and len(cells) == 4:
            on_cell([int(cell) for cell in cells])

    component(key="linked_cursor", on_cell_change=clicked, height=1)


def history() -> None:
    """Make the browser's back and forward buttons go from selection to selection."""
    st.components.v2.component("history", js=_source("history.js"))(key="url_history", height=1)


def _source(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
