"""The engine: one process in which TensorFlow runs for the dashboard.

Opening and looking never wait for TensorFlow, and a crash of it is one failed job, not a dead
dashboard. Jobs go in as plain values and paths; results come back the same way. A job reports how
far it is, and learns that it was cancelled, through two small files in a folder of its own: they
need no shared locks, and survive a worker that is killed.

This module knows no Streamlit; the engine's process imports it.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import itertools
import json
import os
import select
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from loky import ProcessPoolExecutor, process_executor
from loky.process_executor import BrokenProcessPool

from fedviz.errors import EngineError, FedvizError, JobCancelledError
from fedviz.progress import Progress, ProgressCallback

__all__ = ["Engine", "Job", "JobState"]

Task = Callable[..., Any]
"""A function of a module, called in the engine with ``folder`` and ``progress`` besides its own
arguments: the job's folder, where it may leave files, and the callback that it reports to."""

# What a page takes to be painted, and some more.
_UNTIL_PAINTED_SECONDS = 2.0
_LOADING_NICENESS = 10


class JobState(StrEnum):
    """Where a job is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass
class Job:
    """One job of the engine.

    ``kind`` and ``title`` are for those who show it; ``folder`` is the job's own and goes with it.
    """

    id: int
    kind: str
    title: str
    folder: Path
    future: Future[Any] = field(repr=False)
    started: float = field(default_factory=time.monotonic)

    @property
    def state(self) -> JobState:
        """Where the job is now."""
        if self.future.cancelled():
            return JobState.CANCELLED
        if not self.future.done():
            return JobState.RUNNING if _progress_file(self.folder).exists() else JobState.WAITING
        error = self.future.exception()
        if error is None:
            return JobState.DONE
        return JobState.CANCELLED if isinstance(error, JobCancelledError) else JobState.FAILED

    @property
    def active(self) -> bool:
        """Whether it still waits or runs."""
        return self.state in (JobState.WAITING, JobState.RUNNING)

    @property
    def progress(self) -> Progress:
        """The latest report."""
        try:
            return Progress(**json.loads(_progress_file(self.folder).read_text()))
        except FileNotFoundError:
            return Progress(0, 1, "waiting for the engine")

    @property
    def seconds(self) -> float:
        """Seconds since it was submitted."""
        return time.monotonic() - self.started

    def cancel(self) -> None:
        """Ask it to stop; it does at its next report, and leaves nothing behind."""
        if not self.future.cancel():
            _cancel_file(self.folder).touch()

    def result(self) -> Any:
        """What the task returned; waits for it.

        Raises
        ------
        FedvizError
            As the task raised it.
        JobCancelledError
            It was cancelled.
        EngineError
            The engine's process ended, or TensorFlow failed.
        """
        try:
            return self.future.result()
        except CancelledError as error:
            raise JobCancelledError(f"{self.title}: cancelled.") from error
        except BrokenProcessPool as error:
            raise EngineError(
                f"{self.title}: the engine process ended unexpectedly, most likely for want of "
                "memory. It has been started again; try a smaller cohort or model."
            ) from error
        except FedvizError:
            raise
        except Exception as error:
            raise EngineError(
                f"{self.title}: {type(error).__name__}: {_first_line(error)}"
            ) from error

    @property
    def error(self) -> str:
        """Why it failed, in one line; empty where it did not."""
        if self.state is not JobState.FAILED:
            return ""
        try:
            self.result()
        except FedvizError as error:
            return str(error)
        return ""


class Engine:
    """Runs jobs, one after the other, in a process that ends with this one.

    The process is started by the first job and started again when it died.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._folder = Path(tempfile.mkdtemp(prefix="fedviz-engine-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._ends_at_exit = False
        self._executor: ProcessPoolExecutor | None = None
        self._warmth: Future[Any] | None = None
        self._timer: threading.Timer | None = None
        self.jobs: dict[int, Job] = {}

    def submit(self, kind: str, title: str, task: Task, *arguments: Any) -> Job:
        """Run ``task(*arguments, folder=…, progress=…)`` in the engine."""
        number = next(self._numbers)
        folder = self._folder / f"job-{number}"
        folder.mkdir()
        future = self._call(_run, task, arguments, folder)
        job = Job(number, kind, title, folder, future)
        self.jobs[number] = job
        return job

    def warm_up(self, seconds: float = _UNTIL_PAINTED_SECONDS) -> None:
        """Load TensorFlow in the background, if it is not loaded yet, after so many seconds.

        That keeps both processors of a small machine busy, and the page that asks for it is not
        painted yet: the first view of 6.65 GB took 1.9 s, and takes 1.4 s so.
        """
        with self._lock:
            failed = self._warmth and self._warmth.done() and self._warmth.exception() is not None
            if self._timer is not None or (self._warmth is not None and not failed):
                return
            self._timer = threading.Timer(seconds, self._load)
            self._timer.daemon = True
            self._timer.start()
            # Nothing may be started while this process ends.
            threading._register_atexit(self._timer.cancel)  # type: ignore[attr-defined]

    def _load(self) -> None:
        try:
            self._warmth = self._call(_load_tensorflow)
        finally:
            self._timer = None

    @property
    def warm(self) -> bool:
        """Whether TensorFlow is loaded."""
        done = self._warmth is not None and self._warmth.done()
        return bool(done and self._warmth and self._warmth.exception() is None)

    @property
    def isolated(self) -> bool | None:
        """Whether its TFF worker has a network namespace of its own; None before it is warm."""
        return bool(self._warmth.result()) if self.warm and self._warmth else None

    def forget(self, job: Job) -> None:
        """Drop a finished job and its files."""
        self.jobs.pop(job.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def close(self) -> None:
        """End the process, whatever it is doing, and remove the jobs' files."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._executor is not None:
                self._executor.shutdown(wait=True, kill_workers=True)
                self._executor = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        with self._lock:
            try:
                future = self._pool().submit(function, *arguments)
            except RuntimeError:  # broken by a process that died, or shut down
                self._executor = None
                self._warmth = None
                future = self._pool().submit(function, *arguments)
            if not self._ends_at_exit:
                # At exit loky waits for the job that runs, which may take hours. Its hook is a
                # private one of threading, run before atexit's; the last to be registered is
                # the first to run, and loky's is registered by the first job.
                threading._register_atexit(self.close)  # type: ignore[attr-defined]
                self._ends_at_exit = True
            return future

    def _pool(self) -> ProcessPoolExecutor:
        if self._executor is None:
            # No timeout: an idle engine stays warm.
            self._executor = ProcessPoolExecutor(
                max_workers=1,
                timeout=None,
                initializer=_end_with,
                initargs=(os.getpid(), self._folder),
            )
        return self._executor


# --- in the engine's process ------------------------------------------------------------------


def _end_with(parent: int, folder: Path) -> None:
    """End this process when the parent does, also when that is killed.

    loky's worker outlives a killed parent, and PR_SET_PDEATHSIG fires when the *thread* that
    started the child ends, which Streamlit's script threads do with every run.
    """
    # The TFF worker's socket lies there too, and goes with the folder if all are killed at once.
    tempfile.tempdir = str(folder)
    # loky would take the loading of TensorFlow for a memory leak, and start the process anew.
    process_executor._USE_PSUTIL = False
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    watch = threading.Thread(target=_leave, args=(parent, folder), daemon=True, name="parent watch")
    watch.start()
    # Where loky notices first that the parent is gone. Registered before TensorFlow is loaded, it
    # runs after what that has to do at exit.
    atexit.register(_leave, parent, folder, _PARENT_ENDS_SECONDS)


_PARENT_ENDS_SECONDS = 1.0


def _leave(parent: int, folder: Path, seconds: float | None = None) -> None:
    """Wait until the parent has ended, at most so long, clear up after it and end.

    The interpreter is not taken apart: TFF's default executor complains when it is.
    """
    try:
        descriptor = os.pidfd_open(parent)
        orphaned = bool(select.select([descriptor], [], [], seconds)[0])
    except ProcessLookupError:
        orphaned = True
    if orphaned:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _load_tensorflow() -> bool:
    """Start TFF's worker; whether it is isolated."""
    loading = threading.Thread(target=_import_tensorflow)
    loading.start()
    loading.join()
    from fedviz.aggregation import context

    return context.worker().isolated


def _import_tensorflow() -> None:
    """Import it while nothing else wants the processor: somebody looks at pages meanwhile."""
    # On Linux a thread has a niceness of its own. Jobs, and the worker, keep that of the process.
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOADING_NICENESS)
    # What fails here fails again in the job that needs it, and is reported there.
    with contextlib.suppress(Exception):
        importlib.import_module("fedviz.training.federated")


def _run(task: Task, arguments: tuple[Any, ...], folder: Path) -> Any:
    report = _reporter(folder)
    report(Progress(0, 1, "starting"))
    return task(*arguments, folder=folder, progress=report)


def _reporter(folder: Path) -> ProgressCallback:
    cancelled, target = _cancel_file(folder), _progress_file(folder)
    draft = target.with_suffix(".draft")

    def report(progress: Progress) -> None:
        if cancelled.exists():
            raise JobCancelledError("cancelled; nothing was written.")
        draft.write_text(json.dumps(vars(progress)))
        draft.replace(target)

    return report


def _progress_file(folder: Path) -> Path:
    return folder / "progress.json"


def _cancel_file(folder: Path) -> Path:
    return folder / "cancel"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "no message")
