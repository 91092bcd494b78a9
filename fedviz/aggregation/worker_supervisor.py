"""Runs one TFF worker that nobody but its owner can reach and that never outlives its parent.

A program of its own, started as ``python -I -S worker_supervisor.py FOLDER BINARY ISOLATION
[READABLE]``. It imports only the standard library, so that it is up within milliseconds.

TFF's ``worker_binary`` listens on all interfaces, asks nobody who they are and runs any TensorFlow
graph it is sent. With the isolation ``namespace`` it therefore lives in a network namespace of its
own, where only this program reaches its port; with ``none`` it listens on the host. Either way
clients come in through one Unix socket, ``FOLDER/worker.sock``, which is relayed to the port.

With a folder READABLE the worker, where the kernel has Landlock, reads files only below that folder
(and the system's libraries), and writes none.

The worker ends when standard input closes, which the kernel does for us however the parent ends,
and also when this program itself is killed.

On standard output comes one line of JSON: ``{"pid": ...}`` once the worker answers, or
``{"error": ..., "stage": "namespace" | "worker"}``; ``"confined"`` says whether READABLE holds.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
EXECUTE, READ_FILE, READ_DIR = 1 << 0, 1 << 2, 1 << 3
# Each version of Landlock knows more kinds of access to files; all that it knows are forbidden, and
# some are allowed again.
FILE_ACCESS_BITS = {1: 13, 2: 14, 3: 15, 4: 15}
NEWEST_FILE_ACCESS_BITS = 16
# Since version 6: no signals to other processes, and none of their abstract sockets.
SCOPES, FIRST_WITH_SCOPES, FIRST_WITH_NETWORK = 0b11, 6, 4
# What the worker is made of, its source of chance, and how it counts the processors.
SYSTEM_FILES = (
    *("/usr", "/lib", "/lib64", "/etc/ld.so.cache"),
    *("/dev/urandom", "/dev/random", "/sys/devices/system/cpu"),
)
# The longest that a loaded machine may take to load the 300 MB binary.
START_SECONDS = 120
CHUNK_BYTES = 1 << 20
# The C library gives large blocks back to the system when they are freed, and the next use of each
# page of a new one is a fault. TensorFlow frees such blocks in every step. With these settings the
# mean of 100 clients of 0.8 M values took 0.12 to 0.16 s, without them 0.15 to 0.24 (medians of
# three runs each, in turns).
MEMORY_SETTINGS = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}

# A worker computes for as many TFF clients at once as there are processors. TensorFlow would also
# divide each step of each client among as many threads, which wait for one another: the graph of a
# mean took 1.1 to 1.5 times as long (medians of 25 runs each, in turns).
THREAD_SETTINGS = {"TF_NUM_INTRAOP_THREADS": "1"}

_libc = ctypes.CDLL(None, use_errno=True)


def enter_network_namespace() -> None:
    """Move this process, and so its children, into a network namespace with only ``lo``.

    With the privilege to do so the user namespace stays: files that only the superuser may read
    are then still readable. Without it, a user namespace of our own gives the privilege; the
    user is still the same, so files are as readable as before.

    Raises
    ------
    OSError
        The system forbids namespaces.
    """
    if _libc.unshare(CLONE_NEWNET) and _libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH22x", b"lo", 0)
        (flags,) = struct.unpack("16xH22x", fcntl.ioctl(sock, SIOCGIFFLAGS, request))
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | IFF_UP))


def free_port() -> int:
    """A port of this network namespace that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def listen(path: str) -> socket.socket:
    """A Unix socket that only this user may connect to."""
    listener = socket.socket(socket.AF_UNIX)
    # The mode is the socket's from its first moment: there is none between bind and chmod.
    os.umask(0o177)
    listener.bind(path)
    listener.listen()
    return listener


def landlock_version() -> int:
    """What the kernel knows of Landlock; 0 if nothing."""
    version = _libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    return max(0, int(version))


