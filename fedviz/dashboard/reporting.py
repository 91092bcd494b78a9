"""The pieces of the report page."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from fedviz.dashboard import jobs, tasks, widgets, wording
from fedviz.dashboard.engine import JobState
from fedviz.dashboard.state import Selection
from fedviz.dashboard.tasks import ReportOutcome
from fedviz.figures.text import byte_size

__all__ = ["answer", "make", "preview"]

_JOB = "report_job"
_PREVIEW_HEIGHT = 900
_CONTENTS = (
    ("Summary", "the sentence that matters, health, numbers, the metric over the rounds"),
    ("Mismatches", "every one with its likely cause, and the matrix of clients and tensors"),
    ("Clients that stand out", "update, distance, influence on the mean, score"),
    ("Tensors that stand out", "spread, move, and who is furthest off"),
    ("Before and after", "heatmaps of server model, clients, aggregate and differences"),
    ("Aggregators", "the round's own, beside median, trimmed mean, Krum and others"),
    ("Method notes", "what each number means, parameters, versions, the recipe"),
)


def answer(chosen: Selection) -> str:
    """What the report is about."""
    name = wording.plain_text(chosen.dataset.path.name)
    return f"Round {chosen.round.number} of {name}, in one file."


def make(chosen: Selection) -> None:
    """Make it, and take it along."""
    job = jobs.current(_JOB)
    if st.button(
        f"Make the report of round {chosen.round.number}",
        type="primary",
        icon=":material/description:",
        width="stretch",
        disabled=job is not None and job.active,
    ):
        jobs.start(
            _JOB,
            f"report of round {chosen.round.number}",
            tasks.run_report,
            chosen.dataset.path,
            chosen.round.number,
        )
        st.session_state["_reported"] = _place(chosen)
        st.rerun()
    jobs.panel(_JOB)
    made = _made(chosen)
    if made is None:
        st.markdown(":small[:gray[Reads the round's weights; the dataset is not changed.]]")
        return
    st.success(
        f"{byte_size(made.path.stat().st_size)}. {widgets.literal(made.sentence)}",
        icon=":material/check:",
    )
    st.download_button(
        "Download",
        made.path.read_bytes,
        file_name=f"{chosen.dataset.path.stem}-round{chosen.round.number}.html",
        mime="text/html",
        icon=":material/download:",
        on_click="ignore",
        width="stretch",
    )


def _place(chosen: Selection) -> tuple[str, int]:
    return str(chosen.dataset.path), chosen.round.number


def _made(chosen: Selection) -> ReportOutcome | None:
    """The report of this round, where it was made and its file is still there."""
    job = jobs.current(_JOB)
    if job is None or job.state is not JobState.DONE:
        return None
    outcome: ReportOutcome = job.result()
    same = st.session_state.get("_reported") == _place(chosen)
    return outcome if same and Path(outcome.path).exists() else None


def preview(chosen: Selection) -> None:
    """The report as it is; before it is made, what it will hold."""
    made = _made(chosen)
    if made is None:
        widgets.section("What will be in it")
        st.markdown("\n".join(f"1. **{title}**: {what}" for title, what in _CONTENTS))
        return
    widgets.section("The report", "As it opens in a browser.")
    st.iframe(made.path, height=_PREVIEW_HEIGHT)
