"""What the command says of a dataset and of a check."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedviz.analysis.check import check
from fedviz.dataset import WeightDataset
from fedviz.describe import check_text, dataset_info, dataset_text, table_text
from fedviz.records import Metric
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter

SIGNATURE = Signature(
    (
        TensorSpec("dense/kernel", (2, 3), "float32", True),
        TensorSpec("count", (), "int64", False),
        TensorSpec("other", (1,), "bfloat16"),
    )
)
OTHER = Signature((TensorSpec("dense/kernel", (3, 2), "float32"),))


def zeros(signature):
    return [np.zeros(spec.shape, spec.numpy_dtype) for spec in signature]


@pytest.fixture
def path(tmp_path):
    """Two rounds; c0 has 5 examples, then 7; c1 is divergent in the second; c2 is unknown."""
    with WeightDatasetWriter(tmp_path / "a.h5", SIGNATURE, {"seed": 3}) as writer:
        with writer.round([ClientEntry("c0", 5), ClientEntry("c1", 1000)]) as round_:
            round_.write_client("c0", zeros(SIGNATURE))
            round_.write_client("c1", zeros(SIGNATURE))
        entries = [ClientEntry("c0", 7), ClientEntry("c1", 1000, OTHER), ClientEntry("c2")]
        with writer.round(entries) as round_:
            for entry in entries:
                round_.write_client(entry.id, zeros(entry.signature or SIGNATURE))
            for name in ("mean", "mean-uniform"):
                round_.write_aggregate(
                    name, zeros(SIGNATURE), aggregator="mean", weighting="uniform"
                )
            round_.write_metrics(
                [
                    Metric("client", "c0", "accuracy", 0.5),
                    Metric("client", "c2", "accuracy", 0.25),
                    Metric("aggregate", "mean", "accuracy", 0.625),
                    Metric("aggregate", "mean-uniform", "accuracy", 0.6),
                ]
            )
    return tmp_path / "a.h5"


def test_info(path):
    with WeightDataset(path) as dataset:
        info = dataset_info(dataset)
    created = info.pop("created")
    assert created.endswith("+00:00")
    assert info.pop("producer").startswith("fedviz ")
    assert info == {
        "file": str(path),
        "format_version": 1,
        "recipe": {"seed": 3},
        "rounds": [0, 1],
        "clients": [
            {"id": "c0", "num_examples": 7},
            {"id": "c1", "num_examples": 1000},
            {"id": "c2", "num_examples": None},
        ],
        "tensors": [
            {"name": "dense/kernel", "shape": [2, 3], "dtype": "float32", "trainable": True},
            {"name": "count", "shape": [], "dtype": "int64", "trainable": False},
            {"name": "other", "shape": [1], "dtype": "bfloat16", "trainable": None},
        ],
        "num_parameters": 8,
        "bytes": path.stat().st_size,
        "tff_type": "{<weights=<dense/kernel=float32[2,3],count=int64,other=bfloat16[1]>,"
        "num_examples=int64>}@CLIENTS",
        "divergent": {"1": ["c1"]},
        "aggregates": {"1": ["mean", "mean-uniform"]},
    }
    json.dumps(info, allow_nan=False)


def test_text(path):
    with WeightDataset(path) as dataset:
        text = dataset_text(dataset)
    assert text == (
        f"a.h5: 2 rounds, 3 clients, 8 parameters in 3 tensors, {path.stat().st_size:,} bytes\n"
        "examples: 1,007 in all, 7 to 1,000 a client\n"
        "held-out accuracy in round 1: mean 0.625, clients 0.375 on average, 0.500 at best\n"
        "\n"
        "tensor        type\n"
        "dense/kernel  float32[2,3]  trainable\n"
        "count         int64         not trainable\n"
        "other         bfloat16[1]"
    )


def test_text_of_what_is_hardly_there(tmp_path):
    with WeightDatasetWriter(tmp_path / "a.h5", Signature(())):
        pass
    with WeightDataset(tmp_path / "a.h5") as dataset:
        lines = dataset_text(dataset).splitlines()
        info = dataset_info(dataset)
    assert lines[0].startswith("a.h5: 0 rounds, 0 clients, 0 parameters in 0 tensors, ")
    assert lines[1:] == ["", "tensor  type"]
    assert info["tff_type"] == "{<weights=<>,num_examples=int64>}@CLIENTS"
    assert (info["rounds"], info["clients"], info["aggregates"]) == ([], [], {})


def test_text_of_a_check(path):
    report = check(path)
    lines = check_text(report).splitlines()
    assert lines == [
        *map(str, report.mismatches),
        "1 of 3 clients differ from the reference (server): 2 missing, 1 shape.",
    ]


def test_text_of_a_check_that_found_nothing(path):
    assert check_text(check(path, round=0)) == "2 clients agree with the reference (server)."


def test_a_long_check_is_cut_and_says_so(tmp_path):
    specs = tuple(TensorSpec(f"t{i}", (1,), "float32") for i in range(205))
    writer = WeightDatasetWriter(tmp_path / "b.h5", Signature(specs))
    with writer, writer.round([ClientEntry("c0", 1, OTHER)]) as round_:
        round_.write_client("c0", zeros(OTHER))
    lines = check_text(check(tmp_path / "b.h5")).splitlines()
    assert len(lines) == 202
    assert lines[200] == "… and 6 more; --json has them all"
    assert lines[201].endswith("205 missing, 1 extra.")


def test_table_text():
    assert table_text(("a", "bb"), [("ccc", "d"), ("", "")]) == ["a    bb", "ccc  d", ""]