def confine(binary: str, readable: str) -> None:
    """Let this process, and what it becomes, read below a folder only, and write nothing.

    Raises
    ------
    OSError
        The kernel refuses.
    """
    version = landlock_version()
    handled = (1 << FILE_ACCESS_BITS.get(version, NEWEST_FILE_ACCESS_BITS)) - 1
    fields = [handled]
    if version >= FIRST_WITH_NETWORK:
        fields.append(0)
    if version >= FIRST_WITH_SCOPES:
        fields.append(SCOPES)
    attributes = struct.pack(f"{len(fields)}Q", *fields)
    ruleset = _checked(_libc.syscall(LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0))
    _allow(ruleset, readable, READ_FILE | READ_DIR)
    for path in (binary, *SYSTEM_FILES):
        if os.path.exists(path):  # noqa: PTH110
            _allow(ruleset, path, EXECUTE | READ_FILE | READ_DIR)
    _checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(_libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    if not os.path.isdir(path):  # noqa: PTH112
        access &= ~READ_DIR
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = struct.pack("=Qi", access, place)
    _checked(_libc.syscall(LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0))
    os.close(place)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def start_worker(binary: str, port: int, readable: str) -> subprocess.Popen[bytes]:
    """Start the worker; its output goes to our standard error, which is the log."""

    def prepare() -> None:
        # The main thread starts it, before there is another, and outlives it: this fires only
        # when we are killed.
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if readable and landlock_version():
            confine(binary, readable)

    return subprocess.Popen(
        [binary, f"--port={port}"],
        env={**os.environ, **MEMORY_SETTINGS, **THREAD_SETTINGS},
        cwd=readable or None,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
        preexec_fn=prepare,  # noqa: PLW1509
    )


def wait_until_listening(worker: subprocess.Popen[bytes], port: int) -> None:
    """Return when the worker's port accepts.

    Raises
    ------
    OSError
        The worker ended, or does not listen in time.
    """
    deadline = time.monotonic() + START_SECONDS
    while worker.poll() is None:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        if time.monotonic() > deadline:
            raise OSError(f"it does not listen after {START_SECONDS} s")
        time.sleep(0.01)
    raise OSError(f"it ended with status {worker.returncode} before it listened")


def relay(listener: socket.socket, port: int) -> None:
    """Connect every client of the Unix socket to the worker's port."""
    while True:
        client, _ = listener.accept()
        try:
            worker = socket.create_connection(("127.0.0.1", port))
        except OSError:
            client.close()
            continue
        worker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink in ((client, worker), (worker, client)):
            threading.Thread(target=copy, args=(source, sink), daemon=True).start()


def copy(source: socket.socket, sink: socket.socket) -> None:
    """Hand on everything that arrives, then the end of it."""
    with contextlib.suppress(OSError):
        splice(source, sink)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def splice(source: socket.socket, sink: socket.socket) -> None:
    """Hand on everything that arrives, by way of a pipe: nothing is copied into this process."""
    outlet, inlet = os.pipe()
    try:
        # A user with many pipes may be refused a large one.
        with contextlib.suppress(OSError):
            fcntl.fcntl(inlet, fcntl.F_SETPIPE_SZ, CHUNK_BYTES)
        while count := os.splice(source.fileno(), inlet, CHUNK_BYTES):
            while count:
                count -= os.splice(outlet, sink.fileno(), count)
    finally:
        os.close(outlet)
        os.close(inlet)


def end_with_parent(worker: subprocess.Popen[bytes]) -> None:
    """Wait until the parent closes our standard input or ends, then end the worker."""
    sys.stdin.buffer.read()
    worker.kill()


def report(**line: object) -> None:
    """Tell the parent, if it is still there."""
    with contextlib.suppress(OSError):
        print(json.dumps(line), flush=True)


def serve(folder: str, binary: str, readable: str) -> None:
    """Run the worker until it or the parent ends."""
    port = free_port()
    worker = start_worker(binary, port, readable)
    try:
        signal.signal(signal.SIGTERM, lambda *_: worker.kill())
        threading.Thread(target=end_with_parent, args=(worker,), daemon=True).start()
        wait_until_listening(worker, port)
        listener = listen(f"{folder}/worker.sock")
        threading.Thread(target=relay, args=(listener, port), daemon=True).start()
        report(pid=worker.pid, confined=bool(readable and landlock_version()))
    except OSError as error:
        report(error=str(error), stage="worker")
        worker.kill()
    worker.wait()


def main(folder: str, binary: str, isolation: str, readable: str = "") -> None:
    """Supervise one worker; the folder is gone afterwards."""
    try:
        if isolation == "namespace":
            try:
                enter_network_namespace()
            except OSError as error:
                report(error=str(error), stage="namespace")
                return
        try:
            serve(folder, binary, readable)
        except (OSError, subprocess.SubprocessError) as error:
            report(error=str(error), stage="worker")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
    # The relay's threads may hold a connection that the client has not closed yet.
    os._exit(0)
