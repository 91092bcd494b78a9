"""The examples run as they stand."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run_example(monkeypatch, capsys, tmp_path):
    def run(name: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, str(tmp_path / "out.h5")])
        runpy.run_path(str(EXAMPLES / name))
        return capsys.readouterr().out

    return run


def test_write_and_check_names_the_transposed_client(run_example):
    out = run_example("write_and_check.py")
    assert len(out.splitlines()) == 1
    assert out.startswith("round 0, client site-b, tensor dense/kernel: shape: expected")
    assert "transposed" in out


@pytest.mark.tff
def test_average_a_keras_model_brings_the_mean_back(run_example):
    signature, outputs = run_example("average_a_keras_model.py").splitlines()
    assert signature.startswith("<hidden/kernel=float32[4,16],hidden/bias=float32[16],")
    before, after = map(float, re.findall(r"-?\d+\.\d{4}", outputs))
    assert before != after
    assert abs(before - after) < 0.5
