"""Jobs as pages see them: started, watched, cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from fedviz.dashboard import cache, widgets
from fedviz.dashboard.engine import Engine, Job, JobState, Task

__all__ = ["current", "forget", "latest", "panel", "start", "start_beside"]

_POLL_SECONDS = 0.4
_KEPT = 16
_WITHOUT_TENSORFLOW = frozenset({"import_job", "gram_job", "report_job"})


def _engine(slot: str) -> Engine:
    return cache.light_engine() if slot in _WITHOUT_TENSORFLOW else cache.engine()


def start(slot: str, title: str, task: Task, *arguments: Any) -> None:
    """Start a job; ``slot`` is where this session keeps it."""
    forget(slot)
    st.session_state[slot] = _engine(slot).submit(slot, title, task, *arguments).id


def start_beside(slot: str, title: str, task: Task, *arguments: Any) -> None:
    """Start a job, and keep the results of those before it; of many, the latest."""
    engine = _engine(slot)
    ended = [job for job in list(engine.jobs.values()) if job.kind == slot and not job.active]
    for job in ended[: max(0, len(ended) - _KEPT)]:
        engine.forget(job)
    st.session_state[slot] = engine.submit(slot, title, task, *arguments).id


def latest(slot: str, fits: Callable[[Any], bool]) -> Job | None:
    """The newest finished job of a slot whose result fits, of any session: it survives reloads."""
    jobs = [job for job in list(_engine(slot).jobs.values()) if job.kind == slot]
    done = (job for job in reversed(jobs) if job.state is JobState.DONE)
    return next((job for job in done if fits(job.result())), None)


def current(slot: str) -> Job | None:
    """The session's job of a slot; after a reload of the page the one that still runs."""
    jobs = _engine(slot).jobs
    job = jobs.get(st.session_state.get(slot, -1))
    if job is None:
        job = next((j for j in list(jobs.values()) if j.kind == slot and j.active), None)
        if job is not None:
            st.session_state[slot] = job.id
    return job


def forget(slot: str) -> None:
    """Let go of a finished job."""
    job = current(slot)
    if job is not None and not job.active:
        _engine(slot).forget(job)
    st.session_state.pop(slot, None)


def panel(slot: str) -> None:
    """How far a job is, and a button to cancel it; what went wrong, if it did."""
    job = current(slot)
    if job is None:
        return
    if job.active:
        _watch(slot)
    elif job.state is JobState.FAILED:
        st.error(widgets.literal(job.error), icon=":material/error:")
    elif job.state is JobState.CANCELLED:
        st.info("Cancelled; nothing was written.", icon=":material/info:")


@st.fragment(run_every=_POLL_SECONDS)
def _watch(slot: str) -> None:
    job = current(slot)
    if job is None or not job.active:
        st.rerun()
        return
    progress = job.progress
    st.progress(
        progress.fraction, text=f"{widgets.literal(progress.message)} · {job.seconds:.0f} s"
    )
    if st.button("Cancel", icon=":material/close:", key=f"cancel_{slot}"):
        job.cancel()
