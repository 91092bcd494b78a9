from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedviz.errors import SignatureError, UnknownNameError
from fedviz.signature import (
    DTYPES,
    Mismatch,
    MismatchKind,
    Signature,
    TensorSpec,
    compare_signatures,
    tff_type_of_round,
)

KERNEL = TensorSpec("dense/kernel", (5, 10), "float32", True)
BIAS = TensorSpec("dense/bias", (10,), "float32", True)
SCALE = TensorSpec("scale", (), "float16")
MODEL = Signature((KERNEL, BIAS))


def found(*tensors: TensorSpec) -> list[tuple[str, MismatchKind, str, str]]:
    return [
        (m.tensor, m.kind, m.expected, m.actual)
        for m in compare_signatures(MODEL, Signature(tensors))
    ]


def test_prints_as_tff_does():
    assert str(MODEL) == "<dense/kernel=float32[5,10],dense/bias=float32[10]>"
    assert str(Signature((SCALE,))) == "<scale=float16>"
    assert str(Signature(())) == "<>"
    assert tff_type_of_round(Signature((SCALE,))) == (
        "{<weights=<scale=float16>,num_examples=int64>}@CLIENTS"
    )


def test_counts_parameters_and_bytes():
    assert MODEL.num_parameters == 5 * 10 + 10
    assert MODEL.nbytes == 4 * 60
    assert TensorSpec("b", (3,), "bfloat16").nbytes == 6
    assert TensorSpec("e", (0, 3), "float64").nbytes == 0


def test_refuses_what_cannot_be_a_weight():
    with pytest.raises(SignatureError, match="dtype complex64 cannot be a weight"):
        TensorSpec("a", (1,), "complex64")
    with pytest.raises(SignatureError, match="it is empty"):
        TensorSpec("", (1,), "float32")
    with pytest.raises(SignatureError, match="negative size"):
        TensorSpec("a", (-1,), "float32")
    with pytest.raises(SignatureError, match="tensor a: the name is used by more than one"):
        Signature((TensorSpec("a", (), "float32"), TensorSpec("a", (1,), "float32")))


def test_unknown_tensor_names_the_known():
    with pytest.raises(UnknownNameError, match=r"no tensor x; there are dense/kernel, dense/bias"):
        MODEL["x"]


def test_trainable_is_no_part_of_agreement():
    untold = Signature((TensorSpec("dense/kernel", (5, 10), "float32"), BIAS))
    assert MODEL.agrees_with(untold)
    assert compare_signatures(MODEL, untold) == []


@pytest.mark.parametrize(
    ("changed", "kind", "actual"),
    [
        (TensorSpec("dense/kernel", (10, 5), "float32"), MismatchKind.SHAPE, "float32[10,5]"),
        (TensorSpec("dense/kernel", (1, 5, 10), "float32"), MismatchKind.RANK, "float32[1,5,10]"),
        (TensorSpec("dense/kernel", (5, 10), "float64"), MismatchKind.DTYPE, "float64"),
    ],
)
def test_one_changed_tensor(changed, kind, actual):
    expected = "float32" if kind is MismatchKind.DTYPE else "float32[5,10]"
    assert found(changed, BIAS) == [("dense/kernel", kind, expected, actual)]


def test_transposed_kernel_is_recognised():
    mismatch = compare_signatures(
        MODEL, Signature((TensorSpec("dense/kernel", (10, 5), "float32"), BIAS))
    )[0]
    assert mismatch == Mismatch(
        "dense/kernel",
        MismatchKind.SHAPE,
        "float32[5,10]",
        "float32[10,5]",
        "transposed: stored as [out, in], as PyTorch does",
    )


def test_missing_and_extra():
    assert found(KERNEL, SCALE) == [
        ("dense/bias", MismatchKind.MISSING, "float32[10]", "nothing"),
        ("scale", MismatchKind.EXTRA, "nothing", "float16"),
    ]


def test_order_names_the_fewest_tensors():
    specs = [TensorSpec(n, (), "float32") for n in "abcde"]
    moved = [specs[4], *specs[:4]]
    mismatches = compare_signatures(Signature(tuple(specs)), Signature(tuple(moved)))
    assert [(m.tensor, m.kind, m.expected, m.actual) for m in mismatches] == [
        ("e", MismatchKind.ORDER, "position 4", "position 0")
    ]


def test_same_place_and_type_is_a_renamed_tensor():
    renamed = TensorSpec("model/dense/kernel", (5, 10), "float32")
    assert found(renamed, BIAS) == [
        ("dense/kernel", MismatchKind.NAME, "dense/kernel", "model/dense/kernel")
    ]


def test_every_mismatch_is_found_not_only_the_first():
    kinds = {
        m.kind
        for m in compare_signatures(
            MODEL,
            Signature((TensorSpec("dense/bias", (1, 10), "float64"), SCALE)),
        )
    }
    assert kinds == {
        MismatchKind.MISSING,
        MismatchKind.RANK,
        MismatchKind.DTYPE,
        MismatchKind.EXTRA,
    }


specs = st.lists(
    st.builds(
        TensorSpec,
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8),
        st.lists(st.integers(0, 5), max_size=4).map(tuple),
        st.sampled_from(sorted(DTYPES)),
    ),
    max_size=6,
    unique_by=lambda spec: spec.name,
)


@given(specs, specs)
def test_no_mismatch_exactly_where_signatures_agree(reference, other):
    a, b = Signature(tuple(reference)), Signature(tuple(other))
    assert (compare_signatures(a, b) == []) == a.agrees_with(b)
    assert compare_signatures(a, a) == []


@given(specs, st.randoms())
def test_a_permutation_differs_in_order_only(tensors, random):
    shuffled = list(tensors)
    random.shuffle(shuffled)
    mismatches = compare_signatures(Signature(tuple(tensors)), Signature(tuple(shuffled)))
    assert {m.kind for m in mismatches} <= {MismatchKind.ORDER}
    assert len(mismatches) < max(1, len(tensors))
