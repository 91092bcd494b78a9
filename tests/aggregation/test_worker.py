import os
import select
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from fedviz.aggregation.worker import Worker, worker_binary

# How long a process may take to end on a busy machine.
DEADLINE_SECONDS = 20


def ended(pid):
    """Whether a process, not necessarily a child, ends before the deadline."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], DEADLINE_SECONDS)[0])
    finally:
        os.close(descriptor)


def listening_inodes(pid):
    """Inodes of the TCP sockets that listen in a process's network namespace."""
    tables = [Path(f"/proc/{pid}/net/{name}") for name in ("tcp", "tcp6")]
    rows = [line.split() for t in tables for line in t.read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[3] == "0A"}


def socket_inodes(pid):
    links = [str(f.readlink()) for f in Path(f"/proc/{pid}/fd").iterdir()]
    return {link.removeprefix("socket:[").rstrip("]") for link in links if "socket:" in link}


@pytest.fixture(scope="module")
def worker():
    with Worker() as worker:
        yield worker


def folder_of(worker):
    return Path(worker.address.removeprefix("unix:")).parent


def test_socket_is_its_owners_alone(worker):
    socket = Path(worker.address.removeprefix("unix:"))

    assert stat.S_ISSOCK(socket.stat().st_mode)
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert socket.stat().st_uid == os.getuid()


def test_nothing_listens_on_the_host(worker):
    own = listening_inodes(worker.pid)
    host = listening_inodes("self")
    sockets = socket_inodes(worker.pid) | socket_inodes(worker.supervisor_pid)

    assert len(own & sockets) == 1
    assert not sockets & host
    assert worker.description == "tff worker in its own network namespace"


def test_closing_ends_the_worker_and_removes_its_folder():
    worker = Worker()
    folder, pids = folder_of(worker), (worker.pid, worker.supervisor_pid)
    assert worker.alive

    worker.close()
    worker.close()

    assert not worker.alive
    assert all(ended(pid) for pid in pids)
    assert not folder.exists()


def test_supervisor_ends_with_its_worker():
    with Worker() as worker:
        os.kill(worker.pid, signal.SIGKILL)

        assert worker.wait_until_ended(DEADLINE_SECONDS)
        assert ended(worker.supervisor_pid)
        assert not folder_of(worker).exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_worker_ends_with_its_supervisor(number):
    with Worker() as worker:
        os.kill(worker.supervisor_pid, number)

        assert ended(worker.pid)
    assert not folder_of(worker).exists()


PARENT = """
import os, signal, sys, threading
from fedviz.aggregation.worker import Worker

# A shell's background job ignores Ctrl+C, and so would this.
signal.signal(signal.SIGINT, signal.default_int_handler)
worker = Worker()
print(worker.pid, worker.supervisor_pid, worker.address, flush=True)
if sys.argv[1] == "exit":
    sys.exit(0)
if sys.argv[1] == "fork" and os.fork() == 0:
    worker.abandon()
    print(os.getpid(), flush=True)
signal.pause()
"""


def start_parent(how):
    """A process that starts a worker, and then waits; and what it prints."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), how],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pid, supervisor, address = process.stdout.readline().split()
    return process, (int(pid), int(supervisor)), Path(address.removeprefix("unix:")).parent


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, None])
def test_no_worker_outlives_its_parent(number):
    process, pids, folder = start_parent("exit" if number is None else "wait")
    with process:
        if number is not None:
            # To the whole group, as a terminal sends Ctrl+C.
            os.killpg(process.pid, number)

        assert all(ended(pid) for pid in pids)
        assert ended(process.pid)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while folder.exists() and time.monotonic() < deadline:
        os.sched_yield()
    assert not folder.exists()


def test_a_forked_child_does_not_keep_the_worker_alive():
    process, pids, _ = start_parent("fork")
    with process:
        child = int(process.stdout.readline())
        process.kill()

        assert all(ended(pid) for pid in pids)
        assert not select.select([os.pidfd_open(child)], [], [], 0)[0]
        os.kill(child, signal.SIGKILL)


FORBIDDEN = """
import warnings
from fedviz.aggregation.worker import UnisolatedWorkerWarning, Worker

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        with Worker() as worker:
            print(worker.alive, worker.description)
print([w.category is UnisolatedWorkerWarning for w in caught])
print(caught[0].message)
"""


def test_without_namespaces_it_runs_plainly_and_warns_once():
    # A user namespace in which no network namespace may be made.
    forbid = 'echo 0 > /proc/sys/user/max_net_namespaces && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh"]

    done = subprocess.run(
        [*command, sys.executable, "-c", textwrap.dedent(FORBIDDEN)],
        capture_output=True,
        text=True,
        check=True,
    )

    *workers, categories, message = done.stdout.splitlines()
    assert workers == ["True tff worker"] * 2
    assert categories == "[True]"
    assert "listens on all network interfaces" in message


def test_binary_is_tffs():
    assert worker_binary().name == "worker_binary"
    assert os.access(worker_binary(), os.X_OK)
