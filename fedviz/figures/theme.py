"""The one visual language: every colour, for light and dark, and the plotly template made of them.

``.streamlit/config.toml`` holds the same values for Streamlit's own widgets.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import plotly.graph_objects as go

from fedviz.figures.colour import (
    blend,
    colour_at,
    colourscale,
    contrast_ratio,
    readable_on,
)
from fedviz.signature import MismatchKind

__all__ = [
    "CONFIG",
    "DARK",
    "KIND_BADGE",
    "KIND_LETTER",
    "LIGHT",
    "SANS",
    "TRANSPARENT",
    "Swatch",
    "Theme",
    "blend",
    "client_colour",
    "colour_at",
    "colourscale",
    "contrast_ratio",
    "readable_on",
    "template",
    "theme_for",
]

SANS = '"Source Sans", sans-serif'
TRANSPARENT = "rgba(0,0,0,0)"

CONFIG: Mapping[str, Any] = MappingProxyType(
    {"displayModeBar": False, "displaylogo": False, "scrollZoom": False, "doubleClick": False}
)
"""What ``st.plotly_chart(figure, config=dict(CONFIG), theme=None)`` takes."""

KIND_LETTER: Mapping[MismatchKind, str] = MappingProxyType(
    {
        MismatchKind.SHAPE: "S",
        MismatchKind.RANK: "R",
        MismatchKind.DTYPE: "D",
        MismatchKind.MISSING: "M",
        MismatchKind.EXTRA: "X",
        MismatchKind.ORDER: "O",
        MismatchKind.NAME: "A",
        MismatchKind.NONFINITE: "N",
    }
)
"""The letter of each mismatch kind; no two share one."""

KIND_BADGE: Mapping[MismatchKind, Literal["red", "blue", "violet", "orange", "gray"]] = (
    MappingProxyType(
        {
            MismatchKind.SHAPE: "red",
            MismatchKind.RANK: "red",
            MismatchKind.DTYPE: "blue",
            MismatchKind.MISSING: "violet",
            MismatchKind.EXTRA: "violet",
            MismatchKind.ORDER: "orange",
            MismatchKind.NAME: "orange",
            MismatchKind.NONFINITE: "gray",
        }
    )
)
"""The colour of ``st.badge`` for each mismatch kind."""


@dataclass(frozen=True)
class Swatch:
    """One of Streamlit's named colours: for marks, for text, and behind that text."""

    colour: str
    text: str
    background: str


@dataclass(frozen=True)
class Theme:
    """All colours of one mode, as ``#RRGGBB``.

    Parameters
    ----------
    mode : {"light", "dark"}
    page, panel : str
        Background of the page, and of code, hover labels and other insets.
    ink, sub, faint : str
        Text; secondary text; marks that stay behind (too pale for text).
    rule, table_rule, grid : str
        Borders; lines between table cells; grid lines.
    fine : str
        A cell of the signature matrix that is as expected.
    server, aggregate : str
        The two models that have a colour of their own.
    red, orange, blue, violet, green, gray : Swatch
        Streamlit's named colours. Red is failure, green the aggregate.
    clients : tuple of 10 str
        By client order; only selected clients are coloured.
    diverging : tuple of 11 str
        Most negative to most positive; the sixth is the page.
    sequential : tuple of 10 str
        Least to most; more is always further from the page.
    beyond : tuple of 2 str
        What lies below and above the diverging scale; unlike any of its colours, also to
        colour-blind eyes.
    beyond_spread : str
        What lies above the sequential scale.
    kinds : mapping of MismatchKind to str
        Cells of the signature matrix that differ.
    """

    mode: Literal["light", "dark"]
    page: str
    panel: str
    ink: str
    sub: str
    faint: str
    rule: str
    table_rule: str
    grid: str
    fine: str
    server: str
    aggregate: str
    red: Swatch
    orange: Swatch
    blue: Swatch
    violet: Swatch
    green: Swatch
    gray: Swatch
    clients: tuple[str, ...]
    diverging: tuple[str, ...]
    sequential: tuple[str, ...]
    beyond: tuple[str, str]
    beyond_spread: str
    kinds: Mapping[MismatchKind, str] = field(hash=False)

    @property
    def failure(self) -> str:
        """Text that says something is wrong."""
        return self.red.text

    @property
    def negative(self) -> str:
        """A bar that points below zero."""
        return self.diverging[2]

    @property
    def positive(self) -> str:
        """A bar that points above zero."""
        return self.diverging[-3]


