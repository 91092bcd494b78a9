"""The rules of the house: who may import whom, and what stays free of TensorFlow."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import fedviz

ROOT = Path(__file__).resolve().parents[1]

# Opening, checking, looking and comparing must not pay for TensorFlow: whole rooms do without it,
# and of the two that need it, the parts that others import do.
HEAVY_ROOMS = {"training", "aggregation"}
LIGHT_ROOMS = sorted({m.name for m in pkgutil.iter_modules(fedviz.__path__)} - HEAVY_ROOMS)
LIGHT_PARTS = [
    "fedviz",
    "fedviz.aggregation",
    "fedviz.training",
    "fedviz.training.architectures",
    "fedviz.training.partitions",
]
IMPORT_ROOM = """
import importlib, pkgutil
room = importlib.import_module("fedviz.{room}")
for module in pkgutil.walk_packages(getattr(room, "__path__", []), "fedviz.{room}."):
    importlib.import_module(module.name)
"""
PRINT_HEAVY = """
import sys
print(sorted({'tensorflow', 'tensorflow_federated', 'keras', 'jax'} & set(sys.modules)))
"""

SCRIPTS = [ROOT / "app.py", *sorted((ROOT / "pages").glob("*.py"))]
# Those that show, and the plain values that they are given.
ROOMS_FOR_SCRIPTS = (
    "fedviz.dashboard",
    "fedviz.figures",
    "fedviz.records",
    "fedviz.signature",
    "fedviz.errors",
)


def test_every_contract_is_kept():
    lint_imports = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = _python(lint_imports, "--no-logo", "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("room", LIGHT_ROOMS)
def test_a_room_does_not_load_tensorflow(room):
    done = _python(IMPORT_ROOM.format(room=room) + PRINT_HEAVY)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


@pytest.mark.parametrize("module", LIGHT_PARTS)
def test_a_light_part_of_a_heavy_room_does_not_load_tensorflow(module):
    done = _python(f"import {module}\n{PRINT_HEAVY}")
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_page_uses_only_streamlit_and_the_rooms_for_pages(script):
    strangers = [name for name in _imported_modules(script) if not _is_for_scripts(name)]
    assert strangers == []


def _python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def _imported_modules(script: Path) -> list[str]:
    nodes = list(ast.walk(ast.parse(script.read_text(encoding="utf-8"))))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    # `from fedviz import figures` imports fedviz.figures.
    members = [
        f"{node.module}.{alias.name}" if node.module == "fedviz" else str(node.module)
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    return plain + members


def _is_for_scripts(name: str) -> bool:
    package = name.partition(".")[0]
    return (
        package in sys.stdlib_module_names
        or package == "streamlit"
        or name.startswith(ROOMS_FOR_SCRIPTS)
    )
