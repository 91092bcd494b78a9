"""A plotly figure in a component of our own, which is faster than Streamlit's chart.

That turns a figure into text and searches it for forty placeholder colours, twice for each new
figure, and draws it twice. Here arrays travel as the bytes they are, and one element is drawn again
and again, with the plotly.js that Streamlit has.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from fedviz.errors import FedvizError

__all__ = ["OnHeatmaps", "draw", "packed"]

_SOURCE = Path(__file__).with_name("plot.js")
_SCRIPTS = Path(st.__file__).parent / "static" / "static" / "js"

# What a browser has a typed array for, but for 64-bit integers, which plotly.js cannot draw.
_SENT = {"f4", "f8", "i1", "i2", "i4", "u1", "u2", "u4"}


@dataclass(frozen=True)
class OnHeatmaps:
    """What heatmaps of the same cells tell of.

    Parameters
    ----------
    cell : callable
        Is told of a click: the first row, end row, first column and end column of the block.
    box : callable
        Is told of a box that was dragged: two rows and two columns, as the axes count them.
    """

    cell: Callable[[list[int]], None]
    box: Callable[[list[float]], None]


def draw(data: bytes, key: str, told: OnHeatmaps | None = None) -> None:
    """Draw a figure; its element stays while the script draws this key, whatever the figure.

    Parameters
    ----------
    data : bytes
        Of :func:`packed`.
    key : str
        Streamlit's, of the component.
    told : OnHeatmaps, optional
        Of a figure whose heatmaps are linked.
    """
    component = st.components.v2.component(
        "plot",
        html='<div class="plot"></div>',
        js=_SOURCE.read_text(encoding="utf-8"),
        isolate_styles=False,
    )
    if told is None:
        component(key=key, data=data)
        return
    component(
        key=key,
        data=data,
        on_cell_change=_teller(key, "cell", lambda numbers: told.cell([int(n) for n in numbers])),
        on_box_change=_teller(key, "box", told.box),
    )


def _teller(key: str, event: str, tell: Callable[[list[float]], None]) -> Callable[[], None]:
    def happened() -> None:
        numbers = st.session_state[key].get(event)
        if isinstance(numbers, list) and len(numbers) == 4:
            tell([float(number) for number in numbers])

    return happened


def packed(figure: go.Figure, config: Mapping[str, Any], *, are_linked: bool = False) -> bytes:
    """A figure as the component takes it: JSON, and after it the arrays that it refers to.

    Parameters
    ----------
    figure : Figure
    config : mapping
        Plotly's.
    are_linked : bool
        Its heatmaps, which have ``x0``, ``dx``, ``y0`` and ``dy``, show the same cells: one that is
        pointed at is framed in all of them. Such a figure is drawn at once, while others let the
        browser paint first.

    Returns
    -------
    bytes
        The length of the JSON (uint32), the JSON, the arrays; all little-endian. An array is
        ``{"array": dtype, "at": offset after the JSON, "shape": [...]}``, its numbers as they are:
        NaN and infinite ones too; outside arrays these are null, as plotly writes them. Integers
        of 64 bits become float64; text, truth values and what has three axes is JSON.

    Raises
    ------
    FedvizError
        This Streamlit has no plotly.js where it is looked for.
    """
    arrays: list[bytes] = []

    def place(value: Any) -> Any:
        array = np.asarray(value)
        if not array.ndim:
            return array.item()
        if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
            array = array.astype("f8")
        array = array.astype(array.dtype.newbyteorder("<"))
        name = array.dtype.str[1:]
        if name not in _SENT or array.ndim > 2:
            return array.tolist()
        offset = sum(map(len, arrays))
        arrays.append(array.tobytes())
        return {"array": name, "at": offset, "shape": array.shape}

    head = {
        "plotly": _plotly_script(),
        "config": dict(config),
        "areLinked": are_linked,
        # Of the whole figure it would be text already: arrays in base64.
        "data": [trace.to_plotly_json() for trace in figure.data],
        "layout": figure.layout.to_plotly_json(),
    }
    text = json.dumps(head, default=place)
    if "NaN" in text or "Infinity" in text:
        text = json.dumps(json.loads(text, parse_constant=lambda _: None))
    encoded = text.encode()
    return b"".join([len(encoded).to_bytes(4, "little"), encoded, *arrays])


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
