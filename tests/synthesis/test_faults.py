import contextlib
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedviz.errors import FedvizError, InvalidArgumentError, UnknownNameError
from fedviz.records import FaultKind, InjectedFault
from fedviz.signature import DTYPES, MismatchKind, Signature, compare_signatures
from fedviz.synthesis.faults import (
    Fault,
    apply_fault,
    faulty_signature,
    is_structural,
    parse_fault,
)


def client_weights():
    return {
        "dense/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
        "dense/bias": np.array([1.0, 2.0, 3.0], np.float32),
        "dense_1/kernel": np.array([[1.0], [2.0], [4.0]], np.float32),
        "steps": np.array(7, np.int64),
    }


def server_weights():
    return {name: np.zeros_like(array) for name, array in client_weights().items()}


def inject(text, weights=None, server=None, seed=0):
    weights = client_weights() if weights is None else weights
    return apply_fault(parse_fault(text), weights, server, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("c03:transpose", Fault("c03", FaultKind.TRANSPOSE)),
        ("c03:nan:0.01", Fault("c03", FaultKind.NAN, "0.01")),
        ("a/b:extra:x:y", Fault("a/b", FaultKind.EXTRA, "x:y")),
        ("c1:sign-flip", Fault("c1", FaultKind.SIGN_FLIP)),
        ("c1:dtype:bfloat16", Fault("c1", FaultKind.DTYPE, "bfloat16")),
    ],
)
def test_a_fault_is_read_from_its_text_and_written_as_it(text, fault):
    assert parse_fault(text) == fault
    assert str(fault) == text


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("c03", InvalidArgumentError, "expected CLIENT:KIND"),
        (":nan", InvalidArgumentError, "found no client"),
        ("c03:melt", UnknownNameError, "there are transpose, dtype, .*, inner-product$"),
        ("c03:nan:0", InvalidArgumentError, "share of cells above 0 and at most 1, found 0"),
        ("c03:inf:1.5", InvalidArgumentError, "found 1.5"),
        ("c03:nan:nan", InvalidArgumentError, "found nan"),
        ("c03:scale:big", InvalidArgumentError, "expected a number, found 'big'"),
        ("c03:scale:inf", InvalidArgumentError, "expected a finite factor"),
        ("c03:dtype:complex64", InvalidArgumentError, "one of float16, .* found 'complex64'"),
        ("c03:order:up", InvalidArgumentError, "order takes no argument"),
        ("c03:missing:nose", UnknownNameError, "c03:missing:nose: there is no tensor nose"),
        ("c03:transpose:dense/bias", InvalidArgumentError, "a kernel that is not square"),
        ("c03:extra:steps", InvalidArgumentError, "tensor steps: .* choose another name"),
        ("c03:dtype:float32", InvalidArgumentError, "every real tensor is float32 already"),
        ("c03:sign-flip", InvalidArgumentError, "there is no server model"),
    ],
)
def test_a_fault_that_cannot_be_says_why(text, error, message):
    with pytest.raises(error, match=message):
        inject(text)


