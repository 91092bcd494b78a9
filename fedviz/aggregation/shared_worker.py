"""A TFF worker for other machines: ``fedviz worker``.

TFF's worker asks nobody who they are. It runs in its network namespace, as the one that averages on
this machine does; this process listens at the address that was asked for and hands on what arrives.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from fedviz.aggregation.machines import WorkerAddress
from fedviz.aggregation.worker import Worker
from fedviz.aggregation.worker_supervisor import copy
from fedviz.errors import EngineError, InvalidArgumentError, StorageError

__all__ = ["serve_worker"]

Say = Callable[[str], None]


def serve_worker(address: WorkerAddress, data_dir: Path, say: Say, warn: Say) -> None:
    """Run a TFF worker that other machines reach, until SIGINT or SIGTERM.

    Call it in the main thread.

    Parameters
    ----------
    address : WorkerAddress
        Where to listen; port 0 is any that is free.
    data_dir : Path
        The folder of the datasets: the worker reads nothing else, where the kernel can see to it.
    say, warn : callable
        Told, in one line each, where it listens, and what is dangerous.

    Raises
    ------
    StorageError
        The folder is not there.
    InvalidArgumentError
        The address is not this machine's, or somebody listens there.
    EngineError
        The worker does not start, or ended.
    """
    if not data_dir.is_dir():
        raise StorageError(f"--data-dir {data_dir}: there is no such folder.")
    with _until_told_to_end(), _listener(address) as listener:
        with Worker(readable=data_dir.resolve()) as worker:
            listening = WorkerAddress(address.host, listener.getsockname()[1])
            for danger in _dangers(listening, worker):
                warn(danger)
            say(f"TFF worker at {listening}, reading {data_dir.resolve()}; Ctrl+C ends it.")
            _relay(listener, worker)
        raise EngineError(f"the TFF worker ended; its last words: {worker.last_words or 'none'}.")


class _EndError(Exception):
    """SIGINT or SIGTERM arrived."""


@contextlib.contextmanager
def _until_told_to_end() -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise _EndError

    before = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.suppress(_EndError):
            yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _listener(address: WorkerAddress) -> socket.socket:
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address.host, address.port), family=family, backlog=128)
    except OSError as error:
        hint = {
            errno.EADDRINUSE: "; end what listens there, or choose another --port",
            errno.EADDRNOTAVAIL: "; --host is an address of this machine",
        }.get(error.errno or 0, "")
        reason = error.strerror or str(error)
        raise InvalidArgumentError(f"cannot listen at {address}: {reason}{hint}.") from error


def _dangers(address: WorkerAddress, worker: Worker) -> list[str]:
    confined = worker.confined
    reach = (
        "reads every file of its data folder"
        if confined
        else "reads and writes every file that this user may (this kernel has no Landlock to "
        "forbid it)"
    )
    dangers = [
        f"there is no authentication: whoever reaches {address} runs any TensorFlow graph here, "
        f"which {reach}."
    ]
    if not _is_loopback(address.host):
        dangers.append(
            f"{address.host} is reached from other machines: let a firewall or a network policy "
            "admit only the machine that averages (docs/distributed.md)."
        )
    return dangers


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _relay(listener: socket.socket, worker: Worker) -> None:
    """Connect every client to the worker, until that ends."""
    ended = os.pidfd_open(worker.supervisor_pid)
    listener.setblocking(False)
    try:
        while ended not in select.select([listener.fileno(), ended], [], [])[0]:
            with contextlib.suppress(OSError):
                client, _ = listener.accept()
                _connect(client, worker)
    finally:
        os.close(ended)


def _connect(client: socket.socket, worker: Worker) -> None:
    client.setblocking(True)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A machine that vanished does not say so.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    inner = socket.socket(socket.AF_UNIX)
    try:
        inner.connect(str(worker.socket_path))
    except OSError:
        client.close()
        inner.close()
        return
    for source, sink in ((client, inner), (inner, client)):
        threading.Thread(target=copy, args=(source, sink), daemon=True).start()
