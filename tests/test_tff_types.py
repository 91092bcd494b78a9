"""Types as TFF prints them: parsed, printed, found in errors, and compared leaf by leaf."""

from __future__ import annotations

import time
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedviz.errors import InvalidArgumentError, SignatureError
from fedviz.signature import Signature, TensorSpec, compare_signatures
from fedviz.tff_types import (
    AbstractType,
    FederatedType,
    FunctionType,
    LeafStatus,
    PlacementType,
    SequenceType,
    StructType,
    TensorType,
    diff_types,
    parse_paste,
    parse_type,
    signature_of,
)
from fedviz.tff_types.parsing import DEEPEST_NESTING, LONGEST_TEXT
from fedviz.tff_types.types import DTYPE_NAMES

KERNEL = TensorType("float32", (5, 10))
BIAS = TensorType("float32", (10,))

names = st.one_of(st.none(), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_./:-]{0,8}", fullmatch=True))
tensors = st.builds(
    TensorType,
    st.sampled_from(sorted(DTYPE_NAMES)),
    st.one_of(
        st.none(), st.lists(st.one_of(st.none(), st.integers(0, 9999)), max_size=4).map(tuple)
    ),
)
leaves = st.one_of(tensors, st.just(PlacementType()), st.sampled_from("TUV").map(AbstractType))


def composed(children):
    struct = st.lists(st.tuples(names, children), max_size=4).map(lambda e: StructType(tuple(e)))
    unplaced = children.filter(lambda t: not isinstance(t, FederatedType))
    return st.one_of(
        struct,
        unplaced.map(SequenceType),
        st.builds(FunctionType, st.one_of(st.none(), children), children),
        st.builds(FederatedType, unplaced, st.sampled_from(["CLIENTS", "SERVER"]), st.booleans()),
    )


types = st.recursive(leaves, composed, max_leaves=12)


@given(types)
def test_what_is_printed_is_parsed_back(tff_type):
    assert parse_type(str(tff_type)) == tff_type