def test_transpose_takes_the_first_kernel_that_is_not_square():
    faulty, record = inject("c0:transpose")
    assert faulty["dense/kernel"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert faulty["dense_1/kernel"].shape == (3, 1)
    assert record == InjectedFault("c0", FaultKind.TRANSPOSE, "", ("dense/kernel",))


def test_transpose_prefers_a_kernel_of_rank_two_to_a_convolution():
    weights = {"conv": np.zeros((3, 3, 1, 2)), "kernel": np.zeros((2, 5))}
    faulty, _ = inject("c0:transpose", weights)
    assert (faulty["conv"].shape, faulty["kernel"].shape) == ((3, 3, 1, 2), (5, 2))
    faulty, _ = inject("c0:transpose:conv", weights)
    assert (faulty["conv"].shape, faulty["kernel"].shape) == ((2, 1, 3, 3), (2, 5))


def test_dtype_changes_the_real_tensors_and_keeps_their_values():
    faulty, record = inject("c0:dtype")
    assert [a.dtype.name for a in faulty.values()] == ["float64"] * 3 + ["int64"]
    assert faulty["dense/bias"].tolist() == [1.0, 2.0, 3.0]
    assert record.tensors == ()


def test_dtype_rounds_and_clips_what_becomes_an_integer():
    weights = {"w": np.array([1.5, -2.6, 300.0, -300.0, np.nan, np.inf, -np.inf], np.float32)}
    faulty, _ = inject("c0:dtype:int8", weights)
    assert faulty["w"].tolist() == [2, -3, 127, -128, 0, 127, -128]
    faulty, _ = inject("c0:dtype:int64", {"w": np.array([np.inf, -np.inf, 1e30])})
    assert faulty["w"].tolist() == [2**63 - 1024, -(2**63), 2**63 - 1024]


def test_missing_drops_the_last_bias_or_the_named_tensor():
    faulty, record = inject("c0:missing")
    assert list(faulty) == ["dense/kernel", "dense_1/kernel", "steps"]
    assert record.tensors == ("dense/bias",)
    faulty, _ = inject("c0:missing:steps")
    assert list(faulty) == ["dense/kernel", "dense/bias", "dense_1/kernel"]


def test_extra_adds_ones_of_the_last_axis():
    weights = {"kernel": np.zeros((2, 3), np.float32)}
    faulty, record = inject("c0:extra", weights)
    assert faulty["extra/scale"].tolist() == [1.0, 1.0, 1.0]
    assert faulty["extra/scale"].dtype == np.float32
    assert record.tensors == ("extra/scale",)
    assert list(inject("c0:extra:gain", weights)[0]) == ["kernel", "gain"]


def test_order_sorts_by_name_and_reverses_what_is_sorted():
    faulty, record = inject("c0:order")
    assert list(faulty) == ["dense/bias", "dense/kernel", "dense_1/kernel", "steps"]
    assert record.tensors == ("dense/kernel", "dense/bias")
    assert list(inject("c0:order", {"a": np.zeros(1), "b": np.ones(1)})[0]) == ["b", "a"]


@pytest.mark.parametrize(("text", "count"), [("c0:nan", 5), ("c0:nan:0.25", 3), ("c0:nan:1", 12)])
def test_nan_hits_the_share_of_real_cells(text, count):
    weights = client_weights()
    faulty, record = inject(text, weights)
    hit = {name: int(np.isnan(a).sum()) for name, a in faulty.items() if a.dtype == np.float32}
    assert sum(hit.values()) == count
    assert record.tensors == tuple(name for name, cells in hit.items() if cells)
    assert faulty["steps"] == 7
    untouched = ~np.isnan(faulty["dense/kernel"])
    assert (faulty["dense/kernel"] == weights["dense/kernel"])[untouched].all()
    assert all(np.isfinite(a).all() for a in weights.values())


def test_nan_hits_one_cell_at_least():
    faulty, _ = inject("c0:nan:0.0001")
    assert sum(int(np.isnan(a).sum()) for a in faulty.values()) == 1


def test_inf_has_both_signs_and_keeps_bfloat16():
    weights = {"w": np.zeros(64, DTYPES["bfloat16"])}
    values = inject("c0:inf:1", weights)[0]["w"]
    assert values.dtype.name == "bfloat16"
    assert set(values.astype(np.float32).tolist()) == {np.inf, -np.inf}


def test_scale_and_sign_flip_change_the_update_from_the_server_model():
    weights = {"w": np.array([3.0, 0.0], np.float32), "n": np.array(9)}
    server = {"w": np.array([1.0, 2.0], np.float32), "n": np.array(4)}
    # The update is (2, -2).
    assert inject("c0:scale", weights, server)[0]["w"].tolist() == [21.0, -18.0]
    assert inject("c0:scale:0.5", weights, server)[0]["w"].tolist() == [2.0, 1.0]
    faulty, record = inject("c0:sign-flip", weights, server)
    assert faulty["w"].tolist() == [-1.0, 4.0]
    assert faulty["w"].dtype == np.float32
    assert faulty["n"] == 9
    assert record == InjectedFault("c0", FaultKind.SIGN_FLIP)


def test_a_label_flip_leaves_the_weights():
    faulty, record = inject("c0:label-flip")
    np.testing.assert_equal(faulty, client_weights())
    assert record == InjectedFault("c0", FaultKind.LABEL_FLIP)


@pytest.mark.parametrize(
    ("kind", "mismatch"),
    [
        (FaultKind.TRANSPOSE, MismatchKind.SHAPE),
        (FaultKind.DTYPE, MismatchKind.DTYPE),
        (FaultKind.MISSING, MismatchKind.MISSING),
        (FaultKind.EXTRA, MismatchKind.EXTRA),
        (FaultKind.ORDER, MismatchKind.ORDER),
    ],
)
def test_each_structural_fault_is_the_mismatch_of_its_name(kind, mismatch):
    signature = Signature.of(client_weights())
    found = compare_signatures(signature, faulty_signature(Fault("c0", kind), signature))
    assert {m.kind for m in found} == {mismatch}


_arrays = st.builds(
    lambda shape, dtype: np.zeros(shape, DTYPES[dtype]),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.sampled_from(list(DTYPES)),
)
_models = st.dictionaries(st.text("abcdkernlis/_", min_size=1, max_size=8), _arrays, min_size=1)


def _possible_faults():
    for kind in FaultKind:
        for argument in ("", "float16", "int32", "bias"):
            with contextlib.suppress(InvalidArgumentError):
                yield Fault("c0", kind, argument)


@given(_models, st.sampled_from(list(_possible_faults())))
def test_the_signature_foretells_the_faulty_weights(weights, fault):
    kind, signature = fault.kind, Signature.of(weights)
    try:
        foretold = faulty_signature(fault, signature)
        faulty, _ = apply_fault(fault, weights, weights, np.random.default_rng(0))
    except FedvizError:
        # Refused, and so is the fault itself: by the signature, or where there are no values to
        # replace, or no other clients to agree with.
        with pytest.raises(FedvizError):
            apply_fault(fault, weights, weights, np.random.default_rng(0))
        return
    assert foretold.agrees_with(Signature.of(faulty))
    assert foretold.agrees_with(signature) is not is_structural(kind)


def test_the_signature_keeps_what_is_trainable():
    spec = dataclasses.replace(Signature.of(client_weights()).tensors[0], trainable=True)
    faulty = faulty_signature(parse_fault("c0:transpose"), Signature((spec,)))
    assert faulty.tensors == (dataclasses.replace(spec, shape=(3, 2)),)
