"""The dashboard as a process of its own, for the tests and the screenshots to look at."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90
STOP_SECONDS = 20
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Dashboard:
    """A dashboard that runs: its address, its data folder and what it has printed."""

    url: str
    data_dir: Path
    log: Path


class LeftoverProcessError(AssertionError):
    """The dashboard ended, and a process that it had started did not."""


@contextlib.contextmanager
def running_dashboard(
    data_dir: Path, app: Path = ROOT / "app.py", stop_seconds: float = STOP_SECONDS
) -> Iterator[Dashboard]:
    """Start a dashboard on a free port, and end it and all that it started.

    Parameters
    ----------
    data_dir : path
        A folder of this dashboard's own: its processes are known by it.
    app : path
        The Streamlit script.
    stop_seconds : float
        How long it and what it started may take to end.

    Raises
    ------
    RuntimeError
        It does not start; the message holds what it printed.
    LeftoverProcessError
        A process outlived it. It is killed first.
    """
    port = _free_port()
    log = data_dir.with_name(f"{data_dir.name}.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            _command(app, port),
            cwd=ROOT,
            env=os.environ | {"FEDVIZ_DATA_DIR": str(data_dir)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    dashboard = Dashboard(f"http://127.0.0.1:{port}", data_dir, log)
    try:
        _wait_until_healthy(process, dashboard)
        yield dashboard
    finally:
        _end(process, dashboard, stop_seconds)


def _command(app: Path, port: int) -> list[str]:
    options = {
        "--server.port": str(port),
        "--server.headless": "true",
        # A file that is edited meanwhile must not rerun the page under test.
        "--server.fileWatcherType": "none",
    }
    flags = [word for option in options.items() for word in option]
    return [sys.executable, "-m", "fedviz.dashboard", str(app), *flags]


def is_running(pid: int) -> bool:
    """Whether there is a process of this id that has not ended."""
    return _Process.read(pid) is not None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(process: subprocess.Popen[bytes], dashboard: Dashboard) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"{dashboard.url}/_stcore/health", timeout=5).close()
            return
        if _ended_within(process, POLL_SECONDS):
            break
    raise RuntimeError(f"the dashboard did not start; it printed:\n{dashboard.log.read_text()}")


def _ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: subprocess.Popen[bytes], dashboard: Dashboard, seconds: float) -> None:
    """End the server, and hold it to ending what it started."""
    family = _descendants(process.pid)
    if process.poll() is None:
        process.terminate()
    if not _ended_within(process, seconds):
        process.kill()
        process.wait()
    deadline = time.monotonic() + seconds
    while left := [p for p in family | _started_with(dashboard.data_dir) if p.is_alive()]:
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    for survivor in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(survivor.pid, signal.SIGKILL)
    while any(survivor.is_alive() for survivor in left):
        time.sleep(POLL_SECONDS)
    if left:
        raise LeftoverProcessError(
            f"{seconds:g} s after the dashboard ended, these still ran: "
            + "; ".join(f"{p.pid} {p.command}" for p in left)
        )


@dataclass(frozen=True)
class _Process:
    """One process; its start time tells it from a later one with the same id."""

    pid: int
    parent: int
    started: int
    command: str

    @classmethod
    def read(cls, pid: int) -> _Process | None:
        """The process as /proc has it; None where it has ended."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
            command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
        except OSError:
            return None
        # The second field is the name in parentheses, which may itself hold spaces.
        state, parent, *fields = stat.rpartition(")")[2].split()
        return None if state == "Z" else cls(pid, int(parent), int(fields[17]), command)

    def is_alive(self) -> bool:
        now = _Process.read(self.pid)
        return now is not None and now.started == self.started


def _processes() -> list[_Process]:
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [process for pid in pids if (process := _Process.read(pid))]


def _descendants(pid: int) -> set[_Process]:
    everyone = _processes()
    found: set[_Process] = set()
    parents = {pid}
    while children := {p for p in everyone if p.parent in parents} - found:
        found |= children
        parents = {p.pid for p in children}
    return found


def _started_with(data_dir: Path) -> set[_Process]:
    """Processes that have the data folder in their environment, orphans among them."""
    mark = f"FEDVIZ_DATA_DIR={data_dir}".encode()
    return {p for p in _processes() if mark in _environment(p.pid)}


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
