"""One TFF worker process that only its owner reaches and that never outlives its parent."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import warnings
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fedviz.errors import EngineError

__all__ = ["UnisolatedWorkerWarning", "Worker", "worker_binary"]

_SUPERVISOR = Path(__file__).with_name("worker_supervisor.py")
# A little more than the supervisor itself allows the worker.
_START_SECONDS = 130.0
_END_SECONDS = 5.0
_LOG_TAIL_BYTES = 16_384
_LONGEST_LINE = 300
# Empty lines, information, and warnings, which belong to computations that failed before.
_CHATTER = re.compile(r"\s*$|\d{4}-\d\d-\d\d [\d:.]+: [IW] ")
# The kernel's limit is 107 bytes for the path of a Unix socket, "/worker.sock" included.
_LONGEST_FOLDER = 90


class UnisolatedWorkerWarning(UserWarning):
    """The TFF worker has no network namespace of its own: others may reach its port."""


class Worker:
    """A running TFF worker in its own network namespace, behind one Unix socket.

    A supervisor process starts it, relays the socket (mode 0600 in a folder of mode 0700) to its
    port, and ends it when this process ends, in whatever way. Where network namespaces are
    forbidden the worker runs without one, and listens on a port of the host; this is warned of
    once in a process.

    Use it as a context manager, or :meth:`close` it.

    Parameters
    ----------
    isolated : bool, default True
        Whether to ask for a network namespace at all.
    readable : Path, optional
        A folder: the worker reads files only below it, and writes none, where the kernel has
        Landlock; :attr:`confined` says whether it has. By default the worker may do with files
        what this user may.

    Raises
    ------
    EngineError
        TFF's worker is not installed, or it does not start.

    Warns
    -----
    UnisolatedWorkerWarning
        Network namespaces are forbidden here.
    """

    def __init__(self, isolated: bool = True, readable: Path | None = None) -> None:
        self._readable = [] if readable is None else [str(readable)]
        # A file without a name: readable when the worker is gone, and nothing to clean up.
        self._log = os.memfd_create("fedviz-worker-log")
        weakref.finalize(self, os.close, self._log)
        refusal = self._start("namespace") if isolated else ""
        self.isolated = isolated and not refusal
        if not self.isolated:
            self._start("none")
            _warn_unisolated(refusal)

    def _start(self, isolation: str) -> str:
        """Start the supervisor; return why the isolation was refused, empty if it was not."""
        self._folder = _private_folder()
        command = [sys.executable, "-I", "-S", str(_SUPERVISOR)]
        self._supervisor = subprocess.Popen(
            [*command, str(self._folder), str(worker_binary()), isolation, *self._readable],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # Out of the terminal's reach: Ctrl+C is for us, the worker follows when we end.
            start_new_session=True,
        )
        answer = self._first_line()
        if "pid" in answer:
            self.pid = int(answer["pid"])
            self.confined = bool(answer["confined"])
            return ""
        self.close()
        if answer.get("stage") == "namespace":
            return str(answer["error"])
        reason = answer.get("error", "its supervisor ended or does not answer")
        said = f"; its last words: {self.last_words}" if self.last_words else ""
        raise EngineError(f"the TFF worker did not start: {reason}{said}")

    def _first_line(self) -> dict[str, Any]:
        assert self._supervisor.stdout is not None
        ready, _, _ = select.select([self._supervisor.stdout], [], [], _START_SECONDS)
        line = self._supervisor.stdout.readline() if ready else b""
        answer: dict[str, Any] = json.loads(line) if line else {}
        return answer

    @property
    def address(self) -> str:
        """What gRPC dials: ``unix:`` and the socket's path."""
        return f"unix:{self.socket_path}"

    @property
    def supervisor_pid(self) -> int:
        """The supervisor's process id."""
        return self._supervisor.pid

    @property
    def alive(self) -> bool:
        """Whether the worker runs. The supervisor ends with it."""
        return self._supervisor.poll() is None

    @property
    def description(self) -> str:
        """What ran the computations, for a report."""
        return "tff worker in its own network namespace" if self.isolated else "tff worker"

    @property
    def last_words(self) -> str:
        """The last line that the worker wrote on a failure of its own, cut to fit a message."""
        start = max(0, os.fstat(self._log).st_size - _LOG_TAIL_BYTES)
        tail = os.pread(self._log, _LOG_TAIL_BYTES, start).decode(errors="replace")
        lines = [line.strip() for line in tail.splitlines() if not _CHATTER.match(line)]
        return lines[-1][:_LONGEST_LINE] if lines else ""

    @property
    def socket_path(self) -> Path:
        """The Unix socket that leads to it."""
        return self._folder / "worker.sock"

    def wait_until_ended(self, seconds: float) -> bool:
        """Whether the worker ends within so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._supervisor.wait(seconds)
        return not self.alive

    def close(self) -> None:
        """End the worker and remove its folder. Closing twice is fine."""
        self.abandon()
        if not self.wait_until_ended(_END_SECONDS):
            self._supervisor.kill()
            self._supervisor.wait()
        # The supervisor does this too, unless it was killed.
        shutil.rmtree(self._folder, ignore_errors=True)

    def abandon(self) -> None:
        """Close our ends of the pipes and wait for nothing.

        For a forked child too: while it holds the supervisor's standard input open, the worker
        would outlive the parent.
        """
        for pipe in (self._supervisor.stdin, self._supervisor.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def worker_binary() -> Path:
    """The path of TFF's C++ worker, found without importing TFF.

    Raises
    ------
    EngineError
        TFF is not installed, or has no worker for this system.
    """
    spec = importlib.util.find_spec("tensorflow_federated")
    if spec is None or spec.origin is None:
        raise EngineError(
            "tensorflow_federated is not installed; averaging needs it: "
            "pip install --no-deps -r requirements.txt"
        )
    path = Path(spec.origin).with_name("data") / "worker_binary"
    if not os.access(path, os.X_OK):
        raise EngineError(f"TFF's worker is not there or may not be executed: {path}")
    return path


def _private_folder() -> Path:
    """A new folder of mode 0700 whose path is short enough for a Unix socket."""
    root = tempfile.gettempdir()
    if len(os.fsencode(root)) > _LONGEST_FOLDER - len("/fedviz-worker-12345678"):
        root = "/tmp"
    return Path(tempfile.mkdtemp(prefix="fedviz-worker-", dir=root))


@functools.cache
def _warn_unisolated(refusal: str) -> None:
    """Warn, once in a process."""
    reason = f" ({refusal})" if refusal else ""
    warnings.warn(
        f"no network namespace for the TFF worker{reason}: while it runs it listens on all "
        "network interfaces without authentication, and whoever reaches its port can run code as "
        "this user. Allow unprivileged user namespaces, or put a firewall before this machine.",
        UnisolatedWorkerWarning,
        stacklevel=3,
    )
