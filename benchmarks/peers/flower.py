"""Flower's weighted mean of the clients in a dataset, asked for line by line.

A question is ``{"case", "path"}``; the answer says the seconds of reading and of averaging. Making
Flower's records of the arrays is left out: a server is sent them so.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import h5py
import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.server.strategy.aggregate import aggregate
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

ROUND = "rounds/000000"


def clients_of(path: str) -> tuple[list[h5py.Dataset], list[int]]:
    """The stacks of the first round, one row a client, and the clients' examples."""
    file = h5py.File(path, "r")
    stacks = [file[f"{ROUND}/weights"][key] for key in sorted(file[f"{ROUND}/weights"])]
    return stacks, file[f"{ROUND}/clients"]["num_examples"].tolist()


def classic(path: str) -> tuple[float, list[np.ndarray]]:
    """``flwr.server.strategy.aggregate.aggregate``, FedAvg's until the message API."""
    started = time.perf_counter()
    stacks, examples = clients_of(path)
    results = [([stack[i] for stack in stacks], n) for i, n in enumerate(examples)]
    mean = aggregate(results)
    return time.perf_counter() - started, mean


def newest(path: str) -> tuple[float, list[np.ndarray]]:
    """``flwr.serverapp``'s FedAvg: ``aggregate_arrayrecords``."""
    counted = 0.0
    stacks, examples = clients_of(path)
    records = []
    for i, n in enumerate(examples):
        started = time.perf_counter()
        arrays = [stack[i] for stack in stacks]
        counted += time.perf_counter() - started
        named = {str(j): Array(array) for j, array in enumerate(arrays)}
        metrics = MetricRecord({"num-examples": n})
        records.append(RecordDict({"arrays": ArrayRecord(named), "metrics": metrics}))
    started = time.perf_counter()
    mean = aggregate_arrayrecords(records, "num-examples")
    counted += time.perf_counter() - started
    return counted, [mean[str(j)].numpy() for j in range(len(stacks))]


CASES: dict[str, Callable[[str], tuple[float, list[np.ndarray]]]] = {
    "classic": classic,
    "newest": newest,
}


def main() -> None:
    """Answer until standard input closes."""
    for line in sys.stdin:
        question = json.loads(line)
        seconds, mean = CASES[question["case"]](question["path"])
        norm = float(np.sqrt(sum(np.vdot(t, t) for t in (m.astype("f8") for m in mean))))
        print(json.dumps({"seconds": seconds, "norm": norm}), flush=True)


if __name__ == "__main__":
    main()
