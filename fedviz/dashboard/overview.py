"""The pieces of the overview page."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from fedviz.analysis.courses import metric_of
from fedviz.analysis.health import RoundHealth, round_health
from fedviz.analysis.statistics import RoundSummary
from fedviz.dashboard import cache, round_values, widgets
from fedviz.dataset import Round, WeightDataset
from fedviz.figures.rounds import accuracy_over_rounds

__all__ = ["courses", "health", "place_for_courses", "tour_link"]


def health(round_: Round, summary: RoundSummary | None) -> RoundHealth:
    """Whether a round is fit to be averaged, as far as is known."""
    return round_health(round_, summary)


def place_for_courses(round_: Round) -> DeltaGenerator:
    """Where the courses will stand; it has their height before they are there."""
    return st.container(key="courses_place" if metric_of(round_) else "no_courses_place")


def courses(dataset: WeightDataset, round_: Round) -> None:
    """What was measured, over all rounds that can be read."""
    round_values.say_what_is_damaged(dataset)
    found = cache.metric_courses(dataset)
    if found is None:
        return
    widgets.section(
        f"{found.metric.capitalize()} over the rounds",
        "Each client alone, the server model and the aggregate, on held-out data.",
    )
    widgets.chart(
        accuracy_over_rounds(
            found.rounds,
            found.clients,
            found.aggregate,
            found.server,
            found.client_ids,
            found.metric,
            widgets.theme(),
            shown_round=round_.number,
        ),
        "courses",
        wide="mid",
    )


def tour_link() -> None:
    """The way to the tour, for whoever does not know the field."""
    st.page_link(
        "pages/tour.py",
        label="New here? A tour in five steps",
        icon=":material/slideshow:",
    )
