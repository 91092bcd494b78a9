"""Runs TFF computations in one worker that is reached at an address: ours, or another machine's."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Hashable
from typing import Any

import grpc
import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import executor_pb2, executor_pb2_grpc

from fedviz.aggregation.freed_memory import keep_freed_memory
from fedviz.aggregation.machines import CHANNEL_OPTIONS

__all__ = ["GONE", "KEPT_SECONDS", "Connection", "Executor", "WorkerGoneError", "one_line"]

_LONGEST_REASON = 400

# Functions that an executor keeps. To send that of a mean takes 2 ms.
_FUNCTIONS = 8

KEPT_SECONDS = 10.0
"""A worker keeps a mapped file, and so the space of a deleted one, up to twice as long unused."""

GONE = {
    grpc.StatusCode.UNAVAILABLE,
    # What it had is gone: it was started again in between.
    grpc.StatusCode.FAILED_PRECONDITION,
}
"""What a call fails with whose worker has ended."""


class WorkerGoneError(Exception):
    """The worker did not answer the first request of a call: nothing has run yet."""


class _Stub(tff.framework.RemoteExecutorGrpcStub):  # type: ignore[misc]
    """TFF's stub, but nobody waits until a value is given back."""

    def __init__(self, channel: grpc.Channel) -> None:
        super().__init__(channel)
        self._dispose = executor_pb2_grpc.ExecutorGroupStub(channel).Dispose
        self._process = os.getpid()
        # gRPC cancels a call whose future nobody has.
        self._disposals: set[grpc.Future] = set()

    def dispose(self, request: Any) -> None:
        # A forked child has copies of our values, and no use of the channel.
        if os.getpid() != self._process:
            return
        # A closed channel has given back everything.
        with contextlib.suppress(ValueError):
            disposal = self._dispose.future(request)
            self._disposals.add(disposal)
            disposal.add_done_callback(self._disposals.discard)


class Executor(tff.framework.RemoteExecutor):  # type: ignore[misc]
    """TFF's executor, which keeps functions and some values from call to call.

    It also knows whether the worker has answered in the present call.
    """

    _dispose_request: Any

    def __init__(self, stub: Any, cardinalities: Any) -> None:
        super().__init__(stub, dispose_batch_size=sys.maxsize)
        self.last_used = time.monotonic()
        self._kept: dict[Any, Any] = {}
        self._functions: OrderedDict[int, tuple[Any, Any]] = OrderedDict()
        self.begin()
        try:
            self.set_cardinalities(cardinalities)
        except grpc.RpcError as error:
            raise WorkerGoneError from error

    def begin(self) -> None:
        """A call has it from now on."""
        self.answered = False
        self._in_call = True

    def end(self) -> None:
        """The call is over: its values are given back, in one message."""
        self.last_used = time.monotonic()
        self._in_call = False
        self._send_disposals()

    def _dispose(self, value_ref: Any, value_executor_id: Any) -> None:
        super()._dispose(value_ref, value_executor_id)
        if not self._in_call:
            self._send_disposals()

    def _send_disposals(self) -> None:
        request = self._dispose_request
        if request is not None and request.value_ref:
            self._dispose_request = executor_pb2.DisposeRequest(executor=self._executor_id)
            self._stub.dispose(request)

    async def create_value(self, value: Any, type_spec: Any = None) -> Any:
        """TFF's, but a function that the worker has already is not sent again."""
        if not isinstance(value, tff.framework.ConcreteComputation):
            return await self._answer(super().create_value(value, type_spec))
        # By identity: to compare them would take longer than to send one.
        key = id(value)
        if key not in self._functions:
            function = await self._answer(super().create_value(value, type_spec))
            self._functions[key] = (value, function)
        self._functions.move_to_end(key)
        if len(self._functions) > _FUNCTIONS:
            self._functions.popitem(last=False)
        return self._functions[key][1]

    async def create_call(self, comp: Any, arg: Any = None) -> Any:
        """TFF's, which says whether the worker was there at all."""
        return await self._answer(super().create_call(comp, arg))

    async def _answer(self, request: Awaitable[Any]) -> Any:
        """The answer to a request, which may be the first of a call."""
        try:
            answer = await request
        except grpc.RpcError as error:
            if not self.answered and error.code() in GONE:
                raise WorkerGoneError from error
            raise
        self.answered = True
        return answer

    async def kept(self, key: Hashable, computation: Any) -> Any:
        """The value of a computation without arguments, computed once as long as it is kept.

        Parameters
        ----------
        key : hashable
            Stands for the value. One with another key takes its place.
        computation : tff.Computation
        """
        if key not in self._kept:
            self.let_go()
            compiled = _compiled(computation)
            function = await self.create_value(compiled, compiled.type_signature)
            self._kept[key] = await self.create_call(function)
        return self._kept[key]

    @property
    def keeps(self) -> bool:
        """Whether it keeps a value."""
        return bool(self._kept)

    def let_go(self) -> None:
        """Give back what is kept."""
        self._kept.clear()


