"""Checking a dataset: every kind of mismatch, against every kind of reference."""

from __future__ import annotations

import numpy as np
import pytest

from fedviz.analysis import blocks
from fedviz.analysis.check import check, reference_signature
from fedviz.dataset import WeightDataset
from fedviz.errors import StorageError, UnknownNameError
from fedviz.signature import MismatchKind, Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.conftest import SIGNATURE, random_weights


def named(**changes):
    """A model of SIGNATURE by name, with changes; None leaves a tensor out."""
    weights = dict(
        zip(SIGNATURE.names, random_weights(SIGNATURE, np.random.default_rng(0)), strict=True)
    )
    weights.update({name.replace("__", "/"): value for name, value in changes.items()})
    return {name: array for name, array in weights.items() if array is not None}


def plain():
    return list(named().values())


def findings(report):
    return [
        (m.client, m.mismatch.tensor, m.mismatch.kind.value, m.mismatch.expected, m.mismatch.actual)
        for m in report.mismatches
    ]


def reordered():
    weights = named()
    return {name: weights[name] for name in ("dense_1/bias", *SIGNATURE.names[:-1])}


def renamed():
    return {("weights" if n == "dense/kernel" else n): a for n, a in named().items()}


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (
            named(dense__kernel=np.zeros((10, 5), "f4")),
            ("dense/kernel", "shape", "float32[5,10]", "float32[10,5]"),
        ),
        (named(dense__bias=np.zeros(10)), ("dense/bias", "dtype", "float32", "float64")),
        (named(dense_1__bias=None), ("dense_1/bias", "missing", "float32[2]", "nothing")),
        (named(extra=np.float32(1)), ("extra", "extra", "nothing", "float32")),
        (reordered(), ("dense_1/bias", "order", "position 3", "position 0")),
        (
            named(dense__bias=np.zeros((1, 10), "f4")),
            ("dense/bias", "rank", "float32[10]", "float32[1,10]"),
        ),
        (renamed(), ("dense/kernel", "name", "dense/kernel", "weights")),
    ],
    ids=["shape", "dtype", "missing", "extra", "order", "rank", "name"],
)
def test_each_kind_of_a_divergent_client(write_dataset, weights, expected):
    report = check(write_dataset({"c0": plain(), "c1": weights, "c2": plain()}))
    assert findings(report) == [("c1", *expected)]
    assert (report.consistent, report.clients, report.clients_concerned) == (False, 3, ("c1",))


def test_nonfinite_values_of_conforming_clients(write_dataset):
    weights = plain()
    weights[0][2, 3] = np.nan
    weights[0][4, 9] = -np.inf
    weights[3][:] = np.inf
    report = check(write_dataset({"c0": plain(), "c1": weights}))
    assert findings(report) == [
        (
            "c1",
            "dense/kernel",
            "nonfinite",
            "finite values",
            "1 NaN and 1 infinite of 50, the first at [2, 3]",
        ),
        ("c1", "dense_1/bias", "nonfinite", "finite values", "2 infinite of 2, the first at [0]"),
    ]


def test_nonfinite_values_of_divergent_clients(write_dataset):
    weights = named(dense__bias=np.array(np.nan, "f8"))
    report = check(write_dataset({"c0": weights}))
    assert [(kind, actual) for _, _, kind, _, actual in findings(report)] == [
        ("rank", "float64"),
        ("dtype", "float64"),
        ("nonfinite", "1 NaN of 1"),
    ]


def test_nonfinite_values_in_any_block(write_dataset, monkeypatch):
    clients = {f"c{i}": plain() for i in range(5)}
    clients["c4"][1][9] = np.nan
    path = write_dataset(clients)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2 * 40)
    assert [m.client for m in check(path).mismatches] == ["c4"]


def test_a_consistent_dataset(write_dataset):
    report = check(write_dataset({"c0": plain(), "c1": plain()}))
    assert report.consistent
    assert report.to_json() == {
        "consistent": True,
        "reference": "server",
        "clients": 2,
        "mismatches": [],
    }


def test_json_of_a_mismatch(write_dataset):
    path = write_dataset({"c0": named(dense__kernel=np.zeros((10, 5), "f4"))})
    assert check(path).to_json()["mismatches"] == [
        {
            "round": 0,
            "client": "c0",
            "tensor": "dense/kernel",
            "kind": "shape",
            "expected": "float32[5,10]",
            "actual": "float32[10,5]",
            "cause": "transposed: stored as [out, in], as PyTorch does",
        }
    ]


