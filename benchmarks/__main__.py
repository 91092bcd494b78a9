"""``python -m benchmarks [TOPIC …]`` measures, all topics by default, and writes ``RESULTS.md``.

A topic is a module of this package whose docstring says what it measures, with a function
``measure(folder)`` that yields rows and goals. Each runs in a process of its own, and the folder is
one for the whole run. A topic's results take the place of its last ones; the others' stay.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import record, section, write_page
from benchmarks.timing import machine

TOPICS = (
    *("federated_mean", "memory", "growth", "beyond_memory", "aggregators", "robust_rules"),
    *("numbers", "many_tensors", "finiteness", "importing", "startup", "gram", "heatmaps"),
    "attacks",
)
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("topic", nargs="*", choices=[*TOPICS, []], help="all by default")
    parser.add_argument("--folder", type=Path, help="measure in this process, with files in here")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        for topic in arguments.topic:
            measure(topic, arguments.folder)
        return
    with tempfile.TemporaryDirectory(prefix="fedviz-bench-") as folder:
        for topic in arguments.topic or TOPICS:
            command = [sys.executable, "-m", "benchmarks", "--folder", folder, topic]
            subprocess.run(command, check=True, env=os.environ | QUIET)
            write_page(TOPICS)


def measure(topic: str, folder: Path) -> None:
    """Measure a topic, keep what was found and print it."""
    module = importlib.import_module(f"benchmarks.{topic}")
    about, on, started = inspect.getdoc(module) or "", machine(), time.monotonic()
    entry = record(topic, about, on, module.measure(folder))
    print(section(topic, entry), flush=True)
    print(f"({topic} took {time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
