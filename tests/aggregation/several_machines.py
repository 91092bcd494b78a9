"""Machines for the tests: network namespaces with addresses of their own, joined by a bridge."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Where a worker can be started: ``enter`` is what goes before its command."""

    host: str
    enter: tuple[str, ...] = ()


@contextlib.contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """So many machines; where namespaces may not be made, addresses of this one instead."""
    with contextlib.ExitStack() as stack:
        try:
            found = _namespaces(count, stack)
        except (OSError, subprocess.CalledProcessError) as error:
            warnings.warn(f"machines are addresses of the loopback here: {error}", stacklevel=2)
            found = [Machine(f"127.0.0.{2 + i}") for i in range(count)]
        yield found


def _namespaces(count: int, stack: contextlib.ExitStack) -> list[Machine]:
    # Names and addresses of this process alone: several runs of the tests do not meet.
    name, net = f"fv{os.getpid()}", f"10.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
    _ip("link", "add", name, "type", "bridge")
    stack.callback(_ip, "link", "del", name)
    _ip("addr", "add", f"{net}.1/24", "dev", name)
    _ip("link", "set", name, "up")
    return [_namespace(name, i, f"{net}.{2 + i}", stack) for i in range(count)]


def _namespace(bridge: str, number: int, host: str, stack: contextlib.ExitStack) -> Machine:
    name, ours, theirs = (f"{bridge}{kind}{number}" for kind in ("n", "o", "t"))
    _ip("netns", "add", name)
    stack.callback(_ip, "netns", "del", name)
    _ip("link", "add", ours, "master", bridge, "type", "veth", "peer", "name", theirs)
    _ip("link", "set", ours, "up")
    _ip("link", "set", theirs, "netns", name)
    _ip("-n", name, "addr", "add", f"{host}/24", "dev", theirs)
    _ip("-n", name, "link", "set", theirs, "up")
    _ip("-n", name, "link", "set", "lo", "up")
    return Machine(host, ("ip", "netns", "exec", name))


def _ip(*arguments: str) -> None:
    subprocess.run([shutil.which("ip") or "ip", *arguments], check=True, capture_output=True)


class SharedWorker:
    """A ``fedviz worker`` that is starting; :attr:`address` waits until it has."""

    def __init__(self, machine: Machine, data_dir: Path) -> None:
        command = [sys.executable, "-m", "fedviz.cli", "worker", "--port", "0"]
        self.process = subprocess.Popen(
            [*machine.enter, *command, "--host", machine.host, "--data-dir", str(data_dir)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._line = ""

    @property
    def line(self) -> str:
        """What it says when it listens."""
        self._line = self._line or self.process.stdout.readline()
        return self._line

    @property
    def address(self) -> str:
        """Where it listens."""
        return self.line.removeprefix("TFF worker at ").partition(",")[0]

    @property
    def pids(self) -> list[int]:
        """Its own process, the supervisor and TFF's worker."""
        pids = [self.process.pid]
        while children := Path(f"/proc/{pids[-1]}/task/{pids[-1]}/children").read_text().split():
            pids.append(int(children[0]))
        return pids

    def end(self) -> str:
        """End it, if it has not; what it said on stderr."""
        self.process.terminate()
        _, said = self.process.communicate()
        return said
