"""Deals work out to the TFF workers of other machines; what a dead one had goes to the others.

Each worker has a thread that takes one portion after the other. A worker that ends, or that does
not answer any more, is left out from then on, and its portion is taken by another. What a worker
*reports* is no death: it would fail elsewhere too, and ends the work.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import grpc

from fedviz.aggregation.connection import GONE, Connection, WorkerGoneError, one_line
from fedviz.aggregation.machines import WorkerAddress, silence_of
from fedviz.errors import EngineError, FedvizError

__all__ = ["Dealt", "deal"]

Portion = TypeVar("Portion")
Result = TypeVar("Result")

# How long a worker may take to answer, how often one that computes is asked, and after how many
# silences it is given up. A network that swallows packets is noticed so within half a minute.
_ANSWER_SECONDS = 5.0
_WATCH_SECONDS = 5.0
_SILENCES = 2


@dataclass
class Dealt:
    """Who did what.

    Parameters
    ----------
    portions : Counter of str
        How many portions each worker did, by address.
    lost : dict of str to str
        The workers that were lost, and why.
    repeated : list of (str, str)
        For each portion that was lost with a worker: that worker, and the one that did it.
    """

    portions: Counter[str] = field(default_factory=Counter)
    lost: dict[str, str] = field(default_factory=dict)
    repeated: list[tuple[str, str]] = field(default_factory=list)

    def losses(self) -> list[str]:
        """One line for each lost worker: which, why, and who did its work."""
        return [
            f"{worker}: {reason}; {self._rerun(worker)}" for worker, reason in self.lost.items()
        ]

    def _rerun(self, worker: str) -> str:
        others = Counter(other for lost, other in self.repeated if lost == worker)
        if not others:
            return "it had no shards yet"
        return "its shards were run again on " + ", ".join(others)


@dataclass(frozen=True)
class _Arrived(Generic[Portion, Result]):
    worker: str
    portion: Portion
    result: Result


@dataclass(frozen=True)
class _Lost(Generic[Portion]):
    worker: str
    reason: str
    portion: Portion | None


@dataclass(frozen=True)
class _Failed:
    worker: str
    error: Exception


def deal(
    addresses: Sequence[WorkerAddress],
    portions: Sequence[Portion],
    greet: Callable[[Connection], Any],
    work: Callable[[Connection, Any, Portion], Result],
    arrived: Callable[[str, Portion, Result], None],
) -> Dealt:
    """Have every portion done by one of several workers.

    Parameters
    ----------
    addresses : sequence of WorkerAddress
    portions : sequence
    greet : callable
        Called first with each worker's connection, in its thread; what it returns is handed to
        ``work``.
    work : callable
        Does a portion over a connection, in the worker's thread.
    arrived : callable
        Called in the caller's thread with a worker's address, a portion and its result; if it
        raises, no further portion is begun.

    Returns
    -------
    Dealt

    Raises
    ------
    EngineError
        A worker reports a failure, or all are lost; the message names them.
    """
    return _Dealing(addresses, portions, greet, work).run(arrived)


class _Dealing(Generic[Portion, Result]):
    def __init__(
        self,
        addresses: Sequence[WorkerAddress],
        portions: Sequence[Portion],
        greet: Callable[[Connection], Any],
        work: Callable[[Connection, Any, Portion], Result],
    ) -> None:
        self._addresses = addresses
        self._greet = greet
        self._work = work
        self._waiting = deque(portions)
        self._unfinished = len(portions)
        self._changed = threading.Condition()
        self._over = False
        self._outcomes: queue.Queue[Any] = queue.Queue()
        # Portions are told apart by identity: they may be equal.
        self._lost_with: dict[int, str] = {}
        self._dealt = Dealt()

    def run(self, arrived: Callable[[str, Portion, Result], None]) -> Dealt:
        for address in self._addresses:
            threading.Thread(
                target=self._serve, args=(address,), name=f"fedviz {address}", daemon=True
            ).start()
        try:
            while self._unfinished:
                self._handle(self._outcomes.get(), arrived)
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
        return self._dealt

    def _handle(self, outcome: Any, arrived: Callable[[str, Portion, Result], None]) -> None:
        if isinstance(outcome, _Failed):
            raise _failure(outcome.worker, outcome.error) from outcome.error
        if isinstance(outcome, _Lost):
            self._handle_loss(outcome)
            return
        lost = self._lost_with.pop(id(outcome.portion), None)
        if lost:
            self._dealt.repeated.append((lost, outcome.worker))
        self._dealt.portions[outcome.worker] += 1
        arrived(outcome.worker, outcome.portion, outcome.result)
        with self._changed:
            self._unfinished -= 1
            self._changed.notify_all()

    def _handle_loss(self, loss: _Lost[Portion]) -> None:
        self._dealt.lost[loss.worker] = loss.reason
        if len(self._dealt.lost) == len(self._addresses):
            reasons = "; ".join(f"{worker}: {why}" for worker, why in self._dealt.lost.items())
            raise EngineError(
                f"no TFF worker is left of those in FEDVIZ_TFF_WORKERS ({reasons}). Start them "
                "again (fedviz worker), or unset it to average on this machine"
            )
        if loss.portion is not None:
            self._lost_with[id(loss.portion)] = loss.worker
            with self._changed:
                self._waiting.appendleft(loss.portion)
                self._changed.notify_all()

    def _serve(self, address: WorkerAddress) -> None:
        """In the worker's own thread: its portions, until nothing is left to do."""
        worker, portion = str(address), None
        silence = silence_of(address, _ANSWER_SECONDS)
        if silence:
            self._outcomes.put(_Lost(worker, silence, None))
            return
        watched = _Watched(address)
        try:
            greeting = self._greeted(watched)
            while (portion := self._next()) is not None:
                result = self._work(watched.connection, greeting, portion)
                self._outcomes.put(_Arrived(worker, portion, result))
        except Exception as error:
            reason = watched.silence or _reason_of_loss(error, watched.connection)
            if reason:
                _connections.drop(address, watched.connection)
                self._outcomes.put(_Lost(worker, reason, portion))
            else:
                self._outcomes.put(_Failed(worker, error))
        finally:
            watched.release()

    def _greeted(self, watched: _Watched) -> Any:
        try:
            return self._greet(watched.connection)
        except WorkerGoneError:
            # It answers, but not over a connection of an earlier mean: it was started again since.
            watched.renew()
            return self._greet(watched.connection)

    def _next(self) -> Portion | None:
        """The next portion; waits, because another worker may yet be lost."""
        with self._changed:
            while not self._waiting and self._unfinished and not self._over:
                self._changed.wait()
            return None if self._over or not self._unfinished else self._waiting.popleft()


