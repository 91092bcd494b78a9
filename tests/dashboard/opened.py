"""A page of the dashboard without a browser: what it shows, in plain values."""

from __future__ import annotations

import base64
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parents[2]
PAGES = (
    *("overview", "generate", "signatures", "heatmaps", "clients", "averaging"),
    "report",
)

_ESCAPE_OR_CODE = re.compile(r"\\([!-/:-@\[-`{-~])|`([^`]*)`")


class OpenedPage:
    """One page in a session of its own.

    Parameters
    ----------
    name : str
        Of :data:`PAGES`.
    **address : str
        The query of its address.
    """

    def __init__(self, name: str = "overview", **address: str) -> None:
        self.app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
        self.app.query_params.update(address)
        self.go_to(name)

    def go_to(self, name: str) -> None:
        """Open another page in the same session."""
        self.app.switch_page(f"pages/{name}.py")
        self.run()

    def run(self) -> None:
        """Run the page; what it raises is this test's failure."""
        self.app.run()
        assert [error.message for error in self.app.exception] == []

    def choose(self, **levels: Any) -> None:
        """Select in the breadcrumb, or in any other selectbox, by its key."""
        for level, value in levels.items():
            self.app.selectbox(key=level).set_value(value)
        self.run()

    def press(self, label: str) -> None:
        """Press a button by its label."""
        self.button(label).click()
        self.run()

    def button(self, label: str) -> Any:
        (button,) = [b for b in self.app.button if label in b.label]
        return button

    @property
    def answer(self) -> str:
        """The page's computed sentence, without Markdown's escapes."""
        return unescaped(self.app.header[0].value)

    @property
    def errors(self) -> list[str]:
        """What went wrong, in place."""
        return [unescaped(error.value) for error in self.app.error]

    @property
    def metrics(self) -> dict[str, str]:
        return {metric.label: metric.value for metric in self.app.metric}

    @property
    def chips(self) -> dict[str, str]:
        """Colour of each badge, by its label."""
        found = [re.fullmatch(r":(\w+)-badge\[(.*)\]", m.value) for m in self.app.markdown]
        return {re.sub(r":material/\w+: ", "", m[2]): m[1] for m in found if m}

    def frame(self, key: str) -> pd.DataFrame:
        """A table with sortable columns."""
        (frame,) = [f.value for f in self.app.dataframe if f.key == key]
        return frame

    def tables(self) -> list[pd.DataFrame]:
        """The plain tables, without Markdown's escapes and code marks."""
        return [t.value.map(lambda cell: unescaped(str(cell))) for t in self.app.table]

    def charts(self) -> list[dict[str, Any]]:
        """The plotly figures in the page's order, their arrays decoded."""
        return [figure for element in self.app.main if (figure := _figure(element))]

    def packed(self, key: str) -> bytes:
        """What the browser is sent of a chart of our own."""
        components = self.app.get("bidi_component")
        (data,) = [c.proto.bytes for c in components if c.proto.id.endswith(f"-{key}")]
        return bytes(data)

    def markdown(self) -> list[str]:
        """Every text on the page that Streamlit reads as Markdown."""
        kinds = ("markdown", "title", "header", "subheader", "error", "warning", "info", "success")
        texts = [element.value for kind in kinds for element in getattr(self.app, kind)]
        texts += [toast.value for toast in self.app.toast]
        for table in self.app.table:
            texts += [*map(str, table.value.columns), *map(str, table.value.values.flat)]
        return texts + [metric.label for metric in self.app.metric]


def unescaped(text: str) -> str:
    """Markdown's escapes undone, and code spans as their content."""
    return _ESCAPE_OR_CODE.sub(lambda found: found[1] or found[2], text)


def live_markdown(text: str) -> str:
    """What is left that means something in Markdown: without escapes and code spans."""
    return _ESCAPE_OR_CODE.sub("", text)


def labels(figure: dict[str, Any]) -> list[str]:
    """Every text of a figure that plotly draws, and so reads as HTML."""
    return list(_texts({key: value for key, value in figure.items() if key != "config"}))


def _texts(value: Any, key: str = "") -> Any:
    if key == "customdata":
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _figure(element: Any) -> dict[str, Any] | None:
    """The figure of a chart, Streamlit's or our own; None of what is no chart."""
    if element.type == "plotly_chart":
        return _decoded(json.loads(element.proto.spec))
    if element.type == "bidi_component" and element.proto.component_name == "plot":
        return unpacked(element.proto.bytes)
    return None


def unpacked(data: bytes) -> dict[str, Any]:
    """What :func:`fedviz.dashboard.plot.packed` packed, read as its docstring says."""
    start = 4 + int.from_bytes(data[:4], "little")

    def placed(value: dict[str, Any]) -> Any:
        if set(value) != {"array", "at", "shape"}:
            return value
        shape, dtype = value["shape"], np.dtype("<" + value["array"])
        array = np.frombuffer(data, dtype, math.prod(shape), start + value["at"])
        return array.reshape(shape)

    return json.loads(data[4:start], object_hook=placed)


def _decoded(value: Any) -> Any:
    """plotly's JSON with its base64 arrays as NumPy's."""
    if isinstance(value, list):
        return [_decoded(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if "bdata" in value:
        array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
        shape = [int(size) for size in str(value.get("shape", array.size)).split(",")]
        return array.reshape(shape)
    return {name: _decoded(inner) for name, inner in value.items()}
