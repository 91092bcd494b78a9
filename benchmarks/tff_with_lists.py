"""TFF as it is usually fed: the clients' arrays as Python values, sent in messages."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_federated as tff

from fedviz.aggregation import context
from fedviz.aggregation.tff_aggregators import TffAggregator
from fedviz.aggregation.tff_factories import create_process, with_sums_in_the_clear

__all__ = ["Process", "mean_of_lists"]

Client = Sequence[np.ndarray]


def _type_of(client: Client) -> Any:
    return tff.to_type(tuple(tff.TensorType(np.float32, array.shape) for array in client))


@functools.cache
def _mean(value_type: Any) -> Any:
    return tff.federated_computation(
        lambda values, weights: tff.federated_mean(values, weights),  # noqa: PLW0108
        tff.FederatedType(value_type, tff.CLIENTS),
        tff.FederatedType(np.float32, tff.CLIENTS),
    )


def mean_of_lists(clients: Sequence[Client], weights: Sequence[float]) -> Any:
    """``tff.federated_mean`` of the clients' arrays, in fedviz's worker."""
    values = [tuple(client) for client in clients]
    return context.run(_mean(_type_of(clients[0])), values, [np.float32(w) for w in weights])


class Process:
    """One of TFF's aggregation processes, run over clients that are handed over as lists."""

    def __init__(self, aggregator: TffAggregator, clients: Sequence[Client]) -> None:
        process = create_process(aggregator, _type_of(clients[0]), {}, len(clients))
        self._weighted = aggregator.weighted
        self._initialize, self._next = process.initialize, process.next
        if aggregator.context == "test":
            self._initialize = with_sums_in_the_clear(self._initialize)
            self._next = with_sums_in_the_clear(self._next)

    def run(self, clients: Sequence[Client], weights: Sequence[float]) -> Any:
        """A first state and one round."""
        arguments: list[Any] = [context.run(self._initialize), [tuple(c) for c in clients]]
        if self._weighted:
            arguments.append([np.float32(w) for w in weights])
        return context.run(self._next, *arguments)
