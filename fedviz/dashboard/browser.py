"""What a browser has to do itself: back and forward, and telling of another theme."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

__all__ = ["follow"]

_PROBE = """
.theme {
    height: 1px;
    background-color: var(--st-background-color);
    transition: background-color 1ms;
}
"""
_BROWSER = Path(__file__).with_name("browser.js")


def follow() -> None:
    """Let the browser's back and forward go from selection to selection; follow its theme.

    When the theme changes the page is run again, and draws its charts in the other colours.
    """
    component = st.components.v2.component(
        "browser", html='<div class="theme"></div>', css=_PROBE, js=_BROWSER.read_text("utf-8")
    )
    component(key="browser", height=1, on_theme_change=lambda: None)