class _Watched:
    """A connection that is closed when its worker falls silent, so that a call does not hang."""

    def __init__(self, address: WorkerAddress) -> None:
        self.silence = ""
        self.connection = _connections.to(address)
        self._address = address
        self._released = threading.Event()
        threading.Thread(target=self._watch, name=f"fedviz watch {address}", daemon=True).start()

    def _watch(self) -> None:
        silences = 0
        while not self._released.wait(_WATCH_SECONDS):
            silence = silence_of(self._address, _ANSWER_SECONDS)
            silences = silences + 1 if silence else 0
            if silences == _SILENCES:
                self.silence = silence
                _connections.drop(self._address, self.connection)
                return

    def renew(self) -> None:
        _connections.drop(self._address, self.connection)
        self.connection = _connections.to(self._address)

    def release(self) -> None:
        self._released.set()


def _reason_of_loss(error: Exception, connection: Connection) -> str:
    """How a worker was lost, if it was: a failure that it reports is none."""
    # Another mean of this process may have found it silent, and closed what both use.
    if connection.closed or isinstance(error, WorkerGoneError):
        return "it does not answer any more"
    if isinstance(error, grpc.RpcError) and error.code() in GONE:
        return f"it ended while it worked ({one_line(error.details() or str(error))})"
    return ""


def _failure(worker: str, error: Exception) -> EngineError:
    if isinstance(error, FedvizError):
        return EngineError(f"TFF worker {worker}: {error}")
    details = error.details() if isinstance(error, grpc.RpcError) else ""
    return EngineError(f"TFF worker {worker} reports: {one_line(details or str(error))}")


class _Connections:
    """The process's connections, each kept for the next mean."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[WorkerAddress, Connection] = {}

    def to(self, address: WorkerAddress) -> Connection:
        with self._lock:
            if address not in self._open:
                self._open[address] = Connection(str(address))
            return self._open[address]

    def drop(self, address: WorkerAddress, connection: Connection) -> None:
        """Close a connection that is of no use, and forget it unless another took its place."""
        with self._lock:
            if self._open.get(address) is connection:
                del self._open[address]
        connection.close()

    def close(self) -> None:
        """Give back what is held in the workers, and close all connections."""
        with self._lock:
            connections, self._open = list(self._open.values()), {}
        for connection in connections:
            with contextlib.suppress(Exception):
                connection.give_back()
            connection.close()

    def forget_in_child(self) -> None:
        """A forked child cannot use its parent's connections."""
        self._lock = threading.Lock()
        self._open = {}


_connections = _Connections()
os.register_at_fork(after_in_child=_connections.forget_in_child)
atexit.register(_connections.close)