def test_a_mismatch_reads_as_one_line(write_dataset):
    report = check(write_dataset({"c0": named(dense__bias=np.zeros(10))}))
    assert str(report.mismatches[0]) == (
        "round 0, client c0, tensor dense/bias: dtype: expected float32, found float64; "
        "NumPy noise or arithmetic made float64 of it"
    )


def test_all_rounds_or_one_and_every_client_once(write_dataset):
    path = write_dataset({"c0": plain(), "c1": named(extra=np.float32(1))}, rounds=3)
    report = check(path)
    assert [(m.round, m.client) for m in report.mismatches] == [(0, "c1"), (1, "c1"), (2, "c1")]
    assert report.clients == 2
    assert [m.round for m in check(path, round=1).mismatches] == [1]
    assert [m.round for m in check(path, round=-1).mismatches] == [2]
    with pytest.raises(UnknownNameError, match="there is no round 9"):
        check(path, round=9)


def test_the_majority_may_differ_from_the_server_model(write_dataset):
    odd = named(extra=np.float32(1))
    path = write_dataset({"c0": plain(), "c1": odd, "c2": odd})
    assert [(m.client, m.mismatch.kind) for m in check(path, "majority").mismatches] == [
        ("c0", MismatchKind.MISSING)
    ]
    assert check(path).clients_concerned == ("c1", "c2")


def test_a_client_as_reference(write_dataset):
    odd = named(extra=np.float32(1))
    path = write_dataset({"c0": plain(), "odd": odd})
    report = check(path, "odd")
    assert (report.reference, report.clients_concerned) == ("odd", ("c0",))
    assert report.signature.agrees_with(Signature.of(odd))


def test_a_file_as_reference(write_dataset):
    path = write_dataset({"c0": plain()})
    other = write_dataset(
        {"x": [np.zeros(2, "f4")]},
        signature=Signature((TensorSpec("v", (2,), "float32"),)),
        name="other.h5",
    )
    report = check(path, str(other))
    assert [(t, k) for _, t, k, _, _ in findings(report)] == [
        ("v", "missing"),
        *((name, "extra") for name in SIGNATURE.names),
    ]


def test_a_client_goes_before_a_file_of_that_name(write_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_dataset({"c0": plain()})
    (tmp_path / "c0").write_text("no dataset")
    assert check(path, "c0").consistent


def test_unknown_references(write_dataset, tmp_path):
    path = write_dataset({"c0": plain()})
    with pytest.raises(UnknownNameError, match=r"clients.h5: there is no reference c7; expected"):
        check(path, "c7")
    with pytest.raises(StorageError, match="there is no"):
        check(tmp_path / "absent.h5")


def test_a_round_without_clients(tmp_path):
    with WeightDatasetWriter(tmp_path / "a.h5", SIGNATURE) as writer, writer.round([]):
        pass
    with WeightDataset(tmp_path / "a.h5") as dataset:
        for reference in ("server", "majority"):
            report = check(dataset, reference)
            assert (report.consistent, report.clients) == (True, 0)
            assert reference_signature(dataset, reference) == SIGNATURE


def test_whether_a_tensor_is_trainable_divides_no_majority(tmp_path):
    """Divergent clients that differ only in what they tell of it have one signature."""
    specs = [TensorSpec("v", (1,), "float32", flag) for flag in (True, None)]
    with WeightDatasetWriter(tmp_path / "a.h5", SIGNATURE) as writer:
        entries = [ClientEntry(f"d{i}", 1, Signature((spec,))) for i, spec in enumerate(specs)]
        with writer.round([*entries, ClientEntry("c0", 1)]) as round_:
            for entry in entries:
                round_.write_client(entry.id, [np.zeros(1, "f4")])
            round_.write_client("c0", plain())
    assert check(tmp_path / "a.h5", "majority").clients_concerned == ("c0",)


def test_progress_counts_the_rounds(write_dataset):
    seen = []
    check(write_dataset({"c0": plain()}, rounds=2), progress=seen.append)
    assert [(p.done, p.total, p.message) for p in seen] == [
        (0, 2, "checking round 0"),
        (1, 2, "checking round 1"),
    ]
