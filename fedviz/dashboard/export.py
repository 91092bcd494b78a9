"""Taking a view along: its picture, from the chart's own button, and its numbers."""

from __future__ import annotations

import functools
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from fedviz.figures.numbers import figure_csv
from fedviz.figures.theme import CONFIG

__all__ = ["chart_config", "menu"]

_FORMATS = ("PNG", "SVG")


def chart_config(key: str) -> dict[str, Any]:
    """Plotly's config: on hover one button, which saves the picture in the chosen format."""
    chosen = st.session_state.get(_format_key(key)) or _FORMATS[0]
    return {
        **CONFIG,
        "displayModeBar": "hover",
        "modeBarButtons": [["toImage"]],
        "toImageButtonOptions": {
            "format": chosen.lower(),
            "filename": f"fedviz-{key}",
            "scale": 2 if chosen == "PNG" else 1,
        },
    }


def _format_key(key: str) -> str:
    return f"picture_{key}"


def menu(figure: go.Figure, key: str) -> None:
    """What to take of a chart, beside its head."""
    with (
        st.container(key=f"export_{key}"),
        st.popover("Export", icon=":material/download:", type="tertiary"),
    ):
        st.segmented_control(
            "Picture",
            _FORMATS,
            default=_FORMATS[0],
            key=_format_key(key),
            required=True,
            help="The camera at the upper right of the chart saves it in this format.",
        )
        st.download_button(
            "Numbers (CSV)",
            functools.partial(figure_csv, figure),
            file_name=f"fedviz-{key}.csv",
            mime="text/csv",
            icon=":material/table:",
            key=f"numbers_{key}",
            on_click="ignore",
        )
