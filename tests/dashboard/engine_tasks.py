"""Small tasks for the engine. They are its process's: this module imports nothing heavy."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from fedviz.errors import CohortError
from fedviz.progress import Progress, ProgressCallback

# A task that is waited for ends by itself, should a test fail before it ends it.
LONGEST_SECONDS = 60
STEP_SECONDS = 0.02


def add(a: int, b: int, *, folder: Path, progress: ProgressCallback) -> int:
    progress(Progress(1, 2, "adding"))
    (folder / "sum").write_text(str(a + b))
    return a + b


def process_id(*, folder: Path, progress: ProgressCallback) -> int:
    del folder, progress
    return os.getpid()


def work_until(released: Path, *, folder: Path, progress: ProgressCallback) -> str:
    """Report step by step until a file is there."""
    del folder
    for step in range(round(LONGEST_SECONDS / STEP_SECONDS)):
        progress(Progress(step % 10, 10, f"step {step}"))
        if released.exists():
            return "released"
        time.sleep(STEP_SECONDS)
    return "forgotten"


def sleep_silently(*, folder: Path, progress: ProgressCallback) -> None:
    """One long step, in which a job cannot be cancelled."""
    del folder, progress
    time.sleep(LONGEST_SECONDS)


def refuse(*, folder: Path, progress: ProgressCallback) -> None:
    del folder, progress
    raise CohortError("clients.h5, round 3: there are no clients to average")


def fail(*, folder: Path, progress: ProgressCallback) -> None:
    del folder, progress
    raise ZeroDivisionError("first line\nsecond line")


def crash(*, folder: Path, progress: ProgressCallback) -> None:
    del folder, progress
    os.kill(os.getpid(), signal.SIGKILL)
