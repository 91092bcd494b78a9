"""Modules that are there before somebody visits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fedviz.dashboard import preloading

ROOT = Path(__file__).resolve().parents[2]

LOADED = """
import sys
from fedviz.dashboard import preloading
preloading.start()
preloading.wait()
print(*sorted(sys.modules))
"""


def in_a_new_interpreter(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True
    )


def test_all_that_pages_load_is_loaded_and_no_tensorflow():
    found = in_a_new_interpreter(LOADED)
    loaded = set(found.stdout.split())
    rooms = {path.stem for path in (ROOT / "fedviz" / "dashboard").glob("*.py")}
    assert found.stderr == ""
    assert {f"fedviz.dashboard.{room}" for room in rooms - {"__init__", "__main__"}} <= loaded
    assert {"plotly.graph_objects", "pandas"} <= loaded
    assert not {"tensorflow", "tensorflow_federated", "fedviz.dashboard.__main__"} & loaded


def test_what_cannot_be_loaded_is_left_to_the_page_that_needs_it():
    missing = "import sys; sys.modules['plotly'] = None"
    found = in_a_new_interpreter(f"{missing}{LOADED}")
    assert found.returncode == 0
    assert found.stderr == ""
    assert "fedviz.dashboard.averaging" not in found.stdout.split()


def test_nobody_waits_where_nothing_was_started():
    preloading.wait()
