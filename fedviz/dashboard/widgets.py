"""What every page is made of: its style, head, sections, charts and notes."""

from __future__ import annotations

import contextlib
import string
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from fedviz.dashboard import export, plot
from fedviz.errors import FedvizError
from fedviz.figures.theme import CONFIG, Theme, theme_for

__all__ = [
    "Chip",
    "answer",
    "chart",
    "chips",
    "controls_and_pictures",
    "crumbs",
    "errors_in_place",
    "head",
    "heatmaps",
    "how_to_read",
    "literal",
    "metrics",
    "section",
    "style",
    "theme",
]

Badge = Literal["red", "orange", "yellow", "blue", "green", "violet", "gray", "grey", "primary"]
Chip = tuple[str, str | None, Badge]
"""Label, icon and colour: grey where all is well, orange to know, red to act."""

FINE, KNOW, ACT = ":material/check:", ":material/warning:", ":material/error:"

_STYLE = (Path(__file__).parent / "style.css").read_text()


def theme() -> Theme:
    """The colours of the mode that the browser shows."""
    return theme_for("dark" if st.context.theme.type == "dark" else "light")


def style() -> None:
    """The little that Streamlit's theme cannot say."""
    colours = theme()
    text = _STYLE.replace("PAGE_COLOUR", colours.page).replace("SUB_COLOUR", colours.sub)
    st.html(f"<style>{text}</style>")


def crumbs() -> DeltaGenerator:
    """The row of the breadcrumb."""
    return st.container(horizontal=True, key="crumbs", gap="xxsmall", vertical_alignment="center")


def head(title: str, question: str) -> None:
    """The page's title and the question that it answers."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="head"):
        st.title(title, anchor=False, width="content")
        st.markdown(f":gray[{question}]", width="content")


def answer(sentence: str) -> None:
    """One computed sentence."""
    st.header(sentence, anchor=False)


def chips(items: Sequence[Chip]) -> None:
    """A row of small facts."""
    with st.container(horizontal=True, gap="xsmall", key="chips"):
        for label, icon, colour in items:
            st.badge(label, icon=icon, color=colour)


def metrics(items: Sequence[tuple[str, str]], width: int = 160) -> None:
    """The numbers that matter: label and value."""
    with st.container(horizontal=True, gap="medium", key="numbers"):
        for label, value in items:
            st.metric(label, value, width=width)


def controls_and_pictures(*, has_result: bool) -> tuple[DeltaGenerator, DeltaGenerator]:
    """Two columns; where there is room for one only, the pictures come first once there are any."""
    with st.container(key="pictures_first" if has_result else "controls_first"):
        controls, pictures = st.columns([4, 15], gap="large")
    return controls, pictures


def section(title: str, note: str = "") -> None:
    """The head of a section."""
    with st.container(gap=None):
        st.subheader(title, anchor=False)
        if note:
            st.markdown(f":small[:gray[{note}]]")


Wide = Literal["", "mid", "wide"]
"""How much room a chart needs: on a narrow screen a ``mid`` or ``wide`` one scrolls sideways."""


def chart(
    figure: go.Figure,
    key: str,
    *,
    variant: str = "",
    wide: Wide = "",
    on_select: Callable[[], None] | Literal["ignore"] = "ignore",
    exported: bool = True,
) -> Any:
    """Show a figure, and what to take of it unless ``exported`` is off.

    What can be clicked is Streamlit's own chart: with another ``variant`` it is another one, with
    no points left over from the last. (A container's key stays: with another, the browser would
    first draw the last figure once more in the new container, which takes as long as the new one.)
    """
    config = export.chart_config(key) if exported else dict(CONFIG)
    if on_select == "ignore":
        data = plot.packed(figure, config)
        with _place(figure, key, wide, exported=exported):
            plot.draw(data, key)
        return None
    with _place(figure, key, wide, exported=exported):
        return st.plotly_chart(
            figure,
            theme=None,
            config=config,
            key=f"{key}_{variant}" if variant else key,
            width="stretch",
            on_select=on_select,
            selection_mode="points",
        )


def heatmaps(figure: go.Figure, key: str, told: plot.OnHeatmaps, *, wide: Wide = "") -> None:
    """Show heatmaps that have one cursor, and what to take of them."""
    # Before their container: the browser would draw the page once more for what comes apart.
    data = plot.packed(figure, export.chart_config(key), are_linked=True)
    with _place(figure, key, wide, exported=True):
        plot.draw(data, key, told)


@contextlib.contextmanager
def _place(figure: go.Figure, key: str, wide: Wide, *, exported: bool) -> Iterator[None]:
    """Where a figure stands, and what to take of it."""
    with st.container(key=f"view_{key}", gap=None):
        with st.container(key=f"{wide}_{key}" if wide else f"plain_{key}"):
            yield
        if exported:
            export.menu(figure, key)


def how_to_read(text: str) -> None:
    """The folded note at the end of a page."""
    with st.expander("How to read this", icon=":material/help:", type="compact"):
        st.markdown(text)


@contextlib.contextmanager
def errors_in_place() -> Iterator[None]:
    """Show what went wrong where it went wrong; the rest of the page stays."""
    try:
        yield
    except FedvizError as error:
        st.error(literal(str(error)), icon=":material/error:")


def literal(message: str) -> str:
    """A message with names from files in it, which must not be read as Markdown."""
    line = "".join(c if c.isprintable() else "�" for c in message)
    return "".join(f"\\{c}" if c in string.punctuation else c for c in line)