@given(types)
def test_spaces_and_lines_between_the_parts_do_not_matter(tff_type):
    text = str(tff_type)
    for mark in ("<", ">", ",", "{", "}"):
        text = text.replace(mark, f"\n  {mark}\n\t")
    # "->" holds a ">", which is no bracket.
    assert parse_type(text.replace("-\n  >\n\t", "->")) == tff_type


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("float32", TensorType("float32")),
        ("float32[?,10]", TensorType("float32", (None, 10))),
        ("'float32'(shape=None)", TensorType("float32", None)),
        ("<>", StructType(())),
        ("<a=float32[5,10],float32[10]>", StructType((("a", KERNEL), (None, BIAS)))),
        ("<=str>", StructType((("", TensorType("str")),))),
        ("<a b=bool>", StructType((("a b", TensorType("bool")),))),
        ("int32*", SequenceType(TensorType("int32"))),
        ("{int32*}@CLIENTS", FederatedType(SequenceType(TensorType("int32")), "CLIENTS", False)),
        ("int32@SERVER", FederatedType(TensorType("int32"), "SERVER", True)),
        ("( -> T)", FunctionType(None, AbstractType("T"))),
        ("(placement -> T)", FunctionType(PlacementType(), AbstractType("T"))),
    ],
)
def test_each_form(text, parsed):
    assert parse_type(text) == parsed
    assert str(parsed) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected more, found the end of the text"),
        ("<a=int32", "expected more, found the end of the text"),
        ("<a=int32,,b=int32>", "line 1, column 10: expected the type to go on or end, found ',b="),
        ("<a=int32,\n b=foo>", "line 2, column 4: expected a dtype such as float32, found 'foo'"),
        ("float32[]", "line 1, column 9"),
        ("int32 int32", "expected a dtype such as float32, found 'int32 int32'"),
        ("int32)", r"line 1, column 6: expected the type to go on or end, found '\)'"),
        ("float32[99999999999999999999]", "line 1, column 27"),
        ("int32@", "expected more"),
    ],
)
def test_errors_say_where_in_one_line(text, message):
    with pytest.raises(InvalidArgumentError, match=message) as error:
        parse_type(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("opening", ["<", "(", "{", "<a=", "( -> "])
def test_ten_thousand_brackets_are_an_error_and_no_crash(opening):
    for paste in (parse_type, parse_paste):
        with pytest.raises(InvalidArgumentError, match="TFF type"):
            paste(opening * 10_000)
    closing = {"<": ">", "(": ")", "{": "}"}[opening[0]]
    with pytest.raises(InvalidArgumentError, match=f"nested deeper than {DEEPEST_NESTING}"):
        parse_type(opening * 10_000 + "int32" + closing * 10_000)
    with pytest.raises(InvalidArgumentError, match="nested deeper"):
        parse_type("int32" + "*" * 10_000)


def test_as_deep_as_allowed():
    text = "<" * DEEPEST_NESTING + "int32" + ">" * DEEPEST_NESTING
    assert str(parse_type(text)) == text
    assert parse_paste(text).expected == parse_type(text)


@pytest.mark.parametrize(
    "unit", ["<a>", "<a,", "(<{", "float32 ", "`", "<a,<b>,", "x", "(" * 60 + ")" * 60]
)
def test_a_megabyte_of_nonsense_is_an_error_within_seconds(unit):
    started = time.perf_counter()
    with pytest.raises(InvalidArgumentError, match="TFF type"):
        parse_paste(unit * (2**20 // len(unit)))
    assert time.perf_counter() - started < 30


def test_too_long_a_text():
    with pytest.raises(
        InvalidArgumentError, match=r"at most 1,048,576 characters, found 1,048,577"
    ):
        parse_type(" " * (LONGEST_TEXT + 1))


# --- types by themselves, pasted ----------------------------------------------------------------


def test_two_types_pasted_below_each_other():
    pasted = parse_paste("<a=int32>\n\n<\n  a=int64\n>\n")
    assert (str(pasted.expected), str(pasted.found)) == ("<a=int32>", "<a=int64>")


def test_two_tensors_pasted_below_each_other():
    pasted = parse_paste("float32\nfloat32[3]")
    assert (str(pasted.expected), str(pasted.found)) == ("float32", "float32[3]")


def test_prose_is_no_type():
    with pytest.raises(InvalidArgumentError, match="TFF type"):
        parse_paste("Sorry (see below): it says `nothing` about float32 <here> {or there}.")


def test_brackets_that_prose_leaves_open_hide_nothing():
    pasted = parse_paste("a < b and (c, then\n<x=int32[2]> against <x=int32[3]>")
    assert (str(pasted.expected), str(pasted.found)) == ("<x=int32[2]>", "<x=int32[3]>")


# --- comparison ---------------------------------------------------------------------------------


def differences(expected, found):
    leaves = diff_types(parse_type(expected), parse_type(found))
    return [(x.label, x.expected, x.found, x.status.value) for x in leaves if x.status != "same"]


@pytest.mark.parametrize(
    ("expected", "found", "leaf"),
    [
        ("<a=int32>", "<a=int64>", ("a", "int32", "int64", "changed")),
        ("<int32,bool>", "<int32,str>", ("[1]", "bool", "str", "changed")),
        ("<a=int32,b=str>", "<a=int32>", ("b", "str", None, "missing")),
        ("<a=int32>", "<a=int32,b=str>", ("b", None, "str", "extra")),
        ("<a=int32,b=str>", "<a=int32,c=str>", ("b", "str", "str", "renamed")),
        ("<a=<b=int32>>", "<a=<b=int64>>", ("a › b", "int32", "int64", "changed")),
        ("<a=<b=int32>>", "<a=int32>", ("a", "<b=int32>", "int32", "changed")),
        ("int32*", "int64*", ("*", "int32", "int64", "changed")),
        ("{int32}@CLIENTS", "int32@CLIENTS", ("@", "{}@CLIENTS", "@CLIENTS", "changed")),
        ("int32@SERVER", "int32@CLIENTS", ("@", "@SERVER", "@CLIENTS", "changed")),
        ("(int32 -> str)", "( -> str)", ("parameter", "int32", None, "missing")),
        ("( -> str)", "( -> bool)", ("result", "str", "bool", "changed")),
    ],
)
def test_one_difference(expected, found, leaf):
    assert differences(expected, found) == [leaf]


def test_names_are_aligned_before_positions():
    leaves = differences("<a=int32,b=str,c=bool>", "<b=str,c=bool,a=int64>")
    assert leaves == [("a", "int32", "int64", "changed")]
    assert differences("<a=int32,b=str,c=bool>", "<c=bool,a=int32,b=str>") == [
        ("c", "bool", "bool", "moved")
    ]


def test_every_leaf_of_both_sides_is_there_once():
    leaves = diff_types(
        parse_type("<w=<k=float32[5,10],b=float32[10]>,n=int64>"),
        parse_type("<w=<k=float32[10,5]>,n=int64,t=str>"),
    )
    assert [(x.path, x.status) for x in leaves] == [
        (("w", "k"), LeafStatus.CHANGED),
        (("w", "b"), LeafStatus.MISSING),
        (("n",), LeafStatus.SAME),
        (("t",), LeafStatus.EXTRA),
    ]


@given(types, types)
def test_all_leaves_are_the_same_exactly_where_the_types_are_equal(a, b):
    assert all(leaf.status is LeafStatus.SAME for leaf in diff_types(a, a))
    same = all(leaf.status is LeafStatus.SAME for leaf in diff_types(a, b))
    assert same == (a == b)


# --- signatures ---------------------------------------------------------------------------------


def test_the_signature_of_a_rounds_type():
    signature = Signature(
        (TensorSpec("dense/kernel", (5, 10), "float32"), TensorSpec("scale", (), "float16"))
    )
    for text in (
        str(signature),
        f"{{{signature}}}@CLIENTS",
        f"{{<weights={signature},num_examples=int64>}}@CLIENTS",
    ):
        assert compare_signatures(signature, signature_of(parse_type(text))) == []
    nested = signature_of(parse_type("<dense=<kernel=float32[5,10]>,scale=float16>"))
    assert nested.names == ("dense/kernel", "scale")


@pytest.mark.parametrize(
    "text", ["float32[?]", "'float32'(shape=None)", "<a=int32*>", "( -> int32)"]
)
def test_what_is_no_weight_has_no_signature(text):
    with pytest.raises(SignatureError, match="cannot be a weight"):
        signature_of(parse_type(text))


# --- against the real TFF -----------------------------------------------------------------------


def real_type(tff_type):
    """The same type, made by TFF."""
    import ml_dtypes
    import tensorflow_federated as tff

    if isinstance(tff_type, TensorType):
        special = {"str": np.str_, "bfloat16": ml_dtypes.bfloat16}
        dtype = special.get(tff_type.dtype) or np.dtype(tff_type.dtype).type
        return tff.TensorType(dtype, tff_type.shape)
    if isinstance(tff_type, StructType):
        elements = ((n, real_type(t)) for n, t in tff_type.elements)
        return tff.StructType([t if n is None else (n, t) for n, t in elements])
    if isinstance(tff_type, SequenceType):
        return tff.SequenceType(real_type(tff_type.element))
    if isinstance(tff_type, FunctionType):
        parameter = tff_type.parameter
        return tff.FunctionType(
            None if parameter is None else real_type(parameter), real_type(tff_type.result)
        )
    placement = {"CLIENTS": tff.CLIENTS, "SERVER": tff.SERVER}[tff_type.placement]
    return tff.FederatedType(real_type(tff_type.member), placement, tff_type.all_equal)


unique_names = st.lists(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_./:-]{0,8}", fullmatch=True), max_size=4, unique=True
)


def values_of(children):
    named = unique_names.flatmap(
        lambda n: st.tuples(*(children for _ in n)).map(
            lambda ts: StructType(tuple(zip(n, ts, strict=True)))
        )
    )
    unnamed = st.lists(children, max_size=3).map(
        lambda ts: StructType(tuple((None, t) for t in ts))
    )
    return st.one_of(named, unnamed)


values = st.recursive(tensors, values_of, max_leaves=8)
placed = st.builds(FederatedType, values, st.sampled_from(["CLIENTS", "SERVER"]), st.booleans())
real_types = st.one_of(
    values,
    values.map(SequenceType),
    placed,
    st.builds(FunctionType, st.one_of(st.none(), placed, values), st.one_of(placed, values)),
)


@pytest.mark.tff
@settings(deadline=None)
@given(real_types)
def test_what_tff_prints_is_parsed(tff_type):
    real = real_type(tff_type)
    assert real.compact_representation() == str(tff_type)
    assert parse_type(real.compact_representation()) == tff_type
    assert parse_type(real.formatted_representation()) == tff_type


def big(dtype):
    """A type that TFF prints over several lines, with a diff below it."""
    return OrderedDict((f"layer_{i}/kernel", (dtype, (64, 32 + i))) for i in range(6))


def refusals():
    """Calls that TFF refuses, with what it expected and found as far as its error says so."""
    import tensorflow_federated as tff

    def struct(fields):
        return tff.to_type(
            OrderedDict((name, tff.TensorType(*spec)) for name, spec in fields.items())
        )

    def at_clients(member):
        return tff.FederatedType(member, tff.CLIENTS)

    def at_server(member):
        return tff.FederatedType(member, tff.SERVER)

    good = struct({"dense/kernel": (np.float32, (5, 10)), "b": (np.float32, ())})
    bad = struct({"dense/kernel": (np.float32, (10, 5)), "b": (np.float32, ())})
    same = tff.federated_computation(lambda x: x, at_clients(good))
    local = tff.tensorflow.computation(lambda x: x, good)
    add = tff.tensorflow.computation(lambda a, _: a, good, good)
    state = tff.tensorflow.computation(lambda s: s, bad)
    start = tff.tensorflow.computation(
        lambda: OrderedDict([("dense/kernel", np.zeros((5, 10), "f4")), ("b", np.float32(0))])
    )
    wide, wider = struct(big(np.float32)), struct(big(np.float64))
    nested = tff.to_type((good, [np.int32, (np.bool_, np.str_)]))
    other = tff.to_type((bad, [np.int64, (np.bool_, np.str_)]))
    f32 = np.float32

    def wrap(function, *parameters):
        return lambda: tff.federated_computation(function, *parameters)

    return {
        "assignable": (lambda: good.check_assignable_from(bad), good, bad),
        "equivalent": (lambda: bad.check_equivalent_to(good), good, bad),
        "identical": (lambda: bad.check_identical_to(good), good, bad),
        "large": (lambda: wide.check_assignable_from(wider), wide, wider),
        "nested": (lambda: nested.check_assignable_from(other), nested, other),
        "sequence": (
            lambda: tff.SequenceType(good).check_assignable_from(tff.SequenceType(bad)),
            tff.SequenceType(good),
            tff.SequenceType(bad),
        ),
        "placement": (
            lambda: at_clients(good).check_assignable_from(at_server(good)),
            at_clients(good),
            at_server(good),
        ),
        "function": (
            lambda: tff.FunctionType(good, good).check_assignable_from(tff.FunctionType(bad, bad)),
            tff.FunctionType(good, good),
            tff.FunctionType(bad, bad),
        ),
        "one line": (
            lambda: tff.TensorType(f32, [None, 3]).check_assignable_from(tff.TensorType(f32, None)),
            tff.TensorType(f32, [None, 3]),
            tff.TensorType(f32, None),
        ),
        "scalars": (
            lambda: tff.TensorType(f32).check_assignable_from(tff.TensorType(np.float64)),
            tff.TensorType(f32),
            tff.TensorType(np.float64),
        ),
        "federated_map": (
            wrap(lambda x: tff.federated_map(local, x), at_clients(bad)),
            good,
            bad,
        ),
        "federated_aggregate": (
            wrap(
                lambda x: tff.federated_aggregate(x, 0.0, add, add, local),
                at_clients(good),
            ),
            good,
            tff.TensorType(f32),
        ),
        # Here the call's own argument is said to be what the caller's type is not assignable to.
        "call": (wrap(lambda x: same(x), at_clients(bad)), at_clients(bad), at_clients(good)),
        "process": (lambda: tff.templates.IterativeProcess(start, state), good, bad),
        "mean of text": (
            wrap(lambda x: tff.federated_mean(x), at_clients(np.str_)),
            at_clients(np.str_),
            None,
        ),
        "secure sum": (
            wrap(lambda x: tff.federated_secure_sum(x, 1), at_clients(good)),
            at_clients(good),
            None,
        ),
    }


@pytest.mark.tff
def test_the_types_in_real_errors_of_tff():
    cases = refusals()
    assert len(cases) >= 12
    for name, (call, expected, found) in cases.items():
        with pytest.raises(TypeError) as error:
            call()
        text = f"Traceback (most recent call last):\n  …\n{error.type.__name__}: {error.value}\n"
        pasted = parse_paste(text)
        assert str(pasted.expected) == str(expected), name
        assert (None if pasted.found is None else str(pasted.found)) == (
            None if found is None else str(found)
        ), name
