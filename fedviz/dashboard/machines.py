"""Where averaging runs, and whether the TFF workers of other machines answer.

They are asked in the background, and only while somebody looks: a page says what is known, and
never waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import streamlit as st

from fedviz.aggregation.machines import WorkerAddress, listed_workers, silence_of
from fedviz.dashboard import cache, widgets

__all__ = ["HealthWatch", "WorkerHealth", "engine_note", "note", "workers_note"]

_ASK_EVERY_SECONDS = 5.0
_ANSWER_SECONDS = 3.0
_MOST_AT_ONCE = 16

_UNCHANGED = "the dataset is not changed until you save."


@dataclass(frozen=True)
class WorkerHealth:
    """What is known of a worker: ``silence`` is why it does not answer, None before it was asked.

    ``since`` is when it was found silent first.
    """

    address: str
    silence: str | None = None
    since: datetime | None = None


class HealthWatch:
    """Asks workers whether they answer, in the background."""

    def __init__(self, addresses: Sequence[WorkerAddress]) -> None:
        self._addresses = addresses
        self._known = tuple(WorkerHealth(str(address)) for address in addresses)
        self._lock = threading.Lock()
        self._asking = False
        self._asked = -_ASK_EVERY_SECONDS

    def look(self) -> tuple[WorkerHealth, ...]:
        """What is known now; asks again, without waiting, if that is some seconds old."""
        with self._lock:
            old = time.monotonic() - self._asked >= _ASK_EVERY_SECONDS
            if old and not self._asking:
                self._asking = True
                threading.Thread(target=self._ask, name="worker health", daemon=True).start()
            return self._known

    def _ask(self) -> None:
        try:
            with ThreadPoolExecutor(_MOST_AT_ONCE) as threads:
                silences = list(
                    threads.map(lambda a: silence_of(a, _ANSWER_SECONDS), self._addresses)
                )
            self._known = tuple(map(_next_health, self._known, silences))
        finally:
            self._asked = time.monotonic()
            self._asking = False


def _next_health(before: WorkerHealth, silence: str) -> WorkerHealth:
    since = (before.since or datetime.now()) if silence else None
    return WorkerHealth(before.address, silence, since)


@st.cache_resource(show_spinner=False, max_entries=4)
def _watch(addresses: tuple[WorkerAddress, ...]) -> HealthWatch:
    return HealthWatch(addresses)


def note(on_machines: bool) -> None:
    """Where an aggregator runs; ``on_machines`` if other machines' workers compute it."""
    with widgets.errors_in_place():
        if on_machines and listed_workers():
            _workers()
        else:
            st.markdown(engine_note(cache.engine().isolated))


@st.fragment(run_every=_ASK_EVERY_SECONDS)
def _workers() -> None:
    with st.container(gap="xxsmall", key="workers"):
        for line in workers_note(_watch(listed_workers()).look()):
            st.markdown(line)


def engine_note(isolated: bool | None) -> str:
    """What runs an aggregator on this machine; ``isolated`` is None before it has started."""
    if isolated is None:
        return _small(f"Runs in the engine process; {_UNCHANGED}")
    if isolated:
        return _small(f"Runs in a TFF worker that nobody else can reach; {_UNCHANGED}")
    return (
        f"{_small(f'Runs in the engine process; {_UNCHANGED}')} :small[:orange[Its TFF worker "
        "listens on this machine's network without authentication: no network namespaces here.]]"
    )


def workers_note(workers: Sequence[WorkerHealth]) -> list[str]:
    """What runs the mean on other machines, then a line for each that does not answer."""
    silent = [worker for worker in workers if worker.silence]
    answering = sum(worker.silence == "" for worker in workers)
    noun = "TFF worker" if len(workers) == 1 else "TFF workers"
    if any(worker.silence is None for worker in workers):
        told = "asking whether they answer."
    elif not silent:
        told = f"{'it answers' if len(workers) == 1 else 'all answer'}; {_UNCHANGED}"
    else:
        told = f"{answering} of {len(workers)} answer; the others' shards go to them."
        told = told if answering else ":red[none answers, so nothing can be averaged.]"
    lines = [_small(f"Runs on {len(workers)} {noun} of other machines: {told}")]
    return lines + [_silent_line(worker) for worker in silent]


def _silent_line(worker: WorkerHealth) -> str:
    since = f", since {worker.since:%H:%M:%S}" if worker.since else ""
    address, reason = widgets.literal(worker.address), widgets.literal(worker.silence or "")
    return f":small[:red[:material/error: {address}] :gray[{reason}{since}]]"


def _small(text: str) -> str:
    return f":small[:gray[{text}]]"
