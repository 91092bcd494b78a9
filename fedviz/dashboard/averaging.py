"""The pieces of the averaging page."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from fedviz.analysis.aggregates import AggregateComparison
from fedviz.dashboard import (
    aggregator_form,
    cache,
    jobs,
    machines,
    round_values,
    saving,
    state,
    tasks,
    widgets,
    wording,
)
from fedviz.dashboard.engine import JobState
from fedviz.dashboard.state import Selection
from fedviz.dashboard.tasks import AverageOutcome
from fedviz.dataset import Aggregate, FileIdentity
from fedviz.exporters import NUMPY_FORMATS
from fedviz.figures.averaging import AggregateScore, distance_by_tensor, moved_by_tensor

__all__ = [
    "aggregate_table",
    "changed",
    "distances",
    "fresh_outcome",
    "has_result",
    "invitation",
    "measurement_table",
    "measurements",
    "outcome_actions",
    "rule",
    "scores",
    "shown",
]

_JOB = "average_job"


def rule(chosen: Selection) -> None:
    """Choose how to average, and start it."""
    widgets.section("Rule")
    form = aggregator_form.choose(chosen)
    leave_out = aggregator_form.leave_out_divergent(chosen)
    job = jobs.current(_JOB)
    started = st.button(
        f"Average round {chosen.round.number}",
        type="primary",
        icon=":material/merge:",
        width="stretch",
        disabled=not form.valid or (job is not None and job.active),
    )
    if started:
        jobs.start(
            _JOB,
            f"averaging round {chosen.round.number}",
            tasks.run_average,
            chosen.dataset.path,
            chosen.round.number,
            form.aggregator.name,
            form.parameters,
            form.weighting,
            leave_out,
            form.history,
        )
        st.session_state["_averaged"] = _place(chosen)
        st.rerun()
    jobs.panel(_JOB)
    if form.aggregator.engine == "tff":
        machines.note(form.aggregator.on_machines)
    else:
        st.markdown(machines.engine_note(None))


def has_result(chosen: Selection) -> bool:
    """Whether there is an aggregate to show; what it is like is not looked at."""
    return chosen.aggregate is not None or fresh_outcome(chosen) is not None


def fresh_outcome(chosen: Selection) -> AverageOutcome | None:
    """The aggregate that was just made of this round, and is not saved."""
    job = jobs.current(_JOB)
    if job is None or job.state is not JobState.DONE:
        return None
    outcome: AverageOutcome = job.result()
    return outcome if st.session_state.get("_averaged") == _place(chosen) else None


def _place(chosen: Selection) -> tuple[str, int]:
    return str(chosen.dataset.path), chosen.round.number


def shown(chosen: Selection, outcome: AverageOutcome | None) -> AggregateComparison:
    """The round's aggregates; the fresh one is looked at, or else the newest."""
    fresh = _file_of(outcome)
    summary = None
    if has_result(chosen):
        summary = round_values.summary_now(chosen.round, chosen.aggregate, fresh)
    return cache.compared(
        chosen.round, chosen.aggregate, fresh, summary, are_clients_read=summary is not None
    )


def _file_of(outcome: AverageOutcome | None) -> FileIdentity | None:
    return FileIdentity.of(outcome.path) if outcome else None


def distances(
    compared: AggregateComparison, chosen: Selection, outcome: AverageOutcome | None
) -> None:
    """How far each client lies from the aggregate, or an offer to look."""
    if compared.distances is None or compared.medians is None:
        widgets.section("Distance to the aggregate, by tensor")
        round_values.offer(
            chosen.round,
            chosen.aggregate,
            _file_of(outcome),
            said="The aggregate is known.",
            missing="the clients' distances to it",
        )
        return
    widgets.section(
        "Distance to the aggregate, by tensor",
        "A dot for each client, a bar at the median; the furthest named.",
    )
    figure = distance_by_tensor(
        compared.distances,
        compared.medians,
        compared.client_ids,
        compared.tensors,
        widgets.theme(),
    )
    widgets.chart(figure, "distances")


