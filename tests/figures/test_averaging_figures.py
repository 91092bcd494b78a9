"""What averaging gains, and how far models lie apart."""

from __future__ import annotations

import numpy as np

from fedviz.figures.averaging import (
    AggregateScore,
    accuracy_strip,
    distance_by_tensor,
    moved_by_tensor,
)
from fedviz.figures.theme import DARK, LIGHT, client_colour

IDS = ["c00", "c01", "c02", "c03"]


def test_strip_has_a_row_for_the_clients_and_one_for_each_aggregate() -> None:
    figure = accuracy_strip(
        IDS,
        [0.36, np.nan, 0.6, 0.672],
        [AggregateScore("median", 0.917), AggregateScore("mean", 0.908, is_chosen=True)],
        LIGHT,
        server=0.894,
        metric_name="accuracy on 360 held-out examples",
    )
    clients, median, mean = figure.data
    assert list(clients.x) == [0.36, 0.6, 0.672]
    assert list(clients.customdata) == ["c00", "c02", "c03"]
    assert (median.y, mean.y) == ((1,), (2,))
    assert (median.marker.color, mean.marker.color) == (LIGHT.page, LIGHT.aggregate)
    assert figure.layout.yaxis.ticktext == ("each client alone", "median", "<b>mean</b>")
    assert figure.layout.xaxis.title.text == "accuracy on 360 held-out examples"
    texts = [a.text for a in figure.layout.annotations]
    assert texts == ["server model", "c00 0.36", "c03 0.67", "0.917", "<b>0.908</b>"]


def test_strip_joins_each_aggregate_to_the_server() -> None:
    scores = [AggregateScore("mean", 0.9, is_chosen=True), AggregateScore("Krum", 0.6)]
    figure = accuracy_strip(IDS, [0.5] * 4, scores, DARK, server=0.8)
    dotted, mean, krum = figure.layout.shapes
    assert (dotted.x0, dotted.x1, dotted.line.dash) == (0.8, 0.8, "dot")
    assert (mean.x0, mean.x1, mean.line.color) == (0.8, 0.9, DARK.aggregate)
    assert (krum.x0, krum.x1, krum.line.color) == (0.8, 0.6, DARK.rule)
    assert not accuracy_strip(IDS, [0.5] * 4, scores, DARK).layout.shapes


def test_equal_clients_do_not_hide_each_other() -> None:
    figure = accuracy_strip(IDS, [0.5, 0.5, 0.5, 0.9], [], LIGHT, selected=["c01"])
    assert len(set(zip(figure.data[0].x, figure.data[0].y, strict=True))) == 4
    assert figure.data[0].marker.color[1] == client_colour(LIGHT, 1)


def test_distances() -> None:
    distances = np.array([[0.1, 0.4], [0.2, np.nan], [0.3, 0.2]])
    figure = distance_by_tensor(
        distances,
        [0.2, 0.3],
        IDS[:3],
        ["dense/kernel", "dense/bias"],
        LIGHT,
        selected=["c00"],
    )
    dots, medians = figure.data
    assert len(dots.x) == 5
    # The selected client is drawn last, above the others.
    assert dots.marker.color[-2:] == (client_colour(LIGHT, 0),) * 2
    assert list(dots.x[-2:]) == [0.1, 0.4]
    assert list(medians.x) == [0.2, 0.3]
    assert medians.marker.line.color == LIGHT.aggregate
    assert [(a.text, a.x, a.y) for a in figure.layout.annotations] == [
        ("c02", 0.3, 0),
        ("c00", 0.4, 1),
    ]
    assert figure.layout.xaxis.range[0] == 0
    assert figure.layout.xaxis.range[1] >= 0.4
    assert figure.layout.yaxis.ticktext == ("kernel", "bias")


def test_moved() -> None:
    figure = moved_by_tensor(["a/kernel", "b/bias"], [0.05, np.nan], LIGHT)
    assert figure.data[0].marker.color == LIGHT.aggregate
    assert [a.text for a in figure.layout.annotations] == ["5.0%", "not finite"]
    assert figure.layout.annotations[1].font.color == LIGHT.failure
    assert figure.layout.xaxis.ticktext[0] == "0%"
    small = moved_by_tensor(["a", "b"], [0.000263, 0.0005], LIGHT)
    assert [a.text for a in small.layout.annotations] == ["0.026%", "0.05%"]


def test_nothing_to_show() -> None:
    assert accuracy_strip([], [], [], LIGHT).layout.annotations == ()
    assert distance_by_tensor(np.empty((0, 1)), [np.nan], [], ["a"], LIGHT).data[0].x.size == 0
    assert tuple(moved_by_tensor(["a"], [0.0], LIGHT).layout.xaxis.range) == (0, 1)
