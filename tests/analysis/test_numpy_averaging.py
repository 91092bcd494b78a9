"""What averaging with NumPy does with a round, against the real averaging of the real arrays."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedviz.analysis.check import check
from fedviz.analysis.numpy_averaging import NumpyOutcome, numpy_verdicts, what_remains
from fedviz.dataset import WeightDataset
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter

PAIR = Signature((TensorSpec("a", (3,), "float32"), TensorSpec("b", (3,), "float32")))


def pair(a=None, b=None):
    return {
        "a": np.ones(3, "f4") if a is None else a,
        "b": np.zeros(3, "f4") if b is None else b,
    }


def verdict(write_dataset, odd, *, signature=PAIR, good=None):
    good = pair() if good is None else good
    with WeightDataset(write_dataset({"good": good, "odd": odd}, signature=signature)) as dataset:
        return numpy_verdicts(dataset.round())


def outcomes(found):
    return {t.tensor: [o.value for o in t.outcomes] for t in found.tensors}


def test_a_round_in_which_all_agree(write_dataset):
    found = verdict(write_dataset, pair())
    assert (found.refuses, found.silent, outcomes(found)) == (False, (), {"a": [], "b": []})


@pytest.mark.parametrize(
    ("odd", "expected", "detail"),
    [
        (
            pair(np.ones(1, "f4")),
            ["broadcasts"],
            "float32[3] and float32[1] become one of shape [3]",
        ),
        (
            pair(np.ones((3, 1), "f4")),
            ["broadcasts"],
            "float32[3] and float32[3,1] become one of shape [3, 3]",
        ),
        (pair(np.ones(3)), ["upcasts"], "float32 becomes float64"),
        (
            pair(np.array([1, np.nan, 1], "f4")),
            ["poisons"],
            "the mean is NaN wherever one client's value is not finite",
        ),
    ],
    ids=["(1,)", "(3,1)", "float64", "nan"],
)
def test_what_becomes_of_one_tensor(write_dataset, odd, expected, detail):
    found = verdict(write_dataset, odd)
    assert outcomes(found) == {"a": expected, "b": []}
    assert found.tensors[0].detail == detail
    assert found.tensors[0].clients == ("odd",)


def test_it_refuses_with_numpys_own_error_of_the_real_shapes(write_dataset):
    signature = Signature((TensorSpec("k", (300, 200), "float32"),))
    found = verdict(
        write_dataset,
        {"k": np.zeros((200, 300), "f4")},
        signature=signature,
        good={"k": np.zeros((300, 200), "f4")},
    )
    with pytest.raises(ValueError, match="operands") as real:
        np.zeros((300, 200), "f4") + np.zeros((200, 300), "f4")
    assert found.error == f"ValueError: {real.value}".strip()
    assert outcomes(found) == {"k": ["refuses"]}


def test_each_client_is_judged_for_itself(write_dataset):
    """One is refused, and one that only upcasts is not blamed for it."""
    clients = {"good": pair(), "double": pair(np.ones(3)), "long": pair(np.ones(4, "f4"))}
    with WeightDataset(write_dataset(clients, signature=PAIR)) as dataset:
        tensor = numpy_verdicts(dataset.round()).tensors[0]
    assert tensor.outcomes == (NumpyOutcome.REFUSES,)
    assert tensor.by_client == (
        ("double", (NumpyOutcome.UPCASTS,)),
        ("long", (NumpyOutcome.REFUSES,)),
    )


def test_a_missing_tensor_takes_one_from_everybody(write_dataset):
    found = verdict(write_dataset, {"a": np.ones(3, "f4")})
    assert outcomes(found) == {"a": [], "b": ["drops"]}
    assert found.tensors[1].detail == "zip ends after 1 arrays: the mean has no b"
    assert (found.refuses, found.tensors[1].clients) == (False, ("odd",))


def test_an_extra_tensor_at_the_front_misaligns_the_rest(write_dataset):
    found = verdict(write_dataset, {"x": np.ones(3, "f4"), **pair()})
    assert [(t.position, t.outcomes[0].value) for t in found.tensors] == [
        (0, "misaligns"),
        (1, "misaligns"),
        (2, "drops"),
    ]
    assert found.tensors[0].detail == "mixes a, x"


def test_another_order_misaligns_and_another_name_does_not(write_dataset):
    swapped = verdict(write_dataset, dict(reversed(pair().items())))
    assert outcomes(swapped) == {"a": ["misaligns"], "b": ["misaligns"]}
    renamed = verdict(write_dataset, {f"model/{n}": w for n, w in pair().items()})
    assert outcomes(renamed) == {"a": [], "b": []}


def test_integers_become_float64_whoever_sends_them(write_dataset):
    signature = Signature((TensorSpec("steps", (), "int64"),))
    one = {"steps": np.int64(3)}
    found = verdict(write_dataset, one, signature=signature, good=one)
    assert (outcomes(found), found.tensors[0].clients) == ({"steps": ["upcasts"]}, ())


shapes = st.lists(st.sampled_from([0, 1, 2, 3, 70]), max_size=3).map(tuple)
dtypes = st.sampled_from(["float16", "float32", "float64", "int32"])


@settings(deadline=None, max_examples=60)
@given(shapes, dtypes, st.lists(st.tuples(shapes, dtypes), min_size=1, max_size=3))
def test_small_copies_do_what_the_real_arrays_do(tmp_path_factory, shape, dtype, others):
    """Flower's own formula on arrays of the real sizes: the same error, shape and dtype."""
    path = tmp_path_factory.mktemp("numpy") / "a.h5"
    signature = Signature((TensorSpec("w", shape, dtype),))
    arrays = [np.ones(shape, dtype), *(np.ones(s, d) for s, d in others)]
    entries = [ClientEntry(f"c{i}", 1, Signature.of({"w": a})) for i, a in enumerate(arrays)]
    with WeightDatasetWriter(path, signature) as writer, writer.round(entries) as round_:
        for entry, array in zip(entries, arrays, strict=True):
            round_.write_client(entry.id, [array])
    with WeightDataset(path) as dataset:
        found = numpy_verdicts(dataset.round())
    try:
        real = reduce(np.add, [a * 1 for a in arrays]) / len(arrays)
    except ValueError:
        assert found.refuses
        return
    assert not found.refuses
    (tensor,) = found.tensors
    stretched = {shape, *(a.shape for a in arrays)} != {real.shape}
    assert (NumpyOutcome.BROADCASTS in tensor.outcomes) == stretched
    assert (NumpyOutcome.UPCASTS in tensor.outcomes) == (real.dtype != np.dtype(dtype))


def test_what_remains(write_dataset):
    path = write_dataset(
        {"good": pair(), "odd": pair(np.ones(3)), "bad": pair(b=np.ones((3, 1), "f4"))},
        signature=PAIR,
        num_examples={"good": 30, "odd": 10, "bad": 20},
    )
    with WeightDataset(path) as dataset:
        report = check(dataset)
        without_clients, without_tensors = what_remains(dataset.round(), report)
    assert without_clients.left_out == ("odd", "bad")
    assert (without_clients.num_clients, without_clients.share_of_examples) == (1, 0.5)
    assert without_tensors.left_out == ("a", "b")
    assert (without_tensors.num_tensors, without_tensors.share_of_parameters) == (0, 0.0)


def test_what_remains_where_the_examples_are_not_known(write_dataset):
    path = write_dataset(
        {"good": pair(), "odd": pair(np.ones(3))}, signature=PAIR, num_examples={"odd": None}
    )
    with WeightDataset(path) as dataset:
        without_clients, without_tensors = what_remains(dataset.round(), check(dataset))
    assert without_clients.share_of_examples is None
    assert (without_tensors.left_out, without_tensors.share_of_parameters) == (("a",), 0.5)
