"""Krum, Multi-Krum and Bulyan against their definitions, written out naively."""

from __future__ import annotations

import numpy as np
import pytest

from fedviz.errors import CohortError, InvalidArgumentError
from fedviz.robust.bulyan import bulyan
from fedviz.robust.krum import krum, multi_krum
from tests.robust.cohorts import column, flat, model, random_stacks

NAN, INF = float("nan"), float("inf")


def scores_by_definition(vectors, f):
    scores = []
    for i in range(len(vectors)):
        squares = sorted(
            ((vectors[i] - other) ** 2).sum() for j, other in enumerate(vectors) if j != i
        )
        scores.append(sum(squares[: max(1, len(vectors) - f - 2)]))
    return np.array(scores)


def bulyan_by_definition(vectors, f):
    remaining, chosen = list(range(len(vectors))), []
    for _ in range(len(vectors) - 2 * f):
        best = int(np.argmin(scores_by_definition(vectors[remaining], f)))
        chosen.append(remaining.pop(best))
    values = vectors[chosen]
    nearest = np.argsort(abs(values - np.median(values, axis=0)), axis=0)[: len(chosen) - 2 * f]
    return chosen, np.take_along_axis(values, nearest, axis=0).mean(axis=0)


@pytest.mark.parametrize(("num_clients", "f"), [(3, 0), (5, 1), (12, 2), (12, 4)])
def test_krum_returns_the_client_of_the_smallest_score(num_clients, f):
    stacks = random_stacks(num_clients, seed=f)
    result = krum(stacks, np.ones(num_clients), f=f)
    scores = scores_by_definition(flat(stacks), f)
    best = int(np.argmin(scores))
    assert result.measurements["chosen"] == [best]
    assert list(result.measurements["scores"].values()) == pytest.approx(scores, rel=1e-12)
    for name, stack in stacks.items():
        np.testing.assert_array_equal(result.tensors[name], stack[best])


def test_krum_by_hand():
    result = krum(column(0, 1, 1.5, 9, 100), np.ones(5), f=1)
    # Two nearest neighbours: 0 → 1 + 2.25, 1 → .25 + 1, 1.5 → .25 + 2.25, 9 → 56.25 + 64, ...
    assert result.measurements["scores"] == {
        "0": 3.25,
        "1": 1.25,
        "2": 2.5,
        "3": 56.25 + 64,
        "4": 91.0**2 + 98.5**2,
    }
    assert result.tensors["x"] == 1


def test_multi_krum_is_the_weighted_mean_of_the_chosen():
    stacks = random_stacks(11, "float64")
    weights = np.arange(1.0, 12)
    result = multi_krum(stacks, weights, f=2, m=4)
    best = np.sort(np.argsort(scores_by_definition(flat(stacks), 2))[:4])
    assert result.measurements["chosen"] == best.tolist()
    expected = np.average(flat(stacks)[best], axis=0, weights=weights[best])
    np.testing.assert_allclose(model(result.tensors), expected, rtol=1e-12)


def test_multi_krum_chooses_all_but_the_faulty_by_default():
    result = multi_krum(column(0, 1, 2, 3, 1000), np.ones(5), f=1)
    assert result.measurements["chosen"] == [0, 1, 2, 3]
    assert result.tensors["x"] == 1.5


@pytest.mark.parametrize(("num_clients", "f"), [(3, 0), (7, 1), (12, 2), (16, 3)])
def test_bulyan_is_its_definition(num_clients, f):
    stacks = random_stacks(num_clients, "float64", seed=f)
    result = bulyan(stacks, np.ones(num_clients), f=f)
    chosen, expected = bulyan_by_definition(flat(stacks), f)
    assert result.measurements["chosen"] == chosen
    assert result.measurements["averaged_in_each_cell"] == num_clients - 4 * f
    np.testing.assert_allclose(model(result.tensors), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e200])
def test_a_client_that_is_not_finite_is_never_chosen(bad):
    stacks = random_stacks(8, "float64")
    spoilt = {name: stack.copy() for name, stack in stacks.items()}
    spoilt["dense/bias"][0, 3] = bad
    for rule in (krum, multi_krum, bulyan):
        result = rule(spoilt, np.ones(8), f=1)
        assert 0 not in result.measurements["chosen"]
        assert result.measurements["nonfinite_clients"] == [0]
        assert result.measurements["nonfinite_result"] == 0
        assert np.isfinite(model(result.tensors)).all()
    assert krum(spoilt, np.ones(8), f=1).measurements["scores"]["0"] is None


def test_more_clients_that_are_not_finite_than_the_rules_withstand():
    stacks = column(1, 2, 3, NAN, NAN, NAN, NAN)
    with pytest.raises(CohortError, match="4 of 7 clients have values that are not finite"):
        krum(stacks, np.ones(7), f=1)
    with pytest.raises(CohortError, match="expected 5 clients that can be chosen, found"):
        bulyan(stacks, np.ones(7), f=1)


def test_a_huge_client_does_not_blur_the_distances_of_the_others():
    stacks = random_stacks(9, "float64")
    shifted = {name: stack + 1e6 for name, stack in stacks.items()}
    for stack in shifted.values():
        stack[0] = 1e30
    scores = krum(shifted, np.ones(9), f=2).measurements["scores"]
    expected = scores_by_definition(flat(shifted), 2)
    assert list(scores.values())[1:] == pytest.approx(expected[1:], rel=1e-9)


def test_clients_of_weight_0_are_not_seen():
    stacks = random_stacks(9)
    weights = np.ones(9)
    weights[[2, 5]] = 0
    kept = [0, 1, 3, 4, 6, 7, 8]
    few = {name: stack[kept] for name, stack in stacks.items()}
    for rule in (krum, multi_krum, bulyan):
        whole, part = rule(stacks, weights, f=1), rule(few, np.ones(7), f=1)
        chosen = [kept[row] for row in part.measurements["chosen"]]
        assert whole.measurements["chosen"] == chosen
        np.testing.assert_array_equal(model(whole.tensors), model(part.tensors))


def test_equal_clients_come_back_exactly():
    stacks = {name: np.repeat(s[:1], 7, axis=0) for name, s in random_stacks(7).items()}
    for rule in (krum, multi_krum, bulyan):
        result = rule(stacks, np.arange(1.0, 8), f=1)
        np.testing.assert_array_equal(model(result.tensors), flat(stacks)[0])


@pytest.mark.parametrize(
    ("rule", "parameters", "message"),
    [
        (krum, {"f": 2}, r"Krum needs n ≥ 2f \+ 3: at least 7 clients, found 6"),
        (multi_krum, {"f": 2}, r"Multi-Krum needs n ≥ 2f \+ 3 .*: at least 7 clients, found 6"),
        (multi_krum, {"f": 1, "m": 7}, r"at least 7 clients, found 6"),
        (bulyan, {"f": 1}, r"Bulyan needs n ≥ 4f \+ 3: at least 7 clients, found 6"),
    ],
)
def test_too_few_clients(rule, parameters, message):
    with pytest.raises(CohortError, match=message):
        rule(random_stacks(6), np.ones(6), **parameters)


@pytest.mark.parametrize("f", [-1, 0.5, "a", None])
def test_f_outside_its_range(f):
    with pytest.raises(InvalidArgumentError, match="f: expected an integer from 0, found"):
        krum(random_stacks(6), np.ones(6), f=f)


def test_m_outside_its_range():
    with pytest.raises(InvalidArgumentError, match="m: expected an integer from 1, or n-f"):
        multi_krum(random_stacks(6), np.ones(6), m=0)
