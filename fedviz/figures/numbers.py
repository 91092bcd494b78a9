"""The numbers of a figure, as a table: what is drawn, and nothing that is not."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import plotly.graph_objects as go

__all__ = ["figure_csv"]

_TAG = re.compile(r"<[^>]*>")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
HEADER = ("trace", "x", "y", "value", "label")


def figure_csv(figure: go.Figure) -> str:
    """Every point, bar and cell of a figure, a row each; but for a heatmap that only decorates.

    Returns
    -------
    str
        CSV with the columns ``trace``, ``x``, ``y``, ``value`` (of a heatmap's cell) and ``label``.
        Numbers are written in full; what is not a number is left empty. Names come from files: one
        that a spreadsheet would take for a formula has an apostrophe before it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for position, trace in enumerate(figure.data):
        if trace.type == "heatmap" and trace.hoverinfo == "skip":
            continue
        name = _plain(trace.name) or f"{trace.type} {position + 1}"
        rows = _cells(trace) if trace.type == "heatmap" else _points(trace)
        for row in rows:
            writer.writerow([_safe(name), *map(_cell, row)])
    return text.getvalue()


def _cells(trace: Any) -> Iterator[tuple[Any, ...]]:
    values = np.asarray(trace.z)
    if values.ndim != 2:
        return
    rows, columns = values.shape
    xs, ys = _axis(trace.x, trace.x0, trace.dx, columns), _axis(trace.y, trace.y0, trace.dy, rows)
    for i, j in np.argwhere(np.isfinite(values.astype("f8"))):
        yield _place(xs[j]), _place(ys[i]), values[i, j], ""


def _axis(places: Any, first: Any, step: Any, count: int) -> list[Any]:
    if places is not None and len(places) >= count:
        return list(places)
    start = 0.0 if first is None else float(first)
    return [start + i * (1.0 if step is None else float(step)) for i in range(count)]


def _points(trace: Any) -> Iterator[tuple[Any, ...]]:
    xs, ys = _listed(trace.x), _listed(trace.y)
    labels = _listed(trace.customdata) or _listed(trace.text)
    for i, (x, y) in enumerate(zip(xs, ys, strict=False)):
        if _is_missing(x) or _is_missing(y):
            continue
        yield _place(x), _place(y), "", _label(labels[i]) if i < len(labels) else ""


def _place(value: Any) -> Any:
    return _plain(value) if isinstance(value, str) else value


def _listed(values: Any) -> list[Any]:
    if values is None or isinstance(values, str):
        return []
    return list(values)


def _label(value: Any) -> str:
    parts = value if isinstance(value, (list, tuple, np.ndarray)) else [value]
    return ", ".join(_plain(part) for part in parts)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and not np.isfinite(value))


def _plain(text: Any) -> str:
    """What is read of a text that plotly takes for HTML."""
    return "" if text is None else html.unescape(_TAG.sub(" ", str(text))).strip()


def _cell(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    return _safe(value)


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
