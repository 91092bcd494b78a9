"""Histograms that stand side by side, on one pair of axes for each row of them.

A pair of axes is what costs most in a drawing of many: six heatmaps took plotly 70 ms in a browser
with six histograms on axes of their own, and 41 ms with these on one pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedviz.analysis.scales import Histogram
from fedviz.figures.cells import Box, axis_name
from fedviz.figures.draft import Draft
from fedviz.figures.layout import UNFADED
from fedviz.figures.text import short_number
from fedviz.figures.theme import Theme

__all__ = ["HistogramPlace", "draw_histogram", "histogram_axes", "row_boxes", "row_places"]

# A histogram reaches a little further than its limits, and its bars stand apart a little.
_REACH, _BAR_SHARE = 1.02, 0.92


@dataclass(frozen=True)
class HistogramPlace:
    """Where a histogram stands: the number of its axes, and its part of their width, 0 to 1."""

    axes: int
    left: float
    right: float

    @property
    def centre(self) -> float:
        """Its middle, in shares of the axes' width."""
        return (self.left + self.right) / 2

    def positions(self, values: np.ndarray, limit: float) -> np.ndarray:
        """Where values stand whose limit is so large."""
        return self.centre + values / (2 * _REACH * limit) * (self.right - self.left)


def row_boxes(boxes: Sequence[Box]) -> list[Box]:
    """One box around those that stand side by side, from above to below."""
    rows: dict[float, list[Box]] = {}
    for box in boxes:
        rows.setdefault(box.top, []).append(box)
    return [
        Box(min(b.left for b in row), max(b.right for b in row), row[0].top, row[0].bottom)
        for row in rows.values()
    ]


def row_places(boxes: Sequence[Box], first: int) -> list[HistogramPlace]:
    """The place of each, where the first row's axes have the number ``first``."""
    rows = row_boxes(boxes)
    tops = [row.top for row in rows]
    places = []
    for box in boxes:
        k = tops.index(box.top)
        width = rows[k].right - rows[k].left
        left, right = ((end - rows[k].left) / width for end in (box.left, box.right))
        places.append(HistogramPlace(first + k, left, right))
    return places


def draw_histogram(
    figure: Draft, place: HistogramPlace, histogram: Histogram, ends: tuple[str, str], theme: Theme
) -> None:
    """Add a histogram's bars.

    ``ends`` are the colours of its first and last bar where these hold clipped values.
    """
    limit = float(histogram.edges[-1])
    edges = place.positions(histogram.edges, limit)
    figure.add_bar(
        x=(edges[1:] + edges[:-1]) / 2,
        y=histogram.counts / max(1, histogram.counts.max()),
        width=float(edges[1] - edges[0]) * _BAR_SHARE,
        customdata=np.stack([histogram.shares * 100, histogram.centres], axis=1),
        hovertemplate="about %{customdata[1]:.3~g}: %{customdata[0]:.1f}% of the cells"
        "<extra></extra>",
        marker={"color": _bar_colours(histogram, ends, theme), "line": {"width": 0}},
        xaxis=axis_name("x", place.axes),
        yaxis=axis_name("y", place.axes),
        unselected=UNFADED,
    )


def histogram_axes(
    places: Sequence[HistogramPlace], histograms: Sequence[Histogram]
) -> dict[str, Any]:
    """Layout of the rows' axes."""
    axes: dict[str, Any] = {}
    for place, histogram in zip(places, histograms, strict=True):
        limit = float(histogram.edges[-1])
        # At the limits themselves neighbours would collide.
        marked = np.array([-limit / 2, 0, limit / 2])
        row = axes.setdefault(
            f"xaxis{place.axes}",
            {"range": [0, 1], "showgrid": False, "tickvals": [], "ticktext": []},
        )
        row["tickvals"] += place.positions(marked, limit).tolist()
        row["ticktext"] += [short_number(v) for v in marked.tolist()]
        axes[f"yaxis{place.axes}"] = {"visible": False, "range": [0, 1.08]}
    return axes


def _bar_colours(histogram: Histogram, ends: tuple[str, str], theme: Theme) -> list[str]:
    """Pale bars, but for an end that holds clipped values."""
    colours = [theme.faint] * len(histogram.counts)
    if histogram.below:
        colours[0] = ends[0]
    if histogram.above:
        colours[-1] = ends[1]
    return colours
