"""Where labels and dots fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedviz.figures.layout import even_ticks, push_apart, swarm

places = st.lists(st.floats(-100, 100), max_size=30)


@settings(deadline=None)
@given(places, st.floats(0.01, 10))
def test_labels_end_up_apart_and_in_order(wanted: list[float], gap: float) -> None:
    moved = push_apart(wanted, gap)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(moved[order]) >= gap - 1e-9).all()


def test_labels_move_as_little_as_may_be() -> None:
    assert push_apart([0.0, 5.0, 9.0], 2.0).tolist() == [0, 5, 9]
    assert push_apart([1.0, 1.0], 2.0).tolist() == [0, 2]
    assert push_apart([3.0, 0.0, 3.0, 3.0], 1.0).tolist() == [2, 0, 3, 4]


def test_dots_go_to_the_first_free_lane() -> None:
    assert swarm(np.array([0.0, 0.1, 0.2, 1.0]), 0.15, (0, 1)).tolist() == [0, 1, 0, 0]
    # With no free lane, the one whose last dot is furthest.
    assert swarm(np.array([0.0, 0.05, 0.1]), 0.15, (0, 1)).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 0.51, [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (0.36, 0.92, [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        (0, 1000, [0, 200, 400, 600, 800, 1000]),
        (2.0, 2.0, [2.0]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert even_ticks(low, high) == ticks


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_ticks_are_inside_and_few(low: float, span: float) -> None:
    ticks = even_ticks(low, low + span)
    assert len(ticks) <= 6
    assert all(low - 0.01 * span <= tick <= low + 1.01 * span for tick in ticks)
