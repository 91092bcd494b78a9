"""The mean through TFF next to NumPy, Flower and TFF fed with Python lists.

Clients of float32 weights, the file in the page cache. *fedviz* is `fedviz.average` with its worker
running. The *floor* is NumPy's `w @ memmap` for each tensor, mapped once before: one pass over
memory. *Mapped anew* maps the file in each run. *Flower* is
`flwr.server.strategy.aggregate.aggregate`, and the newest is
`flwr.serverapp.strategy.strategy_utils.aggregate_arrayrecords`; the seconds of reading the clients
from the same file are counted. *TFF with lists* is `tff.federated_mean` in the same worker, handed
the clients' arrays, which are in memory already.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import fedviz
from benchmarks.large_datasets import CNN, MLP, large_dataset, mapped_stacks, read_through
from benchmarks.peer_process import PeerProcess
from benchmarks.tff_with_lists import mean_of_lists
from benchmarks.timing import Goal, Row, Timed, medians, seconds
from fedviz.signature import Signature

REPEATS = 11
CASES = (("100 × MLP", MLP, 100, 3.0), ("1,000 × CNN", CNN, 1000, 1.8))
# Of 9 s each.
LISTS_REPEATS = 10


def measure(folder: Path) -> Iterator[Row | Goal]:
    """Both sizes, and TFF with lists at the smaller one."""
    for name, model, num_clients, limit in CASES:
        path = large_dataset(folder, name.replace(" × ", "-").replace(",", ""), model, num_clients)
        with PeerProcess("flower") as flower:
            times = medians(cases_of(path, flower), REPEATS)
        yield from rows_of(f"{name}, {path.stat().st_size / 1e9:.2f} GB", times, limit)
    yield from against_lists(folder, MLP)


def cases_of(path: Path, flower: PeerProcess) -> dict[str, Timed]:
    """The cases, each with the file in the page cache and all that is running warm."""
    stacks, weights = mapped_stacks(path)
    expected = fedviz.average(path).l2_norm

    def floor() -> list[np.ndarray]:
        return [weights @ stack for stack in stacks]

    def mapped_anew() -> list[np.ndarray]:
        return [weights @ stack for stack in mapped_stacks(path)[0]]

    def flowers(case: str) -> float:
        answer = flower.ask(case=case, path=os.fspath(path))
        assert np.isclose(answer["norm"], expected, rtol=1e-5), "Flower's mean is another"
        # It takes so much memory that the system may have dropped the file.
        read_through(path)
        floor()
        return float(answer["seconds"])

    floor()
    cases: dict[str, Timed] = {
        "floor": lambda: seconds(floor),
        "mapped anew": lambda: seconds(mapped_anew),
        "fedviz": lambda: fedviz.average(path).seconds,
    }
    for case, held in (("classic", 2), ("newest", 1)):
        if held * path.stat().st_size < 0.9 * _available_bytes():
            cases[case] = lambda c=case: flowers(c)
    return cases


def rows_of(name: str, times: dict[str, float], limit: float) -> Iterator[Row | Goal]:
    """The rows of one size, and what was to be reached there."""
    floor, ours = times["floor"], times["fedviz"]
    notes: dict[str, str] = {
        "floor": "NumPy, `w @ memmap`: the floor",
        "mapped anew": "NumPy, the file mapped anew",
        "fedviz": "fedviz, through TFF",
        "classic": "Flower, `aggregate`",
        "newest": "Flower, newest",
    }
    for case, value in times.items():
        yield Row(f"{name}: {notes[case]}", value, f"{value / floor:.1f} × the floor")
    for case in notes.keys() - times.keys():
        yield Row(f"{name}: {notes[case]}", "left out", "more than this machine's memory")
    yield Goal(
        f"{name}: at most {limit:g} × NumPy's `w @ memmap`",
        f"{ours / floor:.2f} × (mapped anew: {ours / times['mapped anew']:.2f} ×)",
        ours <= limit * floor,
    )
    flowers = [times[case] for case in ("classic", "newest") if case in times]
    if flowers:
        ratios = " and ".join(f"{value / ours:.1f} ×" for value in flowers)
        yield Goal(
            f"{name}: faster than Flower, reading counted",
            f"{ratios} as fast",
            ours < min(flowers),
        )


def against_lists(folder: Path, model: Signature) -> Iterator[Row | Goal]:
    """The same 100 clients as Python lists."""
    path = large_dataset(folder, "100-MLP", model, 100)
    with fedviz.open(path) as dataset:
        round_ = dataset.round()
        clients = [list(round_.clients[record.id].values()) for record in round_.conforming]
        examples = [float(record.num_examples) for record in round_.conforming]
    lists: Callable[[], object] = lambda: mean_of_lists(clients, examples)  # noqa: E731
    lists()
    times = medians(
        {"lists": lambda: seconds(lists), "fedviz": lambda: fedviz.average(path).seconds},
        LISTS_REPEATS,
    )
    ratio = times["lists"] / times["fedviz"]
    yield Row("100 × MLP: TFF with lists", times["lists"])
    yield Row("100 × MLP: fedviz, in turns with it", times["fedviz"])
    yield Goal("at least 100 × as fast as TFF with lists", f"{ratio:.0f} ×", ratio >= 100)


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("this system does not say how much memory is available")