class _Executors:
    """Executors that no call has, the last used last.

    The worker keeps what it has built for a number of clients as long as somebody has an executor
    for it. To load a graph again takes as long as a small mean. Values that executors keep are let
    go when none was used for a while.
    """

    _LIMIT = 8

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._idle: list[tuple[int, Executor]] = []
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def take(self, cardinalities: Any) -> Executor:
        """One that nobody else has until it is put back."""
        clients = cardinalities[tff.CLIENTS]
        with self._lock:
            place = next((i for i, (n, _) in enumerate(self._idle) if n == clients), None)
            executor = None if place is None else self._idle.pop(place)[1]
        if executor is None:
            return Executor(self._stub, cardinalities)
        executor.begin()
        return executor

    def put_back(self, cardinalities: Any, executor: Executor) -> None:
        executor.end()
        with self._lock:
            self._idle.append((cardinalities[tff.CLIENTS], executor))
            surplus = self._idle[: -self._LIMIT]
            del self._idle[: -self._LIMIT]
            self._let_go_later()
        for _, each in surplus:
            each.close()

    def _let_go_later(self) -> None:
        if self._timer is None and any(executor.keeps for _, executor in self._idle):
            self._timer = threading.Timer(KEPT_SECONDS, self._let_go)
            self._timer.daemon = True
            self._timer.start()

    def _let_go(self) -> None:
        with self._lock:
            for _, executor in self._idle:
                if time.monotonic() - executor.last_used >= KEPT_SECONDS:
                    executor.let_go()
            self._timer = None
            self._let_go_later()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
            if self._timer is not None:
                self._timer.cancel()
        for _, each in idle:
            each.close()


class _ExecutorOfCall(tff.framework.ExecutorFactory):  # type: ignore[misc]
    """The executor of one call: put back after it, closed after a failure.

    TFF's own factory shares one executor between all calls with the same number of clients, and
    closes it when one of them fails: the others then fail too.
    """

    def __init__(self, executors: _Executors) -> None:
        self._executors = executors
        self._taken: list[tuple[Any, Executor]] = []

    def create_executor(self, cardinalities: Any) -> Any:
        cardinalities = {tff.CLIENTS: 0, **cardinalities}
        self._taken.append((cardinalities, self._executors.take(cardinalities)))
        return self._taken[-1][1]

    def clean_up_executor(self, _cardinalities: Any) -> None:
        """After a failure; values that it left in the worker go with their executor."""
        while self._taken:
            self._taken.pop()[1].close()

    def put_back(self) -> None:
        while self._taken:
            self._executors.put_back(*self._taken.pop())


class _Context(tff.framework.AsyncExecutionContext):  # type: ignore[misc]
    """TFF's context, but it fails when its worker is gone, where TFF's would retry for ever."""

    invoke = tff.framework.AsyncExecutionContext.invoke.__wrapped__


@functools.lru_cache(maxsize=256)
def _compiled(computation: Any) -> Any:
    return tff.backends.native.desugar_and_transform_to_native(computation)


class Connection:
    """The connection to a TFF worker.

    Parameters
    ----------
    address : str
        What gRPC dials: ``unix:PATH`` or ``host:port``.
    """

    def __init__(self, address: str) -> None:
        keep_freed_memory()
        self._channel = grpc.insecure_channel(address, CHANNEL_OPTIONS)
        self._executors = _Executors(_Stub(self._channel))
        self.closed = False

    def invoke(self, computation: Any, args: tuple[Any, ...]) -> Any:
        """Run a computation in this thread, which must have no event loop.

        Raises
        ------
        WorkerGoneError
            The worker did not answer the first request: nothing has run yet.
        grpc.RpcError
            The worker reports a failure, or ended.
        """
        executor = _ExecutorOfCall(self._executors)
        context = _Context(
            executor,
            _compiled,
            transform_args=tff.tensorflow.transform_args,
            transform_result=tff.tensorflow.transform_result,
        )
        try:
            with tff.framework.get_context_stack().install(context):
                return asyncio.run(computation(*args))
        finally:
            executor.put_back()

    def give_back(self) -> None:
        """Give up what the worker keeps for us: it may have other users, and outlives us."""
        self._executors.close()

    def close(self) -> None:
        """Close it, from any thread; what runs fails with ``grpc.RpcError``."""
        self.closed = True
        self._channel.close()


def one_line(details: str) -> str:
    """What a worker reports, fit for a message."""
    line = " ".join(details.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} …"
