"""The engine for real: a process of its own, with small tasks instead of TensorFlow's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fedviz.dashboard.engine import Engine, JobState
from fedviz.dashboard.tasks import run_average
from fedviz.dataset import WeightDataset
from fedviz.errors import CohortError, EngineError, JobCancelledError
from tests.browser.server import is_running
from tests.dashboard import engine_tasks as tasks
from tests.dashboard.datasets import write

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def engine():
    engine = Engine()
    yield engine
    engine.close()


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_job_returns_its_result_and_leaves_files_in_its_folder(engine):
    job = engine.submit("test", "adding", tasks.add, 2, 3)
    assert job.result() == 5
    assert (job.state, job.active, job.error) == (JobState.DONE, False, "")
    assert (job.folder / "sum").read_text() == "5"
    assert (job.progress.fraction, job.progress.message) == (0.5, "adding")
    engine.forget(job)
    assert job.id not in engine.jobs
    assert not job.folder.exists()


def test_jobs_run_one_after_the_other_in_one_process(engine):
    jobs = [engine.submit("test", "asking", tasks.process_id) for _ in range(4)]
    (process,) = {job.result() for job in jobs}
    assert process != os.getpid()


def test_progress_is_seen_while_a_job_runs(engine, tmp_path):
    job = engine.submit("test", "working", tasks.work_until, tmp_path / "released")
    seen = set()
    wait_for(lambda: seen.add(job.progress.message) or len(seen) > 3)
    assert (job.state, job.active) == (JobState.RUNNING, True)
    (tmp_path / "released").touch()
    assert job.result() == "released"


def test_a_running_job_is_cancelled_at_its_next_report(engine, tmp_path):
    job = engine.submit("test", "working", tasks.work_until, tmp_path / "never")
    wait_for(lambda: job.state is JobState.RUNNING)
    job.cancel()
    with pytest.raises(JobCancelledError):
        job.result()
    assert (job.state, job.error) == (JobState.CANCELLED, "")


def test_waiting_jobs_are_cancelled_and_the_running_one_is_not(engine, tmp_path):
    running = engine.submit("test", "working", tasks.work_until, tmp_path / "released")
    waiting = [engine.submit("test", "adding", tasks.add, 1, 1) for _ in range(3)]
    wait_for(lambda: running.state is JobState.RUNNING)
    assert [job.state for job in waiting] == [JobState.WAITING] * 3
    for job in waiting:
        job.cancel()
    (tmp_path / "released").touch()
    assert running.result() == "released"
    for job in waiting:
        with pytest.raises(JobCancelledError):
            job.result()
        assert job.state is JobState.CANCELLED
        assert not (job.folder / "sum").exists()


def test_our_own_errors_come_back_as_they_are(engine):
    job = engine.submit("test", "refusing", tasks.refuse)
    with pytest.raises(CohortError, match=r"^clients.h5, round 3: there are no clients"):
        job.result()
    assert job.error == "clients.h5, round 3: there are no clients to average"


def test_other_errors_become_one_line(engine):
    job = engine.submit("test", "failing", tasks.fail)
    with pytest.raises(EngineError, match=r"^failing: ZeroDivisionError: first line$"):
        job.result()
    assert job.state is JobState.FAILED


def test_a_crash_is_one_failed_job(engine):
    before = engine.submit("test", "asking", tasks.process_id).result()
    crashed = engine.submit("test", "crashing", tasks.crash)
    with pytest.raises(EngineError, match=r"^crashing: the engine process ended unexpectedly"):
        crashed.result()
    after = engine.submit("test", "asking", tasks.process_id)
    assert after.result() != before
    assert not is_running(before)


def test_many_threads_submit_at_once(engine):
    def submit_and_wait(number: int) -> int:
        return engine.submit("test", "adding", tasks.add, number, 1).result()

    with ThreadPoolExecutor(32) as threads:
        results = list(threads.map(submit_and_wait, range(64)))
    assert results == list(range(1, 65))


def test_close_leaves_no_process_and_no_folder():
    engine = Engine()
    process = engine.submit("test", "asking", tasks.process_id).result()
    job = engine.submit("test", "sleeping", tasks.sleep_silently)
    wait_for(lambda: job.state is JobState.RUNNING)
    started = time.monotonic()
    engine.close()
    assert time.monotonic() - started < tasks.LONGEST_SECONDS / 2
    wait_for(lambda: not is_running(process))
    assert not job.folder.parent.exists()
    assert job.state is JobState.FAILED


PARENT = """
    import sys
    from fedviz.dashboard.engine import Engine, JobState
    from tests.dashboard import engine_tasks as tasks
    engine = Engine()
    process = engine.submit("test", "asking", tasks.process_id).result()
    job = engine.submit("test", "sleeping", tasks.sleep_silently)
    while job.state is not JobState.RUNNING:
        pass
    print(process, job.folder.parent, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("end", ["exit", "SIGTERM", "SIGKILL"])
def test_the_process_ends_with_its_parent_whatever_it_is_doing(end):
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process, folder = parent.stdout.readline().split()
    assert is_running(int(process))
    if end == "exit":
        parent.stdin.write("\n")
        parent.stdin.flush()
    else:
        parent.send_signal(signal.Signals[end])
    _, said = parent.communicate(timeout=20)
    wait_for(lambda: not is_running(int(process)))
    wait_for(lambda: not Path(folder).exists())
    if end == "exit":
        assert said == ""


def federated_mean(engine: Engine, path: Path) -> dict[str, np.ndarray]:
    job = engine.submit(
        "test", "averaging", run_average, path, 0, "mean", {}, "num_examples", False, False
    )
    outcome = job.result()
    assert (outcome.name, outcome.clients) == ("mean", ("c0", "c1", "c2"))
    with WeightDataset(outcome.path) as made:
        return dict(made.round().aggregates["mean"])


def means_by_numpy(path: Path) -> dict[str, np.ndarray]:
    with WeightDataset(path) as dataset:
        round_ = dataset.round()
        weights = np.array([record.num_examples for record in round_.conforming])
        return {
            name: np.average(round_.read_stack(name).astype("f8"), axis=0, weights=weights)
            for name in dataset.signature.names
        }


@pytest.mark.tff
def test_averaging_from_fresh_threads_and_nothing_left(tmp_path):
    """TFF's contexts belong to threads, and each of Streamlit's runs is a new one."""
    path = write(tmp_path / "clients.h5", aggregate=False)
    engine = Engine()
    processes, means = [], [federated_mean(engine, path)]
    for _ in range(2):
        processes.append(engine.submit("test", "asking", tasks.process_id).result())
        with ThreadPoolExecutor(1) as thread:
            means.append(thread.submit(federated_mean, engine, path).result())
    # TensorFlow is loaded once: loading it again takes longer than everything else.
    assert len(set(processes)) == 1
    for mean in means:
        for name, expected in means_by_numpy(path).items():
            np.testing.assert_allclose(mean[name], expected, rtol=1e-6, atol=1e-7)
    (folder,) = {job.folder.parent for job in engine.jobs.values()}
    (worker,) = folder.glob("fedviz-worker-*")
    assert (worker / "worker.sock").is_socket()
    engine.close()
    assert not folder.exists()


def test_tensorflow_is_loaded_once_and_in_the_background(monkeypatch):
    loaded = []
    own = Engine()
    monkeypatch.setattr(own, "_call", lambda task: loaded.append(task) or Future())
    for _ in range(3):
        own.warm_up(0.01)
    wait_for(lambda: loaded)
    own.warm_up(0.01)
    assert own._timer is None
    assert len(loaded) == 1
    assert not own.warm
    own.close()


def test_an_engine_that_is_closed_loads_nothing(monkeypatch):
    loaded = []
    own = Engine()
    monkeypatch.setattr(own, "_call", lambda task: loaded.append(task) or Future())
    own.warm_up(3600)
    timer = own._timer
    own.close()
    timer.join(10)
    assert not timer.is_alive()
    assert loaded == []
