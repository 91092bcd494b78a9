"""The plot of ``RESULTS.md``: ``python -m benchmarks.peers.plot RESULTS.json PLOT.svg``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, TEAL, FAINT = "#24292f", "#00857a", "#b8bec6"
Rows = list[dict[str, Any]]


def bars(axes: Axes, rows: Rows, title: str) -> None:
    """Seconds of some cases, ours in the colour of aggregates."""
    names = [row["case"].partition(": ")[2] or row["case"] for row in rows]
    colours = [TEAL if "fedviz" in name else FAINT for name in names]
    drawn = axes.barh(names, [row["value"] for row in rows], color=colours, height=0.65)
    axes.bar_label(drawn, [f"{row['value']:.3g} s" for row in rows], padding=4, color=INK)
    axes.set_xscale("log")
    axes.set_xlim(min(row["value"] for row in rows) / 2, max(row["value"] for row in rows) * 4)
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontweight="bold")


def mean_bars(axes: Axes, rows: Rows) -> None:
    """The mean of the smaller cohort."""
    bars(axes, [r for r in rows if r["case"].startswith("100 ")], "Mean of 100 × 0.81 M, seconds")


def large_mean_bars(axes: Axes, rows: Rows) -> None:
    """The mean of the larger cohort."""
    bars(axes, [r for r in rows if r["case"].startswith("1,0")], "Mean of 1,000 × 1.66 M, seconds")


def growth_bars(axes: Axes, rows: Rows) -> None:
    """The mean by size."""
    bars(axes, rows, "Mean, by clients and parameters, seconds")


def aggregator_bars(axes: Axes, rows: Rows) -> None:
    """Each aggregator's time."""
    bars(axes, rows, "TFF's aggregators, 100 × 0.1 M, seconds")


PANELS: dict[str, tuple[tuple[str, Callable[[Axes, Rows], None]], ...]] = {
    "federated_mean": (("mean", mean_bars), ("large", large_mean_bars)),
    "growth": (("growth", growth_bars),),
    "aggregators": (("aggregators", aggregator_bars),),
}


def main(store: str, target: str) -> None:
    """Draw what has been measured."""
    stored = json.loads(Path(store).read_text(encoding="utf-8"))
    panels = []
    for topic, draws in PANELS.items():
        rows = [r for r in stored.get(topic, {"rows": []})["rows"] if isinstance(r["value"], float)]
        panels += [(draw, rows) for _, draw in draws if rows]
    # Text as text, and the same file for the same numbers.
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "fedviz", "font.size": 9}
    mpl.rcParams |= {"text.color": INK, "axes.labelcolor": INK, "ytick.color": INK}
    figure = Figure(figsize=(9, 2.6 * max(1, len(panels))), layout="constrained")
    figure.set_facecolor("white")
    for number, (draw, rows) in enumerate(panels, 1):
        axes = figure.add_subplot(max(1, len(panels)), 1, number)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
        draw(axes, rows)
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