def _colours(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _kinds(
    shape: str, dtype: str, presence: str, order: str, name: str, nonfinite: str
) -> Mapping[MismatchKind, str]:
    return MappingProxyType(
        {
            MismatchKind.SHAPE: shape,
            MismatchKind.RANK: shape,
            MismatchKind.DTYPE: dtype,
            MismatchKind.MISSING: presence,
            MismatchKind.EXTRA: presence,
            MismatchKind.ORDER: order,
            MismatchKind.NAME: name,
            MismatchKind.NONFINITE: nonfinite,
        }
    )


LIGHT = Theme(
    mode="light",
    page="#FFFFFF",
    panel="#F5F6F7",
    ink="#1B2126",
    sub="#56616A",
    faint="#8A949C",
    rule="#E1E5E8",
    table_rule="#E9ECEE",
    grid="#EDF0F2",
    fine="#E9ECEE",
    server="#1B2126",
    aggregate="#0B7A75",
    red=Swatch("#D55E00", "#A84300", "#FBE9DE"),
    orange=Swatch("#E69F00", "#7D5600", "#FCF1D9"),
    blue=Swatch("#0072B2", "#005A8E", "#E0EFF8"),
    violet=Swatch("#AA4C8C", "#87356D", "#F7E7F1"),
    green=Swatch("#0B7A75", "#0B6A66", "#E0F1EF"),
    gray=Swatch("#8A949C", "#56616A", "#EEF0F2"),
    clients=_colours(
        "#C98200 #3796D2 #0072B2 #D55E00 #C46B9C #9C8C00 #8F6200 #004A75 #8A3D00 #87466B"
    ),
    diverging=_colours(
        "#003A82 #005CBE #2A84EC #7BAFF2 #C0D7F5 #FFFFFF #F3CAC4 #EA9084 #DB4F44 #AC251F #750D0C"
    ),
    sequential=_colours(
        "#F4F2EA #E4DEC6 #CFC79F #B3AC85 #94927F #777B7F #5C6580 #425180 #273C76 #0C2658"
    ),
    beyond=("#9B4B8B", "#C9B800"),
    beyond_spread="#D000F5",
    kinds=_kinds("#C75200", "#0072B2", "#AA4C8C", "#E69F00", "#7D5600", "#56616A"),
)

DARK = Theme(
    mode="dark",
    page="#0E1216",
    panel="#171C21",
    ink="#E6EAED",
    sub="#A3ADB5",
    faint="#7C8790",
    rule="#2A3138",
    table_rule="#222930",
    grid="#1F262C",
    fine="#20272D",
    server="#E6EAED",
    aggregate="#3CC4B4",
    red=Swatch("#F0803C", "#F79A61", "#3A2114"),
    orange=Swatch("#E6A81E", "#EDBB4E", "#352A10"),
    blue=Swatch("#4FA8E0", "#7CC0EC", "#12293A"),
    violet=Swatch("#D58DBB", "#E3A8CC", "#34202D"),
    green=Swatch("#3CC4B4", "#5FD3C5", "#10302D"),
    gray=Swatch("#7C8790", "#A3ADB5", "#20262C"),
    clients=_colours(
        "#E69F00 #56B4E9 #2F8FD0 #E8743B #D58DBB #E3D44A #B98A2E #8FB8D6 #C98A63 #A97C98"
    ),
    diverging=_colours(
        "#98D0FF #4EA6FA #007BD8 #0054A5 #003165 #0E1216 #5C1008 #972115 #CA4636 #F07967 #FFB2A4"
    ),
    sequential=_colours(
        "#171D24 #0F2C57 #273F73 #445382 #5D667F #787B7E #969282 #B8AB7C #DCC663 #FDE74C"
    ),
    beyond=("#A0508C", "#FFDD1F"),
    beyond_spread="#D000F5",
    kinds=_kinds("#E8743B", "#4FA8E0", "#D58DBB", "#E6A81E", "#EDBB4E", "#A3ADB5"),
)


def theme_for(mode: str | None) -> Theme:
    """The theme of ``st.context.theme.type``: dark for ``"dark"``, light for all else."""
    return DARK if mode == "dark" else LIGHT


def client_colour(theme: Theme, index: int) -> str:
    """The colour of the client at ``index`` of the cohort's order; they repeat after ten."""
    return theme.clients[index % len(theme.clients)]


@functools.lru_cache(maxsize=2)
def template(theme: Theme) -> go.layout.Template:
    """Fonts, axes, margins and hover labels that all figures share; a figure takes a copy."""
    axis = {
        "showgrid": True,
        "gridcolor": theme.grid,
        "gridwidth": 1,
        "zeroline": False,
        "showline": False,
        "ticks": "",
        "linecolor": theme.rule,
        "tickfont": {"size": 11, "color": theme.sub},
        "title": {"font": {"size": 12, "color": theme.sub}, "standoff": 8},
        "tickangle": 0,
        "automargin": False,
        "fixedrange": True,
    }
    return go.layout.Template(
        layout={
            "font": {"family": SANS, "size": 12, "color": theme.ink},
            "paper_bgcolor": TRANSPARENT,
            "plot_bgcolor": TRANSPARENT,
            "margin": {"l": 48, "r": 12, "t": 28, "b": 32},
            "colorway": theme.clients,
            "xaxis": axis,
            "yaxis": {**axis, "ticklabelstandoff": 4},
            "showlegend": False,
            "dragmode": False,
            "hovermode": "closest",
            "hoverlabel": {
                "bgcolor": theme.panel,
                "bordercolor": theme.rule,
                "font": {"family": SANS, "size": 12, "color": theme.ink},
                "align": "left",
                "namelength": -1,
            },
            "annotationdefaults": {"font": {"size": 12, "color": theme.sub}, "showarrow": False},
            "transition": {"duration": 0},
        }
    )
