"""Programs of the peers' environment, run from here: once, or answering line by line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["PeerProcess", "run_peer"]

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-peers/bin/python"


def _command(module: str, arguments: tuple[str, ...]) -> list[str]:
    if not PYTHON.exists():
        raise SystemExit("the peers' environment is not there: scripts/peers_environment.sh")
    return [str(PYTHON), "-m", f"benchmarks.peers.{module}", *arguments]


def run_peer(module: str, *arguments: str) -> str:
    """Run a module of :mod:`benchmarks.peers` to its end, and return what it printed."""
    command = _command(module, arguments)
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


class PeerProcess:
    """A module of :mod:`benchmarks.peers` that answers each line of JSON with one of its own.

    Cases in two environments can so take turns in one run.
    """

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            _command(module, ()),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        """Hand over a question and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended with status {self._process.wait()}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Its standard input closes, and with it the loop over its lines.
        self._process.communicate()
