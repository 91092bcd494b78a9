"""Values that are no numbers, found chunk by chunk, and the way back where that cannot be."""

from __future__ import annotations

import os

import ml_dtypes
import numpy as np
import pytest

from fedviz.analysis import value_checks
from fedviz.analysis.check import check
from fedviz.analysis.value_checks import count_nonfinite, findings_in_round
from fedviz.dataset import WeightDataset
from fedviz.errors import StorageError
from fedviz.signature import Signature, TensorSpec

MODEL = Signature(
    (
        TensorSpec("a", (3, 4), "float32"),
        TensorSpec("b", (5,), "bfloat16"),
        TensorSpec("c", (), "float64"),
        TensorSpec("none", (0, 2), "float16"),
        TensorSpec("steps", (2,), "int64"),
    )
)


def model():
    return [np.ones(spec.shape, spec.numpy_dtype) for spec in MODEL]


def cohort():
    """Six clients; c1, c4 and c5 have values that are no numbers."""
    clients = {f"c{i}": model() for i in range(6)}
    clients["c1"][0][2, 3] = np.nan
    clients["c4"][0][0, 0] = np.inf
    clients["c4"][1][4] = ml_dtypes.bfloat16(-np.inf)
    clients["c5"][2][()] = np.nan
    return clients


EXPECTED = [
    ("c1", "a", (1, 0, 0), (2, 3)),
    ("c4", "a", (0, 1, 0), (0, 0)),
    ("c4", "b", (0, 0, 1), (4,)),
    ("c5", "c", (1, 0, 0), ()),
]


def found(dataset):
    counts = [
        (f.client, f.spec.name, f.evidence.nonfinite) for f in findings_in_round(dataset.round())
    ]
    return [
        (c, n, (x.num_nan, x.num_positive_infinite, x.num_negative_infinite), x.first_index)
        for c, n, x in counts
    ]


@pytest.mark.parametrize("chunk", [1, 7, 12, 2**18])
def test_whatever_the_size_of_a_chunk(write_dataset, monkeypatch, chunk):
    monkeypatch.setattr(value_checks, "_CHUNK_VALUES", chunk)
    with WeightDataset(write_dataset(cohort(), signature=MODEL)) as dataset:
        assert found(dataset) == EXPECTED


def test_a_file_that_was_replaced_shows_what_was_opened(write_dataset):
    path = write_dataset(cohort(), signature=MODEL)
    with WeightDataset(path) as dataset:
        write_dataset({"c0": model()}, signature=MODEL)
        assert found(dataset) == EXPECTED


def test_a_count_in_c_order():
    values = np.array([[0, np.inf], [np.nan, -np.inf]], order="F")
    count = count_nonfinite(values)
    assert (count.num_nan, count.num_positive_infinite, count.num_negative_infinite) == (1, 1, 1)
    assert (count.first_index, str(count)) == (
        (0, 1),
        "1 NaN and 2 infinite of 4, the first at [0, 1]",
    )
    assert count_nonfinite(np.zeros((0, 3))) is None


def test_signatures_alone_read_no_weights(write_dataset):
    path = write_dataset(cohort(), signature=MODEL)
    data = bytearray(path.read_bytes())
    with WeightDataset(path) as dataset:
        assert not check(dataset).consistent
        offset = dataset.round().stack("a").offset
    data[offset : offset + 6 * 48] = bytes(6 * 48)
    path.write_bytes(data)
    assert check(path, look_at="signatures").consistent
    assert [m.client for m in check(path).mismatches] == ["c4", "c5"]


def test_a_signature_is_compared_once_however_many_clients_have_it(write_dataset, monkeypatch):
    from fedviz.analysis import check as module

    calls = []
    compare = module.compare_signatures
    monkeypatch.setattr(
        module, "compare_signatures", lambda *pair: calls.append(pair) or compare(*pair)
    )
    odd = {"a": np.ones((4, 3), "f4")}
    clients = {f"c{i}": odd if i % 2 else model() for i in range(8)}
    report = check(write_dataset(clients, signature=MODEL))
    assert len(calls) == 2
    assert report.clients_concerned == ("c1", "c3", "c5", "c7")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("cell", [0, 6, 7, 20])
def test_one_nan_anywhere_among_values_whose_sum_overflows(write_dataset, monkeypatch, dtype, cell):
    monkeypatch.setattr(value_checks, "_CHUNK_VALUES", 7)
    model = Signature((TensorSpec("w", (7,), dtype),))
    largest = ml_dtypes.finfo(model["w"].numpy_dtype).max
    clients = {f"c{i}": [np.full(7, largest, model["w"].numpy_dtype)] for i in range(3)}
    path = write_dataset(clients, signature=model)
    assert check(path, look_at="finiteness").consistent
    clients[f"c{cell // 7}"][0][cell % 7] = np.nan
    with WeightDataset(write_dataset(clients, signature=model)) as dataset:
        assert found(dataset) == [(f"c{cell // 7}", "w", (1, 0, 0), (cell % 7,))]


def test_a_file_that_is_cut_short_while_it_is_read(write_dataset, monkeypatch):
    monkeypatch.setattr(value_checks, "_CHUNK_VALUES", 12)
    path = write_dataset(cohort(), signature=MODEL)
    with WeightDataset(path) as dataset:
        chunks = value_checks._chunks(dataset.round(), MODEL["a"])
        next(chunks)
        os.truncate(path, dataset.round().stack("a").offset + 50)
        with pytest.raises(StorageError, match=r"round 0, tensor a: the file became shorter"):
            next(chunks)


def test_tensors_alike_in_the_server_model_hide_no_exchange(write_dataset):
    """Two biases that begin at zero are no distance apart; the kernels beside them are."""
    rng = np.random.default_rng(0)
    names = ("bias", "bias_1", "kernel", "kernel_1")
    model = Signature(tuple(TensorSpec(name, (9,), "float32") for name in names))
    server = [np.zeros(9, "f4"), np.zeros(9, "f4"), *rng.standard_normal((2, 9)).astype("f4")]
    moved = [array + np.float32(0.001) for array in server]
    exchanged = [moved[i] for i in (0, 1, 3, 2)]
    path = write_dataset({"c0": moved, "c1": exchanged}, signature=model, server=server)
    assert [
        (m.client, m.mismatch.tensor, m.mismatch.values_of) for m in check(path).mismatches
    ] == [
        ("c1", "kernel", "kernel_1"),
        ("c1", "kernel_1", "kernel"),
    ]


def test_a_server_model_whose_tensors_are_all_alike(write_dataset):
    model = Signature(tuple(TensorSpec(name, (9,), "float32") for name in ("a", "b")))
    path = write_dataset(
        {"c0": [np.ones(9, "f4"), np.full(9, 2, "f4")]},
        signature=model,
        server=[np.zeros(9, "f4")] * 2,
    )
    assert check(path).consistent
