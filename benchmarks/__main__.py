"""``python -m benchmarks [TOPIC …]`` measures, and prints a table for each topic.

Without topics all of them are measured, and the tables are written to ``benchmarks/RESULTS.md``.
A topic is a module of this package with a function ``measure(folder)``, which yields the rows of
its table and may write into the folder.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from pathlib import Path

from benchmarks.timing import machine, markdown_table

TOPICS = ("many_tensors", "finiteness", "importing", "startup", "heatmaps", "attacks")
RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """# What was measured

`make bench` writes this page; `make bench ARGS=finiteness` measures one topic and only prints.
Times are wall times, medians where a case is quick. Compare rows of one run, not runs: the machine
may be busy.
"""


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("topic", nargs="*", choices=[*TOPICS, []], help="all by default")
    topics = parser.parse_args().topic
    page = [HEAD, machine()]
    for topic in topics or TOPICS:
        page.append(f"\n## {topic.replace('_', ' ').capitalize()}\n\n{measured(topic)}")
        print(page[-1], flush=True)
    if not topics:
        RESULTS.write_text("\n".join(page) + "\n", encoding="utf-8")


def measured(topic: str) -> str:
    """The table of a topic."""
    module = importlib.import_module(f"benchmarks.{topic}")
    with tempfile.TemporaryDirectory() as folder:
        return markdown_table(list(module.measure(Path(folder))))


if __name__ == "__main__":
    main()
