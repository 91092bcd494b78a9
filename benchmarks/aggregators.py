"""Each of TFF's aggregators over mapped clients, next to the same process fed with Python lists.

100 clients of the 784-1024-10 MLP. *fedviz* is the process's part of `fedviz.average`, a first
state and one round; *lists* is the same process in the same worker, handed the clients' updates as
Python lists, which are in memory already. *In all* is `fedviz.average`, which also measures how far
the result lies from the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fedviz
from benchmarks.large_datasets import MLP, large_dataset
from benchmarks.tff_with_lists import Process
from benchmarks.timing import Goal, Row, medians, seconds
from fedviz.aggregation.tff_aggregators import TFF_AGGREGATORS

# Lists take 7 s and more.
REPEATS = 3
CLIENTS = 100
TIMES_FASTER = 10


def measure(folder: Path) -> Iterator[Row | Goal]:
    """One row for each aggregator."""
    path = large_dataset(folder, "100-MLP", MLP, CLIENTS)
    with fedviz.open(path) as dataset:
        round_ = dataset.round()
        server = round_.server or {}
        updates = [
            [round_.clients[record.id][name] - server[name] for name in dataset.signature.names]
            for record in round_.conforming
        ]
        examples = [float(record.num_examples) for record in round_.conforming]
    slow = []
    for name, aggregator in TFF_AGGREGATORS.items():
        process = Process(aggregator, updates)
        process.run(updates, examples)
        fedviz.average(path, aggregator=name)
        times = medians(
            {
                "lists": lambda p=process: seconds(lambda: p.run(updates, examples)),
                "fedviz": lambda n=name: _process_seconds(path, n),
                "in all": lambda n=name: fedviz.average(path, aggregator=n).seconds,
            },
            REPEATS,
        )
        ratio = times["lists"] / times["fedviz"]
        if ratio < TIMES_FASTER:
            slow.append(f"{name} {ratio:.1f} ×")
        lists = f"lists: {times['lists']:.2f} s, {ratio:.1f} × as long"
        yield Row(name, times["fedviz"], f"{lists}; in all {times['in all']:.2f} s")
    figure = f"not {', '.join(slow)}" if slow else "all are"
    yield Goal(f"each TFF aggregator {TIMES_FASTER} × as fast as with lists", figure, not slow)


def _process_seconds(path: Path, name: str) -> float:
    measured: float = fedviz.average(path, aggregator=name).measurements["process_seconds"]
    return measured
