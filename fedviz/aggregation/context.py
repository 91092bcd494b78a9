"""Runs TFF computations in one worker that the whole process shares.

TFF's context stack belongs to a thread, and a dashboard runs each of its scripts in a new one. So
nothing is ever set as TFF's default: :func:`run` installs the context for one call, from any
thread.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import grpc
import tensorflow as tf
import tensorflow_federated as tff

from fedviz.aggregation.worker import Worker
from fedviz.errors import EngineError

__all__ = ["run", "shutdown", "warm_up", "worker"]

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
# How long the supervisor may take to notice that its worker is gone.
_NOTICE_SECONDS = 2.0
_LONGEST_REASON = 400


class _WorkerGoneError(Exception):
    """The worker did not answer the first request of a call: nothing has run yet."""


class _Executors(tff.framework.ExecutorFactory):  # type: ignore[misc]
    """Executors for one call, closed after it.

    TFF's own factory shares one executor between all calls with the same number of clients, and
    closes it when one of them fails: the others then fail too.
    """

    def __init__(self, stub: Any, kept: _KeptExecutors) -> None:
        self._stub = stub
        self._kept = kept
        self._open: list[Any] = []

    def create_executor(self, cardinalities: Any) -> Any:
        cardinalities = {tff.CLIENTS: 0, **cardinalities}
        try:
            self._kept.keep(cardinalities)
            self._open.append(_new_executor(self._stub, cardinalities))
        except grpc.RpcError as error:
            raise _WorkerGoneError from error
        return self._open[-1]

    def clean_up_executor(self, cardinalities: Any) -> None:
        """After a failure; values that it left in the worker go with their executor."""
        self._kept.drop({tff.CLIENTS: 0, **cardinalities})
        self.close()

    def close(self) -> None:
        while self._open:
            self._open.pop().close()


class _KeptExecutors:
    """Executors that nobody computes with, so that the worker keeps what it has built.

    The worker has one executor for each number of clients, which ends with its last user. A call
    that finds it still there need not load its graphs again, which takes as long as a small mean.
    """

    _LIMIT = 8

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._executors: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, cardinalities: Any) -> None:
        with self._lock:
            clients = cardinalities[tff.CLIENTS]
            if clients not in self._executors:
                self._executors[clients] = _new_executor(self._stub, cardinalities)
            self._executors.move_to_end(clients)
            while len(self._executors) > self._LIMIT:
                self._executors.popitem(last=False)[1].close()

    def drop(self, cardinalities: Any) -> None:
        with self._lock:
            executor = self._executors.pop(cardinalities[tff.CLIENTS], None)
        if executor is not None:
            executor.close()


def _new_executor(stub: Any, cardinalities: Any) -> Any:
    # Values are given back one by one: what waits to be given back in a batch would stay in the
    # worker when the call is over.
    executor = tff.framework.RemoteExecutor(stub, dispose_batch_size=1)
    executor.set_cardinalities(cardinalities)
    return executor


class _Context(tff.framework.AsyncExecutionContext):  # type: ignore[misc]
    """TFF's context, but it fails when its worker is gone, where TFF's would retry for ever."""

    invoke = tff.framework.AsyncExecutionContext.invoke.__wrapped__


@functools.lru_cache(maxsize=256)
def _compiled(computation: Any) -> Any:
    return tff.backends.native.desugar_and_transform_to_native(computation)


class _Engine:
    """A worker and the connection to it."""

    def __init__(self) -> None:
        self.worker = Worker()
        self._channel = grpc.insecure_channel(self.worker.address, _CHANNEL_OPTIONS)
        self._stub = tff.framework.RemoteExecutorGrpcStub(self._channel)
        self._kept = _KeptExecutors(self._stub)

    def invoke(self, computation: Any, args: tuple[Any, ...]) -> Any:
        """Run a computation in this thread, which must have no event loop."""
        executors = _Executors(self._stub, self._kept)
        context = _Context(
            executors,
            _compiled,
            transform_args=tff.tensorflow.transform_args,
            transform_result=tff.tensorflow.transform_result,
        )
        try:
            with tff.framework.get_context_stack().install(context):
                return asyncio.run(computation(*args))
        finally:
            executors.close()

    def close(self) -> None:
        self._channel.close()
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
    except _WorkerGoneError:
        pass
    try:
        return _run_once(computation, args)
    except _WorkerGoneError as error:
        raise EngineError("the TFF worker ends as soon as it has started.") from error


def _run_once(computation: Any, args: tuple[Any, ...]) -> Any:
    engine = _shared.running()
    try:
        return _in_own_thread(functools.partial(engine.invoke, computation, args))
    except _WorkerGoneError:
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
        return EngineError(f"the TFF worker reports: {_one_line(error.details() or str(error))}")
    said = f"; its last words: {used.last_words}" if used.last_words else ""
    return EngineError(
        "the TFF worker ended while it worked: out of memory, ended by hand, or a file was cut "
        f"short while it was read{said}. The next call starts a new worker."
    )


def _one_line(details: str) -> str:
    line = " ".join(details.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} …"
