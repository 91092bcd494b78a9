"""Accuracy over the rounds."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from fedviz.figures.rounds import accuracy_over_rounds
from fedviz.figures.theme import DARK, LIGHT, client_colour

IDS = ("c00", "c01", "c02")
COURSE = np.array([[0.2, 0.3, np.nan], [0.4, 0.5, 0.45], [0.41, 0.8, 0.6]])
WHOLE = [0.5, 0.7, 0.85]


def texts(figure: go.Figure) -> list[str]:
    return [a.text for a in figure.layout.annotations]


def test_only_the_selected_client_is_coloured() -> None:
    figure = accuracy_over_rounds(
        (0, 1, 2), COURSE, WHOLE, None, IDS, "accuracy", LIGHT, selected=["c02"]
    )
    others, chosen, aggregate = figure.data
    assert others.line.color == LIGHT.faint
    assert chosen.line.color == client_colour(LIGHT, 2)
    assert aggregate.line.color == LIGHT.aggregate
    # Both other clients, a NaN after each.
    np.testing.assert_array_equal(others.y, [0.2, 0.4, 0.41, np.nan, 0.3, 0.5, 0.8, np.nan])
    assert np.isnan(chosen.y[0])


def test_ends_are_named_and_pushed_apart() -> None:
    figure = accuracy_over_rounds(
        (0, 1, 2), COURSE, WHOLE, [0.1, 0.5, 0.84], IDS, "accuracy", LIGHT
    )
    assert texts(figure) == ["c00 0.41", "c01 0.80", "<b>aggregate 0.85</b>", "server 0.84"]
    places = sorted(a.y for a in figure.layout.annotations)
    low, high = figure.layout.yaxis.range
    gap = 15 * (high - low) / (figure.layout.height - 40)
    assert min(np.diff(places)) >= gap - 1e-9
    assert all(a.xref == "paper" for a in figure.layout.annotations)


def test_the_shown_round_has_the_large_dot() -> None:
    figure = accuracy_over_rounds(
        (0, 1, 2), COURSE, WHOLE, None, IDS, "accuracy", LIGHT, shown_round=1
    )
    assert figure.data[-1].marker.size == (6, 11, 6)
    assert figure.layout.xaxis.ticktext == ("round 0", "1", "2")


def test_accuracies_stay_within_one_and_losses_do_not() -> None:
    high = accuracy_over_rounds((0, 1), COURSE[1:], [0.99, 1.0], None, IDS, "accuracy", LIGHT)
    assert high.layout.yaxis.range[1] == 1.0
    loss = accuracy_over_rounds((0, 1), COURSE[1:] * 5, [3.0, 1.0], None, IDS, "loss", LIGHT)
    assert loss.layout.yaxis.range[1] > 4


def test_one_round_is_a_strip_of_dots() -> None:
    figure = accuracy_over_rounds(
        [4], COURSE[-1:], WHOLE[-1:], [0.84], IDS, "accuracy", DARK, selected=["c01"]
    )
    assert {trace.mode for trace in figure.data} == {"markers"}
    assert figure.data[0].marker.color == (DARK.faint, client_colour(DARK, 1), DARK.faint)
    assert "server model" in texts(figure)


def test_nothing_measured_is_an_empty_axis() -> None:
    nothing = np.full((2, 3), np.nan)
    figure = accuracy_over_rounds((0, 1), nothing, [np.nan, np.nan], None, IDS, "accuracy", LIGHT)
    assert texts(figure) == []
    assert tuple(figure.layout.yaxis.range) == (0.0, 1.0)
