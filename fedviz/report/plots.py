"""A report's figures: each drawn light, with the differences that make it dark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import plotly.graph_objects as go

from fedviz.figures.averaging import (
    AggregateScore,
    accuracy_strip,
    distance_by_tensor,
    moved_by_tensor,
)
from fedviz.figures.heatmaps import heatmap_grid
from fedviz.figures.rounds import accuracy_over_rounds
from fedviz.figures.signature_matrix import signature_matrix_figure
from fedviz.figures.signature_view import MatrixFilter, matrix_view
from fedviz.figures.theme import DARK, LIGHT, Theme
from fedviz.pictures import heatmap_panels
from fedviz.report.contents import ReportContents, TensorView

__all__ = ["ReportPlot", "plots_of"]

_MOST_BYTES = 4_700_000
"""Of all figures together: with plotly's library the file stays below 10 MB."""


@dataclass(frozen=True)
class ReportPlot:
    """One figure of a report.

    Parameters
    ----------
    key : str
        Names it within the file, and the pictures that are saved from it.
    title, note : str
        Plain text: what is shown, and how to read it.
    section : str
        Where it stands.
    spec : dict
        plotly's data and layout, for light.
    dark : list of [path, value]
        What is different in the dark: keys that lead to a value, and the value there.
    width : {"", "mid", "wide"}
        How much room it needs; on a narrow screen it scrolls.
    """

    key: str
    title: str
    note: str
    section: str
    spec: dict[str, Any]
    dark: list[list[Any]]
    width: Literal["", "mid", "wide"] = ""

    @property
    def height(self) -> int:
        """Pixels, known before it is drawn: nothing jumps."""
        return int(self.spec["layout"].get("height", 450))


def plots_of(contents: ReportContents) -> list[ReportPlot]:
    """The figures of a report, the heatmaps last; of these as many as the file has room for."""
    plots: list[ReportPlot] = []
    left = _MOST_BYTES
    for each in _drawn(contents):
        size = len(json.dumps([each.spec, each.dark]))
        if size <= left:
            plots.append(each)
            left -= size
    return plots


def _drawn(contents: ReportContents) -> Iterator[ReportPlot]:
    if not contents.check.consistent:
        yield _matrix(contents)
    if contents.courses is not None:
        yield _courses(contents)
    shown = contents.aggregates
    if shown.metric:
        yield _strip(contents)
    distances, medians = shown.distances, shown.medians
    if shown.tensors and distances is not None and medians is not None:
        yield _plot(
            "distances",
            "Distance to the aggregate, by tensor",
            "One dot for each client, a teal bar at the median; the furthest is named.",
            "clients",
            lambda theme: distance_by_tensor(
                distances, medians, shown.client_ids, shown.tensors, theme
            ),
            "mid",
        )
        yield _plot(
            "moved",
            "What averaging changed",
            "How far the aggregate lies from the server model, by tensor.",
            "aggregators",
            lambda theme: moved_by_tensor(shown.tensors, shown.moved, theme),
            "mid",
        )
    for i, view in enumerate(contents.views):
        yield _heatmaps(contents, view, i)


def _plot(
    key: str,
    title: str,
    note: str,
    section: str,
    draw: Callable[[Theme], go.Figure],
    width: Literal["", "mid", "wide"] = "",
) -> ReportPlot:
    light, dark = (json.loads(draw(theme).to_json(engine="json")) for theme in (LIGHT, DARK))
    return ReportPlot(key, title, note, section, light, list(_differences(light, dark, [])), width)


def _differences(light: Any, dark: Any, path: list[Any]) -> Iterator[list[Any]]:
    """Where two drawings of the same numbers differ: in their colours."""
    if isinstance(light, dict) and isinstance(dark, dict) and light.keys() == dark.keys():
        for name in light:
            yield from _differences(light[name], dark[name], [*path, name])
    elif isinstance(light, list) and isinstance(dark, list) and len(light) == len(dark):
        for i, (one, other) in enumerate(zip(light, dark, strict=True)):
            yield from _differences(one, other, [*path, i])
    elif light != dark:
        yield [path, dark]


def _matrix(contents: ReportContents) -> ReportPlot:
    clients = tuple(record.id for record in contents.round.records)
    view = matrix_view(
        contents.check.signature.names, clients, contents.groups, MatrixFilter(), all_tensors=False
    )
    return _plot(
        "signatures",
        "Client × tensor",
        "Pale cells are as expected. A colour and a letter mark each mismatch; clients that "
        "differ in the same way share a row.",
        "mismatches",
        lambda theme: signature_matrix_figure(view, theme),
        "mid",
    )


def _courses(contents: ReportContents) -> ReportPlot:
    courses = contents.courses
    assert courses is not None
    return _plot(
        "courses",
        f"{courses.metric.capitalize()} over the rounds",
        "Each client alone, the server model and the aggregate, on held-out data.",
        "summary",
        lambda theme: accuracy_over_rounds(
            courses.rounds,
            courses.clients,
            courses.aggregate,
            courses.server,
            courses.client_ids,
            courses.metric,
            theme,
            shown_round=contents.round.number,
        ),
        "mid",
    )


def _strip(contents: ReportContents) -> ReportPlot:
    shown = contents.aggregates
    scores = [
        AggregateScore(row.name, row.score, row.name == shown.name)
        for row in shown.rows
        if row.score is not None
    ]
    return _plot(
        "strip",
        f"{str(shown.metric).capitalize()} of each client alone, and of the aggregates",
        "On held-out examples. Left of the dotted line a model is worse than the one that the "
        "round began with.",
        "aggregators",
        lambda theme: accuracy_strip(
            shown.client_ids,
            shown.clients,
            scores,
            theme,
            server=shown.server,
            metric_name=f"{shown.metric} on held-out examples",
        ),
        "mid",
    )


def _heatmaps(contents: ReportContents, view: TensorView, position: int) -> ReportPlot:
    values = view.values

    def draw(theme: Theme) -> go.Figure:
        panels = heatmap_panels(values, contents.round, theme)
        figure = heatmap_grid(panels, values.limit, values.layout, theme)
        return figure.update_layout(dragmode=False)

    reduced = values.panels[0].matrix
    drawn = (
        f" Each cell that is drawn stands for {reduced.steps[0]} × {reduced.steps[1]} values, and "
        "shows the one furthest from 0."
        if reduced.is_reduced
        else ""
    )
    return _plot(
        f"tensor-{position}",
        view.tensor,
        f"The server model, {view.clients[0]}, which ended furthest from the aggregate in this "
        f"tensor, {view.clients[1]}, which ended nearest, and the differences.{drawn}",
        "heatmaps",
        draw,
        "wide",
    )
