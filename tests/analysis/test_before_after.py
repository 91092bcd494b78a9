"""One tensor before and after averaging, by hand."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fedviz.analysis.before_after import before_after, cell_story
from fedviz.dataset import WeightDataset
from fedviz.errors import UnknownNameError
from fedviz.signature import Signature
from fedviz.writer import ClientEntry, WeightDatasetWriter

SERVER = [[0, 1], [2, 3]]
FIRST = [[1, 1], [2, 3]]
SECOND = [[0, 1], [6, -3]]
# Weighted 1 to 3.
MEAN = [[0.25, 1], [5, -1.5]]


@pytest.fixture
def round_of(tmp_path):
    """A round of two clients with 1 and 3 examples."""
    opened = []

    def build(first=FIRST, second=SECOND, server=SERVER, mean=MEAN, dtype="f4"):
        def model(values):
            return None if values is None else {"w": np.array(values, dtype)}

        path = tmp_path / f"{len(opened)}.h5"
        signature = Signature.of(model(first))
        entries = [ClientEntry("a", 1), ClientEntry("b", 3)]
        with (
            WeightDatasetWriter(path, signature) as writer,
            writer.round(entries, model(server)) as round_,
        ):
            round_.write_client("a", model(first))
            round_.write_client("b", model(second))
            if mean is not None:
                for weighting in ("num_examples", "uniform"):
                    round_.write_aggregate(
                        weighting, model(mean), aggregator="mean", weighting=weighting
                    )
        opened.append(WeightDataset(path))
        return opened[-1].round()

    yield build
    for dataset in opened:
        dataset.close()


def roles(found):
    return [(p.role, p.client) for p in found.panels]


def test_all_six_panels_by_hand(round_of):
    found = before_after(
        round_of(), "w", ("a", "b"), "num_examples", percentile=100, magnified=False
    )
    assert roles(found) == [
        ("server", ""),
        ("client", "a"),
        ("client", "b"),
        ("aggregate", ""),
        ("client-aggregate", "a"),
        ("aggregate-server", ""),
    ]
    shown = [p.matrix.values.tolist() for p in found.panels]
    assert shown[:4] == [SERVER, FIRST, SECOND, MEAN]
    assert shown[4] == [[0.75, 0], [-3, 4.5]]
    assert shown[5] == [[0.25, 0], [3, -4.5]]
    assert found.limit == 6.0
    assert found.panels[1].rms == pytest.approx(np.sqrt(15 / 4), rel=1e-15)
    norm = np.sqrt(0.25**2 + 1 + 25 + 1.5**2)
    assert found.moved == pytest.approx(np.sqrt(0.0625 + 9 + 20.25) / np.sqrt(14), rel=1e-12)
    assert found.distances == (
        pytest.approx(np.sqrt(0.5625 + 9 + 20.25) / norm, rel=1e-12),
        pytest.approx(np.sqrt(0.0625 + 1 + 2.25) / norm, rel=1e-12),
    )
    assert found.nonfinite == (0, 0)
    assert found.most_moved == (1, 1)


def test_differences_share_one_magnification(round_of):
    near = [[0.0625, 1], [2, 3]]
    found = before_after(round_of(near, near, SERVER, near), "w", ("a", "b"), "uniform")
    factors = {p.role: p.magnification for p in found.panels}
    # The 99.5th percentile of eight differences, one of them 1/16, is 0.0603; the limit is 3.
    assert factors["aggregate-server"] == factors["client-aggregate"] == 32
    assert {factors[r] for r in ("server", "client", "aggregate")} == {1}
    plain = before_after(
        round_of(near, near, SERVER, near), "w", ("a", "b"), "uniform", magnified=False
    )
    assert {p.magnification for p in plain.panels} == {1}


def test_the_limit_is_rounded_up_to_two_digits(round_of):
    found = before_after(
        round_of([[3.01, 0], [0, 0]], mean=None, server=None, second=[[0, 0], [0, 0]]),
        "w",
        ("a", "a"),
        None,
        percentile=100,
    )
    assert found.limit == 3.1


def test_without_an_aggregate_the_client_is_compared_with_the_server_model(round_of):
    found = before_after(round_of(mean=None), "w", ("b", "b"), None)
    assert roles(found) == [("server", ""), ("client", "b"), ("client-server", "b")]
    assert found.panels[2].matrix.values.tolist() == [[0, 0], [4, -6]]
    assert np.isnan([found.moved, *found.distances]).all()
    # The largest value of the server model.
    assert found.most_moved == (1, 1)


def test_without_a_server_model(round_of):
    found = before_after(round_of(server=None), "w", ("a", "b"), "uniform")
    assert roles(found) == [
        ("client", "a"),
        ("client", "b"),
        ("aggregate", ""),
        ("client-aggregate", "a"),
    ]
    assert np.isnan(found.moved)
    assert found.distances[0] > 0


def test_nonfinite_cells_are_marked_and_leave_the_scale_alone(round_of):
    spoilt = [[np.nan, np.inf], [2, 3]]
    found = before_after(round_of(spoilt, mean=spoilt), "w", ("a", "b"), "uniform", percentile=100)
    client = found.panels[1].matrix
    assert client.nan.tolist() == [[True, False], [False, False]]
    assert client.infinite.tolist() == [[False, True], [False, False]]
    assert found.nonfinite == (2, 0)
    assert found.limit == 6.0
    # ∞ - ∞ is no number.
    difference = {p.role: p.matrix for p in found.panels}["client-aggregate"]
    assert difference.nan.tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("dtype", ["f2", "f8", ml_dtypes.bfloat16])
def test_other_precisions(round_of, dtype):
    found = before_after(round_of(dtype=dtype), "w", ("a", "b"), "uniform", percentile=100)
    assert found.limit == 6.0
    assert {p.role: p.matrix.values.tolist() for p in found.panels}["aggregate-server"] == [
        [0.25, 0],
        [3, -4.5],
    ]


@pytest.mark.parametrize("dtype", ["u1", "i8", "?"])
def test_counters_and_masks_are_subtracted_as_numbers(round_of, dtype):
    server, first = [[0, 1], [1, 1]], [[1, 0], [1, 1]]
    found = before_after(
        round_of(first, server, server, server, dtype), "w", ("a", "b"), "uniform", magnified=False
    )
    difference = {p.role: p.matrix.values.tolist() for p in found.panels}["client-aggregate"]
    assert difference == [[1, -1], [0, 0]]


def test_unknown_names_are_said(round_of):
    round_ = round_of()
    with pytest.raises(UnknownNameError, match="there is no client z; there are a, b"):
        before_after(round_, "w", ("a", "z"), None)
    with pytest.raises(UnknownNameError, match="there is no tensor v; there are w"):
        before_after(round_, "v", ("a", "b"), None)


def test_the_story_of_one_cell(round_of):
    story = cell_story(round_of(), "w", (1, 0), ("a", "b"), "num_examples")
    assert story.index == (1, 0)
    assert dict(story.values) == {"server": 2.0, "client a": 2.0, "client b": 6.0, "aggregate": 5.0}
    assert story.clients == ("a", "b")
    # Shares 1/4 and 3/4 of moves by 0 and 4.
    assert story.contributions.tolist() == [0.0, 3.0]
    assert story.total == 3.0


def test_a_uniform_aggregate_has_equal_shares(round_of):
    story = cell_story(round_of(), "w", (1, 0), ("b", "b"), "uniform")
    assert story.contributions.tolist() == [0.0, 2.0]
    assert [name for name, _ in story.values] == ["server", "client b", "aggregate"]


def test_a_story_without_a_server_model_has_no_moves(round_of):
    story = cell_story(round_of(server=None), "w", (0, 0), ("a", "b"), None)
    assert np.isnan(story.contributions).all()
    assert np.isnan(story.total)
    assert dict(story.values) == {"client a": 1.0, "client b": 0.0}
