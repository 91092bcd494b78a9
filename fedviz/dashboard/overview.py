"""The pieces of the overview page."""

from __future__ import annotations

import streamlit as st

from fedviz.analysis.health import RoundHealth, round_health
from fedviz.analysis.statistics import RoundSummary
from fedviz.dashboard import cache, round_values, widgets
from fedviz.dataset import Round, WeightDataset
from fedviz.figures.rounds import accuracy_over_rounds

__all__ = ["courses", "health", "tour_link"]


def health(round_: Round, summary: RoundSummary | None) -> RoundHealth:
    """Whether a round is fit to be averaged, as far as is known."""
    return round_health(round_, summary)


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
        label="New to federated learning? Five steps, with this dataset's own numbers",
        icon=":material/slideshow:",
    )
