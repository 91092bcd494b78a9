"""``RESULTS.md`` and its plot, made of ``results.json``: each topic replaces its own part."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.peer_process import run_peer
from benchmarks.timing import Goal, Row

__all__ = ["record", "section", "write_page"]

STORE = Path(__file__).with_name("results.json")
PAGE = Path(__file__).with_name("RESULTS.md")
HEAD = """# What was measured

`make bench` writes this page, and `make bench ARGS=federated_mean` one topic of it. Times are wall
times. Cases of one table took turns, so compare within a table: the machine may have been busy.

![Seconds of each case](results.svg)
"""


def record(topic: str, about: str, machine: str, found: Iterable[Row | Goal]) -> dict[str, Any]:
    """Put a topic's results in the place of its last ones; returns them."""
    results = list(found)
    entry = {
        "about": about,
        "machine": machine,
        "rows": [dataclasses.asdict(each) for each in results if isinstance(each, Row)],
        "goals": [dataclasses.asdict(each) for each in results if isinstance(each, Goal)],
    }
    STORE.write_text(json.dumps({**_stored(), topic: entry}, indent=1, ensure_ascii=False) + "\n")
    return entry


def write_page(order: Iterable[str]) -> None:
    """Write the page and the plot anew, of the topics that have been measured."""
    stored = _stored()
    measured = [topic for topic in order if topic in stored]
    goals = [goal for topic in measured for goal in stored[topic]["goals"]]
    parts = [HEAD, f"## Goals\n\n{_goal_table(goals)}\n"]
    parts += [section(topic, stored[topic]) for topic in measured]
    PAGE.write_text("\n".join(parts), encoding="utf-8")
    run_peer("plot", str(STORE), str(PAGE.with_name("results.svg")))


def section(topic: str, entry: Mapping[str, Any]) -> str:
    """A topic's heading, what it is about, and its tables."""
    parts = [
        f"## {topic.replace('_', ' ').capitalize()}",
        entry["about"],
        _row_table(entry["rows"]),
    ]
    if entry["goals"]:
        parts.append(_goal_table(entry["goals"]))
    return "\n\n".join([*parts, entry["machine"]]) + "\n"


def _stored() -> dict[str, Any]:
    return json.loads(STORE.read_text(encoding="utf-8")) if STORE.exists() else {}


def _row_table(rows: Iterable[Mapping[str, Any]]) -> str:
    lines = [f"| {row['case']} | {_figure(row['value'])} | {row['note']} |" for row in rows]
    return "\n".join(["| case | seconds, if nothing else is said | |", "|---|---:|---|", *lines])


def _figure(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3f}" if value >= 0.01 else f"{value:.4f}"


def _goal_table(goals: Iterable[Mapping[str, Any]]) -> str:
    lines = [
        f"| {goal['goal']} | {goal['figure']} | {'met' if goal['met'] else '**missed**'} |"
        for goal in goals
    ]
    return "\n".join(["| goal | reached | |", "|---|---|---|", *lines])
