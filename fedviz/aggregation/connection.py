"""Runs TFF computations in one worker that is reached at an address: ours, or another machine's."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import Any

import grpc
import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import executor_pb2_grpc

from fedviz.aggregation.machines import CHANNEL_OPTIONS

__all__ = ["GONE", "Connection", "WorkerGoneError", "one_line"]

_LONGEST_REASON = 400

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

    def dispose(self, request: Any) -> None:
        self._dispose.future(request)


class _Executor(tff.framework.RemoteExecutor):  # type: ignore[misc]
    """TFF's executor, which knows whether the worker has answered in the present call."""

    def __init__(self, stub: Any, cardinalities: Any) -> None:
        # Values are given back one by one: what waits to be given back in a batch would stay in
        # the worker when the call is over.
        super().__init__(stub, dispose_batch_size=1)
        self.answered = False
        try:
            self.set_cardinalities(cardinalities)
        except grpc.RpcError as error:
            raise WorkerGoneError from error

    async def create_value(self, value: Any, type_spec: Any = None) -> Any:
        try:
            created = await super().create_value(value, type_spec)
        except grpc.RpcError as error:
            if not self.answered and error.code() in GONE:
                raise WorkerGoneError from error
            raise
        self.answered = True
        return created


class _Executors:
    """Executors that no call has, the last used last.

    The worker keeps what it has built for a number of clients as long as somebody has an executor
    for it. To load a graph again takes as long as a small mean.
    """

    _LIMIT = 8

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._idle: list[tuple[int, _Executor]] = []
        self._lock = threading.Lock()

    def take(self, cardinalities: Any) -> _Executor:
        """One that nobody else has until it is put back."""
        clients = cardinalities[tff.CLIENTS]
        with self._lock:
            place = next((i for i, (n, _) in enumerate(self._idle) if n == clients), None)
            executor = None if place is None else self._idle.pop(place)[1]
        if executor is None:
            return _Executor(self._stub, cardinalities)
        executor.answered = False
        return executor

    def put_back(self, cardinalities: Any, executor: _Executor) -> None:
        with self._lock:
            self._idle.append((cardinalities[tff.CLIENTS], executor))
            surplus = self._idle[: -self._LIMIT]
            del self._idle[: -self._LIMIT]
        for _, each in surplus:
            each.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, each in idle:
            each.close()


class _ExecutorOfCall(tff.framework.ExecutorFactory):  # type: ignore[misc]
    """The executor of one call: put back after it, closed after a failure.

    TFF's own factory shares one executor between all calls with the same number of clients, and
    closes it when one of them fails: the others then fail too.
    """

    def __init__(self, executors: _Executors) -> None:
        self._executors = executors
        self._taken: list[tuple[Any, _Executor]] = []

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