def scores(compared: AggregateComparison) -> list[AggregateScore]:
    """The measured aggregates, for the strip."""
    return [
        AggregateScore(row.name, row.score, row.name == compared.name)
        for row in compared.rows
        if row.score is not None
    ]


def outcome_actions(chosen: Selection, outcome: AverageOutcome | None) -> None:
    """Save or download what was made."""
    fresh = _fresh(outcome)
    aggregate = fresh or (chosen.round.aggregates[chosen.aggregate] if chosen.aggregate else None)
    if outcome is not None:
        left = f", {len(outcome.left_out)} left out" if outcome.left_out else ""
        st.success(
            f"{outcome.name} of {len(outcome.clients)} clients{left}, in {outcome.seconds:.2f} s.",
            icon=":material/check:",
        )
        if st.button("Save into the dataset", icon=":material/save:", width="stretch"):
            with widgets.errors_in_place():
                _save(chosen, outcome)
    if aggregate is not None:
        _downloads(chosen, aggregate)


def _fresh(outcome: AverageOutcome | None) -> Aggregate | None:
    if outcome is None:
        return None
    return cache.opened(outcome.path).round().aggregates[outcome.name]


def _save(chosen: Selection, outcome: AverageOutcome) -> None:
    saved = saving.save_aggregate(chosen.dataset, outcome)
    jobs.forget(_JOB)
    state.ask_for(saved.name)
    st.toast(widgets.literal(f"Saved in {saved.name}."), icon=":material/check:")
    st.rerun()


def _downloads(chosen: Selection, aggregate: Aggregate) -> None:
    name = f"{chosen.dataset.path.stem}-round{chosen.round.number}-{aggregate.name}"
    with st.container(horizontal=True, gap="small"):
        for ending in NUMPY_FORMATS:
            st.download_button(
                ending,
                functools.partial(saving.exported, aggregate, ending),
                file_name=f"{name}{ending}",
                icon=":material/download:",
                key=f"download{ending}",
                on_click="ignore",
            )


def invitation() -> None:
    """What to do in a round without an aggregate."""
    with st.container(border=True, width=560):
        st.markdown(
            "**This round has no aggregate yet.** Choose a weighting and average it: the pictures "
            "of what changed appear here."
        )


def changed(compared: AggregateComparison, chosen: Selection) -> None:
    """How far averaging moved each tensor."""
    widgets.section("What averaging changed", "How far the aggregate lies from the server model.")
    if chosen.round.server is None:
        st.markdown(":gray[The server model that this round began with is not in the dataset.]")
        return
    widgets.chart(moved_by_tensor(compared.tensors, compared.moved, widgets.theme()), "moved")


def aggregate_table(compared: AggregateComparison) -> None:
    """All aggregates of the round side by side."""
    widgets.section("Aggregates of this round", "Saved ones, and the one that was just made.")
    rows = [
        {
            "Aggregate": wording.plain_text(row.name),
            "Weighting": row.weighting,
            (compared.metric or "score").capitalize(): wording.named_number(row.score),
            "Moved": wording.named_percentage(row.moved),
            "": "saved" if row.saved else ":orange-badge[not saved]",
        }
        for row in compared.rows
    ]
    st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)


_LONGEST_VALUE = 300


def measurements(chosen: Selection, outcome: AverageOutcome | None) -> None:
    """What the aggregator measured: clipped clients, scores, epsilon, bits."""
    aggregate = _fresh(outcome) or chosen.round.aggregates.get(chosen.aggregate or "")
    if aggregate is None:
        return
    measurement_table(aggregate.name, {**aggregate.parameters, **aggregate.measurements})


def measurement_table(name: str, found: Mapping[str, Any]) -> None:
    """Parameters and measurements by their names, folded."""
    rows = [
        {"": wording.plain_text(key), "value": wording.plain(_short(value))}
        for key, value in found.items()
        if value not in (None, "", [], {})
    ]
    with st.expander(
        f"Parameters and measurements of {widgets.literal(name)}",
        icon=":material/monitoring:",
        type="compact",
    ):
        st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} …"
