"""Runs TFF computations in one worker that is reached at an address: ours, or another machine's."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import OrderedDict
from typing import Any

import grpc
import tensorflow_federated as tff

from fedviz.aggregation.machines import CHANNEL_OPTIONS

__all__ = ["Connection", "WorkerGoneError", "one_line"]

_LONGEST_REASON = 400


class WorkerGoneError(Exception):
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
            raise WorkerGoneError from error
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

    def close(self) -> None:
        with self._lock:
            while self._executors:
                self._executors.popitem()[1].close()


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


class Connection:
    """The connection to a TFF worker.

    Parameters
    ----------
    address : str
        What gRPC dials: ``unix:PATH`` or ``host:port``.
    """

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, CHANNEL_OPTIONS)
        self._stub = tff.framework.RemoteExecutorGrpcStub(self._channel)
        self._kept = _KeptExecutors(self._stub)
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

    def give_back(self) -> None:
        """Give up what the worker keeps for us: it may have other users, and outlives us."""
        self._kept.close()

    def close(self) -> None:
        """Close it, from any thread; what runs fails with ``grpc.RpcError``."""
        self.closed = True
        self._channel.close()


def one_line(details: str) -> str:
    """What a worker reports, fit for a message."""
    line = " ".join(details.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} …"
