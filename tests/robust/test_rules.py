"""The table of rules: complete, and true of what the rules do."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fedviz.errors import CohortError, JobCancelledError, SignatureError, UnknownNameError
from fedviz.progress import Progress
from fedviz.robust import RULES, aggregate
from tests.robust.cohorts import column, flat, model, random_stacks

EVERY = sorted(RULES)
WITHSTANDS_ONE = [
    *("median", "trimmed-mean", "krum", "multi-krum", "bulyan"),
    *("geometric-median", "norm-bounded-mean"),
]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "aggregators.md"


@pytest.fixture
def server():
    return {name: stack[0] for name, stack in random_stacks(1, seed=9).items()}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_model_has_the_tensors_shapes_and_dtypes(name, dtype, server):
    stacks = random_stacks(10, dtype)
    result = aggregate(name, stacks, np.ones(10), server)
    for tensor, stack in stacks.items():
        assert result.tensors[tensor].shape == stack.shape[1:]
        assert result.tensors[tensor].dtype == stack.dtype
    assert json.loads(json.dumps(result.measurements, allow_nan=False)) == result.measurements
    assert {"clients", "nonfinite_clients", "nonfinite_result"} <= set(result.measurements)


@pytest.mark.parametrize("name", EVERY)
def test_the_smallest_cohort_is_what_the_table_says(name, server):
    rule = RULES[name]
    smallest = rule.minimum_cohort({})
    aggregate(name, random_stacks(smallest), np.ones(smallest), server)
    if smallest > 1:
        fewer = smallest - 1
        with pytest.raises(CohortError, match=f"at least {smallest} clients, found {fewer}"):
            aggregate(name, random_stacks(fewer), np.ones(fewer), server)


def test_the_smallest_cohorts():
    assert RULES["krum"].minimum_cohort({"f": 3}) == 9
    assert RULES["multi-krum"].minimum_cohort({"f": "1", "m": 8}) == 8
    assert RULES["bulyan"].minimum_cohort({"f": 2}) == 11
    assert RULES["trimmed-mean"].minimum_cohort({"trim": 3}) == 7


@pytest.mark.parametrize("name", EVERY)
def test_weights_count_where_the_table_says_so(name, server):
    stacks = random_stacks(10, "float64")
    equal = model(aggregate(name, stacks, np.ones(10), server).tensors)
    unequal = model(aggregate(name, stacks, np.arange(1.0, 11), server).tensors)
    assert np.array_equal(equal, unequal) != RULES[name].weighted


@pytest.mark.parametrize("name", EVERY)
def test_a_server_model_is_needed_where_the_table_says_so(name):
    stacks = random_stacks(10)
    if RULES[name].needs_server:
        with pytest.raises(CohortError, match="needs a server model"):
            aggregate(name, stacks, np.ones(10))
    else:
        assert np.isfinite(model(aggregate(name, stacks, np.ones(10)).tensors)).all()


@pytest.mark.parametrize("name", WITHSTANDS_ONE)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_one_faulty_client_is_withstood(name, bad, server):
    stacks = random_stacks(10)
    for stack in stacks.values():
        stack[4] = bad
    result = aggregate(name, stacks, np.ones(10), server)
    assert np.abs(model(result.tensors)).max() < 5
    assert result.measurements["nonfinite_clients"] == ([] if bad == 1e30 else [4])
    assert result.measurements["nonfinite_result"] == 0


@pytest.mark.parametrize("name", sorted(set(EVERY) - set(WITHSTANDS_ONE)))
def test_those_that_withstand_nothing_say_so(name, server):
    assert RULES[name].protects_against.startswith("nothing")
    stacks = random_stacks(10)
    stacks["scale"][4] = np.nan
    result = aggregate(name, stacks, np.ones(10), server)
    assert result.measurements["nonfinite_clients"] == [4]
    assert result.measurements["nonfinite_result"] == 1


@pytest.mark.parametrize("name", EVERY)
def test_every_rule_can_be_cancelled(name, server):
    def cancel(progress: Progress) -> None:
        raise JobCancelledError(progress.message)

    with pytest.raises(JobCancelledError):
        aggregate(name, random_stacks(10), np.ones(10), server, progress=cancel)


@pytest.mark.parametrize("name", EVERY)
def test_a_mapped_file_is_never_loaded_whole(name, tmp_path):
    shape = (40, 400_000)
    stack = np.memmap(tmp_path / "x.bin", "f4", "w+", shape=shape)
    server = np.ones(shape[1], "f4")
    tracemalloc.start()
    try:
        aggregate(name, {"x": stack}, np.ones(shape[0]), {"x": server})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The result, an optimiser's float64 copies of it, and blocks: less than the 64 MB of the file.
    assert peak < 28e6


@pytest.mark.parametrize("name", sorted(set(EVERY) - {"krum"}))
def test_clients_of_weight_0_are_as_good_as_absent(name, server):
    stacks = random_stacks(12, "float64")
    weights = np.arange(12.0)
    weights[7] = 0
    absent = {n: np.delete(s, [0, 7], axis=0) for n, s in stacks.items()}
    for stack in stacks.values():
        stack[[0, 7]] = np.nan
    one = aggregate(name, stacks, weights, server)
    other = aggregate(name, absent, np.delete(weights, [0, 7]), server)
    np.testing.assert_allclose(model(one.tensors), model(other.tensors), rtol=1e-12, atol=1e-15)


def test_a_tensor_without_values_stays_one():
    stacks = {"none": np.zeros((5, 0, 3), "f4"), **column(1, 2, 3, 4, 5, dtype="f4")}
    server = {"none": np.zeros((0, 3), "f4"), "x": np.zeros(1, "f4")}
    for name in set(EVERY) - {"bulyan"}:
        assert aggregate(name, stacks, np.ones(5), server).tensors["none"].shape == (0, 3)


def test_parameters_may_be_text_as_a_command_has_them():
    stacks = random_stacks(9)
    one = aggregate("multi-krum", stacks, np.ones(9), parameters={"f": "2", "m": "3"})
    other = aggregate("multi-krum", stacks, np.ones(9), parameters={"f": 2, "m": 3})
    assert one.measurements == other.measurements


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="there is no rule mode; there are median"):
        aggregate("mode", random_stacks(3), np.ones(3))
    with pytest.raises(UnknownNameError, match="krum has no parameter k; it has f"):
        aggregate("krum", random_stacks(5), np.ones(5), parameters={"k": 1})
    with pytest.raises(UnknownNameError, match="median has no parameter f; it has none"):
        aggregate("median", random_stacks(5), np.ones(5), parameters={"f": 1})


@pytest.mark.parametrize(
    ("stacks", "weights", "error", "message"),
    [
        (column(1, 2), [0, 0], CohortError, "every client has weight 0"),
        (column(1, 2), [1, -1], CohortError, "finite numbers that are not negative"),
        (column(1, 2), [1, np.nan], CohortError, "finite numbers that are not negative"),
        (column(1, 2), [1, 1, 1], SignatureError, r"tensor x: expected 3 clients, found .*\[2, 1"),
        (column(1, 2, dtype="i4"), [1, 1], SignatureError, "tensor x: expected a float dtype"),
    ],
)
def test_input_that_does_not_fit(stacks, weights, error, message):
    with pytest.raises(error, match=message):
        aggregate("median", stacks, np.array(weights, dtype="f8"))


def test_a_server_of_another_shape():
    with pytest.raises(
        SignatureError, match=r"tensor x: expected \[1\] in the server .* found \[2"
    ):
        aggregate("proximal-mean", column(1, 2), np.ones(2), {"x": np.zeros(2)})
    with pytest.raises(SignatureError, match=r"found nothing"):
        aggregate("proximal-mean", column(1, 2), np.ones(2), {})


def test_huge_weights_do_not_overflow():
    result = aggregate("proximal-mean", column(1, 3), np.array([1e308, 1e308]), {"x": np.zeros(1)})
    assert np.isfinite(flat({"x": result.tensors["x"][None]})).all()


@pytest.mark.parametrize("name", EVERY)
def test_the_documentation_has_every_rule(name):
    text = DOCS.read_text(encoding="utf-8")
    assert f"`{name}`" in text
    for parameter in RULES[name].parameters:
        assert f"`{parameter.name}`" in text
