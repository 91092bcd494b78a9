"""What TFF and NumPy really do with a round that has divergent clients."""

from __future__ import annotations

import numpy as np
import pytest

from fedviz.aggregation import context, frameworks
from fedviz.aggregation.frameworks import tff_verdict
from fedviz.dataset import WeightDataset
from fedviz.signature import Signature, TensorSpec
from fedviz.tff_types import diff_types, parse_paste
from tests.conftest import SIGNATURE, random_weights

pytestmark = pytest.mark.tff

GOOD = dict(zip(SIGNATURE.names, random_weights(SIGNATURE, np.random.default_rng(0)), strict=True))


def changed(**changes):
    weights = {**GOOD, **{name.replace("__", "/"): value for name, value in changes.items()}}
    return {name: array for name, array in weights.items() if array is not None}


def verdicts(write_dataset, clients, **options):
    with WeightDataset(write_dataset(clients, **options)) as dataset:
        return {v.clients: v for v in tff_verdict(dataset.round())}


@pytest.fixture(scope="module", autouse=True)
def _worker():
    yield
    context.shutdown()


def test_every_kind_of_client_as_tff_takes_it(write_dataset):
    kernel = GOOD["dense/kernel"]
    reordered = {name: GOOD[name] for name in (*SIGNATURE.names[2:], *SIGNATURE.names[:2])}
    clients = {
        "good": GOOD,
        "same": GOOD,
        "transposed": changed(dense__kernel=np.ascontiguousarray(kernel.T)),
        "double": changed(dense__kernel=kernel.astype("f8")),
        "integer": changed(dense__kernel=kernel.astype("i4")),
        "half": changed(dense__kernel=kernel.astype("f2")),
        "missing": changed(dense_1__bias=None),
        "extra": changed(scale=np.float32(1)),
        "reordered": reordered,
        "renamed": {f"model/{name}": value for name, value in GOOD.items()},
    }
    found = verdicts(write_dataset, clients)
    assert [v.clients for v in found.values()] == [
        ("good", "same"),
        *((c,) for c in list(clients)[2:]),
    ]
    refused = {c[0]: v.error for c, v in found.items() if v.refuses}
    assert refused == {
        "transposed": "TypeError: Failed to serialize a value with shape (10, 5) to shape (5, 10).",
        "double": "TypeError: Failed to serialize a value of dtype <class 'numpy.float64'> to "
        "dtype <class 'numpy.float32'>.",
        "integer": "TypeError: Failed to serialize a value of dtype <class 'numpy.int32'> to "
        "dtype <class 'numpy.float32'>.",
        "missing": "TypeError: Cannot serialize a struct value of 3 elements to a struct type "
        "requiring 4 elements. Trying to serialize",
        "extra": "TypeError: Cannot serialize a struct value of 5 elements to a struct type "
        "requiring 4 elements. Trying to serialize",
        "reordered": "TypeError: Failed to serialize a value with shape (10, 2) to shape (5, 10).",
    }
    assert {c[0] for c, v in found.items() if v.silent} == {"half", "renamed"}
    assert found["good", "same"].type_error == ""
    types = parse_paste(found[("transposed",)].type_error)
    assert [
        (leaf.label, leaf.expected, leaf.found)
        for leaf in diff_types(types.expected, types.found)
        if leaf.status != "same"
    ] == [("dense/kernel", "float32[5,10]", "float32[10,5]")]


def test_tensors_of_one_shape_in_another_order_are_taken_without_a_word(write_dataset):
    signature = Signature((TensorSpec("a", (3,), "float32"), TensorSpec("b", (3,), "float32")))
    a, b = np.ones(3, "f4"), np.zeros(3, "f4")
    found = verdicts(
        write_dataset, {"good": {"a": a, "b": b}, "odd": {"b": b, "a": a}}, signature=signature
    )
    assert (found[("odd",)].refuses, found[("odd",)].silent) == (False, True)


def test_one_nan_poisons_the_mean(write_dataset):
    broken = changed(dense__bias=np.full(10, np.nan, "f4"))
    found = verdicts(write_dataset, {"good": GOOD, "broken": list(broken.values())})
    assert found[("good",)].poisoned == ()
    assert (found[("broken",)].refuses, found[("broken",)].poisoned) == (False, ("dense/bias",))


def test_large_models_are_asked_about_their_types_only(write_dataset, monkeypatch):
    monkeypatch.setattr(frameworks, "LARGEST_VALUE_BYTES", 100)
    odd = changed(dense__kernel=np.zeros((10, 5), "f4"))
    found = verdicts(write_dataset, {"good": GOOD, "odd": odd})
    assert [(v.called, v.refuses, v.error) for v in found.values()] == [
        (False, False, ""),
        (False, True, ""),
    ]
    assert "is not assignable" in found[("odd",)].type_error


def test_tff_refuses_to_average_what_is_no_number(write_dataset):
    signature = Signature((TensorSpec("mask", (2,), "bool"),))
    (verdict,) = verdicts(
        write_dataset, {"c0": [np.ones(2, "?")], "c1": [np.ones(2, "?")]}, signature=signature
    ).values()
    assert (verdict.clients, verdict.refuses) == (("c0", "c1"), True)
    assert verdict.error.startswith("TypeError: The value type {<mask=bool[2]>}@CLIENTS is not")
