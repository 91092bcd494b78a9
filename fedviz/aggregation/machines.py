"""TFF workers on other machines: which there are, and whether they answer.

This module loads neither TensorFlow nor TFF: the dashboard asks it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import grpc

from fedviz.errors import InvalidArgumentError

__all__ = [
    "CHANNEL_OPTIONS",
    "VARIABLE",
    "LostWorkerWarning",
    "WorkerAddress",
    "engine_of",
    "listed_workers",
    "silence_of",
]

VARIABLE = "FEDVIZ_TFF_WORKERS"
"""The environment variable that lists the workers of other machines."""

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A proxy for the web is no way to a machine of one's own.
    ("grpc.enable_http_proxy", 0),
    # Otherwise a new channel waits as long as an old one to the same address would, after failures.
    ("grpc.use_local_subchannel_pool", 1),
)

_HARMLESS = "/tensorflow_federated.v0.ExecutorGroup/DisposeExecutor"


class LostWorkerWarning(UserWarning):
    """A worker of another machine was lost; the others did its work."""


@dataclass(frozen=True)
class WorkerAddress:
    """Where a worker of another machine listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def listed_workers(text: str | None = None) -> tuple[WorkerAddress, ...]:
    """The workers that are to be used, in their order.

    Parameters
    ----------
    text : str, optional
        ``host:port,host:port,...``; by default what ``FEDVIZ_TFF_WORKERS`` says.

    Returns
    -------
    tuple of WorkerAddress
        None listed: everything runs in a worker of this machine.

    Raises
    ------
    InvalidArgumentError
        An entry is no ``host:port``, or stands there twice.
    """
    text = os.environ.get(VARIABLE, "") if text is None else text
    entries = [entry.strip() for entry in text.split(",")]
    addresses = [_parsed(entry) for entry in entries if entry]
    for address in addresses:
        if addresses.count(address) > 1:
            raise InvalidArgumentError(f"{VARIABLE}: {address} is listed twice.")
    return tuple(addresses)


def _parsed(entry: str) -> WorkerAddress:
    with contextlib.suppress(ValueError):
        parts = urlsplit(f"//{entry}")
        if parts.hostname and parts.port and parts.netloc == entry and "@" not in entry:
            return WorkerAddress(parts.hostname, parts.port)
    raise InvalidArgumentError(
        f"{VARIABLE}: expected host:port,host:port,..., found {entry!r}; a port is a number from 1 "
        "to 65535, an IPv6 address stands in brackets."
    )


def engine_of(workers: Sequence[WorkerAddress]) -> str:
    """What ran a computation, for a report."""
    return f"tff workers at {', '.join(map(str, workers))}"


def silence_of(address: WorkerAddress, seconds: float) -> str:
    """Why a worker does not answer; empty if it does.

    Over a connection of its own it is asked to give up an executor that it does not have, which a
    TFF worker takes for done and nothing else knows. Nothing runs in it.

    Parameters
    ----------
    address : WorkerAddress
    seconds : float
        How long to wait, for the connection and again for what answers it.
    """
    try:
        socket.create_connection((address.host, address.port), seconds).close()
    except TimeoutError:
        return f"no connection within {seconds:g} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    with grpc.insecure_channel(str(address), CHANNEL_OPTIONS) as channel:
        try:
            channel.unary_unary(_HARMLESS)(b"", timeout=seconds)
        except grpc.RpcError as error:
            return _reason(error, seconds)
    return ""


def _reason(error: grpc.RpcError, seconds: float) -> str:
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"it accepts connections and does not answer within {seconds:g} s"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return "what listens there is no TFF worker"
    return f"it does not answer as a TFF worker does ({code.name.lower()})"
