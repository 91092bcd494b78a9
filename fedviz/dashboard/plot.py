"""A plotly figure in a component of our own, for figures that Streamlit's chart is too slow for.

Streamlit's chart turns a figure into text and searches that for forty placeholder colours, twice
for each new figure, and draws it twice. Here arrays travel as the bytes they are, and one element
is drawn again and again, with the plotly.js that Streamlit has.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from fedviz.errors import FedvizError

__all__ = ["draw", "packed"]

_SOURCE = Path(__file__).with_name("plot.js")
_SCRIPTS = Path(st.__file__).parent / "static" / "static" / "js"

# What a browser has a typed array for, but for 64-bit integers, which plotly.js cannot draw.
_SENT = {"f4", "f8", "i1", "i2", "i4", "u1", "u2", "u4"}


def draw(
    figure: go.Figure,
    key: str,
    config: Mapping[str, Any],
    *,
    on_cell: Callable[[list[int]], None],
    on_box: Callable[[list[float]], None],
) -> None:
    """Draw a grid of heatmaps; a cell that is pointed at is framed in all of them.

    The element stays while the script draws this key, whatever figure it draws.

    Parameters
    ----------
    figure : Figure
        Its heatmaps have ``x0``, ``dx``, ``y0`` and ``dy``, and count the same cells.
    key : str
        Streamlit's, of the component.
    config : mapping
        Plotly's.
    on_cell : callable
        Is told of a click: the first row, end row, first column and end column of the block.
    on_box : callable
        Is told of a box that was dragged: two rows and two columns, as the axes count them.

    Raises
    ------
    FedvizError
        This Streamlit has no plotly.js where it is looked for.
    """
    component = st.components.v2.component(
        "plot",
        html='<div class="plot"></div>',
        js=_SOURCE.read_text(encoding="utf-8"),
        isolate_styles=False,
    )

    def told(event: str) -> list[float] | None:
        numbers = st.session_state[key].get(event)
        return numbers if isinstance(numbers, list) and len(numbers) == 4 else None

    def clicked() -> None:
        if cells := told("cell"):
            on_cell([int(cell) for cell in cells])

    def dragged() -> None:
        if corners := told("box"):
            on_box([float(corner) for corner in corners])

    component(
        key=key,
        data=packed(figure, config),
        on_cell_change=clicked,
        on_box_change=dragged,
    )


def packed(figure: go.Figure, config: Mapping[str, Any]) -> bytes:
    """A figure as the component takes it: JSON, and after it the arrays that it refers to.

    Parameters
    ----------
    figure : Figure
    config : mapping
        Plotly's.

    Returns
    -------
    bytes
        The length of the JSON (uint32), the JSON, the arrays; all little-endian. An array is
        ``{"array": dtype, "at": offset after the JSON, "shape": [...]}``, its numbers as they are:
        NaN and infinite ones too. Integers of 64 bits become float64, text and truth values JSON.

    Raises
    ------
    ValueError
        A number outside an array is not finite.
    FedvizError
        This Streamlit has no plotly.js where it is looked for.
    """
    arrays: list[bytes] = []

    def place(value: Any) -> Any:
        array = np.asarray(value)
        if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
            array = array.astype("f8")
        array = array.astype(array.dtype.newbyteorder("<"))
        name = array.dtype.str[1:]
        if name not in _SENT:
            return array.tolist()
        offset = sum(map(len, arrays))
        arrays.append(array.tobytes())
        return {"array": name, "at": offset, "shape": array.shape}

    head = {
        "plotly": _plotly_script(),
        "config": dict(config),
        # Of the whole figure it would be text already: arrays in base64.
        "data": [trace.to_plotly_json() for trace in figure.data],
        "layout": figure.layout.to_plotly_json(),
    }
    text = json.dumps(head, default=place, allow_nan=False).encode()
    return b"".join([len(text).to_bytes(4, "little"), text, *arrays])


@functools.cache
def _plotly_script() -> str:
    """The name of Streamlit's own plotly.js, which other charts have loaded already."""
    found = sorted(path.name for path in _SCRIPTS.glob("PlotlyChart.*.js"))
    if not found:
        raise FedvizError(
            f"Streamlit {st.__version__} has no PlotlyChart.*.js in {_SCRIPTS}; "
            "install the version that requirements.txt names"
        )
    return found[0]
