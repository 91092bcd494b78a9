"""Runs TFF computations in one worker that the whole process shares.

TFF's context stack belongs to a thread, and a dashboard runs each of its scripts in a new one. So
nothing is ever set as TFF's default: :func:`run` installs the context for one call, from any
thread.
"""

from __future__ import annotations

import atexit
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import grpc
import tensorflow as tf
import tensorflow_federated as tff

from fedviz.aggregation.connection import Connection, WorkerGoneError, one_line
from fedviz.aggregation.worker import Worker
from fedviz.errors import EngineError

__all__ = ["run", "shutdown", "warm_up", "worker"]

# How long the supervisor may take to notice that its worker is gone.
_NOTICE_SECONDS = 2.0


class _Engine:
    """A worker and the connection to it."""

    def __init__(self) -> None:
        self.worker = Worker()
        self.connection = Connection(self.worker.address)

    def close(self) -> None:
        self.connection.close()
        self.worker.close()


class _SharedEngine:
    """The process's engine, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engine: _Engine | None = None

    def running(self) -> _Engine:
        """The engine, a new one where the worker of the last has died."""
        with self._lock:
            if self._engine is not None and not self._engine.worker.alive:
                self._engine.close()
                self._engine = None
            if self._engine is None:
                self._engine = _Engine()
            return self._engine

    def discard(self, engine: _Engine) -> None:
        """Close an engine that is of no use, and forget it unless another took its place."""
        with self._lock:
            if self._engine is engine:
                self._engine = None
        engine.close()

    def close(self) -> None:
        """Close the engine, if there is one."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def forget_in_child(self) -> None:
        """A forked child has no connection to the worker, and must not keep it alive."""
        self._lock = threading.Lock()
        if self._engine is not None:
            self._engine.worker.abandon()
            self._engine = None


_shared = _SharedEngine()
os.register_at_fork(after_in_child=_shared.forget_in_child)
atexit.register(_shared.close)
# TFF's own default context says an error when it is freed after the modules that it needs.
atexit.register(tff.test.set_no_default_context)


def run(computation: Any, *args: Any) -> Any:
    """Run a TFF computation in the shared worker; any thread may call it, many at once.

    A worker that has died since the last call is replaced first.

    Parameters
    ----------
    computation : tff.Computation
        Federated or local; also a process's ``initialize`` or ``next``.
    *args
        Its arguments.

    Returns
    -------
    object
        Its result, as TFF gives it: arrays, tuples, OrderedDicts.

    Raises
    ------
    EngineError
        The worker does not start, reports a failure, or ends during the call.
    """
    try:
        return _run_once(computation, args)
    except WorkerGoneError:
        pass
    try:
        return _run_once(computation, args)
    except WorkerGoneError as error:
        raise EngineError("the TFF worker ends as soon as it has started.") from error


def _run_once(computation: Any, args: tuple[Any, ...]) -> Any:
    engine = _shared.running()
    try:
        return _in_own_thread(functools.partial(engine.connection.invoke, computation, args))
    except WorkerGoneError:
        _shared.discard(engine)
        raise
    except grpc.RpcError as error:
        raise _translated(error, engine.worker) from error


def worker() -> Worker:
    """The shared worker, started if there is none.

    Raises
    ------
    EngineError
        It does not start.
    """
    return _shared.running().worker


def warm_up() -> None:
    """Start the shared worker and run something small in it, so that the next call is fast.

    Raises
    ------
    EngineError
        It does not start.
    """
    run(tff.tensorflow.computation(lambda: tf.constant(0)))


def shutdown() -> None:
    """End the shared worker, if there is one; the next call starts another."""
    _shared.close()


def _in_own_thread(call: Callable[[], Any]) -> Any:
    """The result of a call that needs a thread without an event loop.

    The caller's may have one (a notebook's does). A daemon thread, so that Ctrl+C does not wait
    for the worker.
    """
    future: Future[Any] = Future()

    def target() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=target, name="fedviz-tff", daemon=True).start()
    return future.result()


def _translated(error: grpc.RpcError, used: Worker) -> EngineError:
    gone = error.code() == grpc.StatusCode.UNAVAILABLE and used.wait_until_ended(_NOTICE_SECONDS)
    if not gone:
        return EngineError(f"the TFF worker reports: {one_line(error.details() or str(error))}")
    said = f"; its last words: {used.last_words}" if used.last_words else ""
    return EngineError(
        "the TFF worker ended while it worked: out of memory, ended by hand, or a file was cut "
        f"short while it was read{said}. The next call starts a new worker."
    )
