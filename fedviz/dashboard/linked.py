"""What a browser has to do itself: back and forward."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

__all__ = ["history"]

_HISTORY = Path(__file__).with_name("history.js")


def history() -> None:
    """Make the browser's back and forward buttons go from selection to selection."""
    script = _HISTORY.read_text(encoding="utf-8")
    st.components.v2.component("history", js=script)(key="url_history", height=1)
