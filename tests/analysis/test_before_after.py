"""One tensor before and after averaging, by hand."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fedviz.analysis.before_after import HeatmapView, before_after
from fedviz.analysis.heatmap import Plane, layout_for
from fedviz.analysis.movers import movers
from fedviz.analysis.reduction import reduce_cells
from fedviz.analysis.statistics import relative_distance
from fedviz.dataset import WeightDataset
from fedviz.errors import InvalidArgumentError, UnknownNameError
from fedviz.signature import Signature
from fedviz.writer import ClientEntry, WeightDatasetWriter

SERVER = [[0, 1], [2, 3]]
FIRST = [[1, 1], [2, 3]]
SECOND = [[0, 1], [6, -3]]
# Weighted 1 to 3.
MEAN = [[0.25, 1], [5, -1.5]]

FULL = HeatmapView(percentile=100)
PLAIN = HeatmapView(is_magnified=False)


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
        round_of(), "w", ("a", "b"), "num_examples", HeatmapView(percentile=100, is_magnified=False)
    )
    assert roles(found) == [
        ("server", ""),
        ("client", "a"),
        ("other", "b"),
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
        round_of(near, near, SERVER, near),
        "w",
        ("a", "b"),
        "uniform",
        HeatmapView(is_magnified=False),
    )
    assert {p.magnification for p in plain.panels} == {1}


def test_the_limit_is_rounded_up_to_two_digits(round_of):
    found = before_after(
        round_of([[3.01, 0], [0, 0]], mean=None, server=None, second=[[0, 0], [0, 0]]),
        "w",
        ("a", "a"),
        None,
        FULL,
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
        ("other", "b"),
        ("aggregate", ""),
        ("client-aggregate", "a"),
    ]
    assert np.isnan(found.moved)
    assert found.distances[0] > 0


def test_nonfinite_cells_are_marked_and_leave_the_scale_alone(round_of):
    spoilt = [[np.nan, np.inf], [2, 3]]
    found = before_after(
        round_of(spoilt, mean=spoilt), "w", ("a", "b"), "uniform", HeatmapView(percentile=100)
    )
    client = found.panels[1].matrix
    assert client.nan.tolist() == [[True, False], [False, False]]
    assert client.positive_infinite.tolist() == [[False, True], [False, False]]
    assert found.nonfinite == (2, 0)
    assert found.limit == 6.0
    # ∞ - ∞ is no number.
    difference = {p.role: p.matrix for p in found.panels}["client-aggregate"]
    assert difference.nan.tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("dtype", ["f2", "f8", ml_dtypes.bfloat16])
def test_other_precisions(round_of, dtype):
    found = before_after(
        round_of(dtype=dtype), "w", ("a", "b"), "uniform", HeatmapView(percentile=100)
    )
    assert found.limit == 6.0
    assert {p.role: p.matrix.values.tolist() for p in found.panels}["aggregate-server"] == [
        [0.25, 0],
        [3, -4.5],
    ]


@pytest.mark.parametrize("dtype", ["u1", "i8", "?"])
def test_counters_and_masks_are_subtracted_as_numbers(round_of, dtype):
    server, first = [[0, 1], [1, 1]], [[1, 0], [1, 1]]
    found = before_after(
        round_of(first, server, server, server, dtype),
        "w",
        ("a", "b"),
        "uniform",
        HeatmapView(is_magnified=False),
    )
    difference = {p.role: p.matrix.values.tolist() for p in found.panels}["client-aggregate"]
    assert difference == [[1, -1], [0, 0]]


def test_unknown_names_are_said(round_of):
    round_ = round_of()
    with pytest.raises(UnknownNameError, match="there is no client z; there are a, b"):
        before_after(round_, "w", ("a", "z"), None)
    with pytest.raises(UnknownNameError, match="there is no tensor v; there are w"):
        before_after(round_, "v", ("a", "b"), None)


def test_picked_panels_and_the_spread_by_hand(round_of):
    view = HeatmapView(roles=("other-server", "spread", "client"), percentile=100)
    found = before_after(round_of(), "w", ("a", "b"), None, view)
    assert roles(found) == [("client", "a"), ("other-server", "b"), ("spread", "")]
    # Half the distance between two clients.
    assert found.panels[2].matrix.values.tolist() == [[0.5, 0], [2, 3]]
    assert found.panels[2].limit == 3.0


def test_a_scale_by_hand_and_one_of_each_panel(round_of):
    round_ = round_of()
    found = before_after(
        round_, "w", ("a", "b"), "uniform", HeatmapView(limit=2.5, is_magnified=False)
    )
    assert {p.limit for p in found.panels} == {found.limit} == {2.5}
    server = found.panels[0].histogram
    assert (server.below, server.above, server.clipped) == (0, 1, 0.25)
    own = before_after(
        round_, "w", ("a", "b"), "uniform", HeatmapView(percentile=100, is_shared=False)
    )
    assert {p.role: p.limit for p in own.panels} == {
        "server": 3.0,
        "client": 3.0,
        "other": 6.0,
        "aggregate": 5.0,
        "client-aggregate": 4.5,
        "aggregate-server": 4.5,
    }
    with pytest.raises(InvalidArgumentError, match="expected a limit above 0, found -1"):
        before_after(round_, "w", ("a", "b"), None, HeatmapView(limit=-1))


class TestLarge:
    """A tensor that goes by in several bands, against NumPy over all of it."""

    SHAPE = (1100, 530)

    @pytest.fixture
    def large(self, round_of):
        rng = np.random.default_rng(3)
        server, first, second, mean = rng.normal(0, 0.1, (4, *self.SHAPE)).astype("f4")
        first[1000, 3], first[7, 8], first[8, 9] = 9.0, np.nan, -np.inf
        return round_of(first, second, server, mean), server, first, second, mean

    def test_every_number_is_that_of_the_whole(self, large):
        round_, server, first, second, mean = large
        found = before_after(round_, "w", ("a", "b"), "uniform", HeatmapView(limit=0.25))
        panels = {p.role: p for p in found.panels}
        assert panels["server"].matrix.steps == (5, 3)
        for role, values in (("server", server), ("client", first), ("other", second)):
            expected = reduce_cells(values, 256, "signed-extreme").values
            np.testing.assert_array_equal(panels[role].matrix.values, expected)
            finite = values[np.isfinite(values)].astype("f8")
            bars = panels[role].histogram
            assert (bars.below, bars.above) == ((finite < -0.25).sum(), (finite > 0.25).sum())
            assert panels[role].rms == pytest.approx(np.sqrt(np.mean(finite**2)), rel=1e-12)
            assert bars.total == values.size
        assert found.nonfinite == (2, 0)
        assert found.moved == pytest.approx(relative_distance(mean, server), rel=1e-6)
        assert found.distances[0] == pytest.approx(relative_distance(first, mean), rel=1e-6)
        moves = np.abs(mean - server)
        assert found.most_moved == np.unravel_index(moves.argmax(), moves.shape)

    def test_means_of_blocks(self, large):
        round_, server, *_ = large
        view = HeatmapView(roles=("server",), how="mean")
        (panel,) = before_after(round_, "w", ("a", "b"), None, view).panels
        assert panel.matrix.steps == (3, 2)
        assert panel.matrix.values[2, 5] == pytest.approx(server[6:9, 10:12].mean(), rel=1e-5)

    @pytest.mark.parametrize(
        ("window", "steps"),
        [
            ((0, 512, 0, 270), (1, 1)),
            ((0, 376, 0, 376), (1, 1)),
            ((0, 512, 0, 512), (1, 2)),
            ((0, 513, 0, 40), (2, 1)),
        ],
    )
    def test_one_panel_is_drawn_cell_by_cell_while_it_weighs_little(self, large, window, steps):
        view = HeatmapView(roles=("server",), window=window)
        (panel,) = before_after(large[0], "w", ("a", "b"), None, view).panels
        assert panel.matrix.steps == steps

    def test_a_window_has_every_cell_and_the_colours_of_the_whole(self, large):
        round_, _, first, *_ = large
        whole = before_after(round_, "w", ("a", "b"), "uniform")
        view = HeatmapView(window=(990, 1090, 0, 200))
        found = before_after(round_, "w", ("a", "b"), "uniform", view, whole)
        assert found.limits == whole.limits
        assert not found.is_whole
        matrix = found.panels[1].matrix
        assert (matrix.origin, matrix.steps, matrix.extent) == ((990, 0), (1, 1), (100, 200))
        np.testing.assert_array_equal(matrix.values, first[990:1090, :200])
        again = before_after(round_, "w", ("a", "b"), "uniform", view)
        assert again.limits == whole.limits
        outside = HeatmapView(window=(0, 1101, 0, 5))
        with pytest.raises(InvalidArgumentError, match=r"\[0, 1101, 0, 5\] is not within"):
            before_after(round_, "w", ("a", "b"), None, outside)


def test_a_plane_of_a_tensor_of_rank_five(round_of):
    values = np.arange(2 * 3 * 4 * 2 * 5, dtype="f4").reshape(2, 3, 4, 2, 5)
    round_ = round_of(values, values, values, values)
    view = HeatmapView(roles=("server",), plane=Plane(2, 1, (1, 0, 0, 1, 3)))
    found = before_after(round_, "w", ("a", "b"), None, view)
    np.testing.assert_array_equal(found.panels[0].matrix.values, values[1, :, :, 1, 3].T)
    assert found.layout.axis_titles == ("axis 2", "axis 1")
    assert found.most_moved == (1, 2, 3, 1, 3)
    with pytest.raises(InvalidArgumentError, match="no plane of a tensor"):
        before_after(round_, "w", ("a", "b"), None, HeatmapView(plane=Plane(0, 0, (0,) * 5)))


class TestMovers:
    def test_one_cell(self, round_of):
        found = ask(round_of(), (1, 2, 0, 1), "num_examples")
        assert found.indices == ((1, 0), (1, 0))
        assert dict(found.values) == {
            "server": 2.0,
            "client a": 2.0,
            "client b": 6.0,
            "aggregate": 5.0,
        }
        assert found.clients == ("a", "b")
        # Shares 1/4 and 3/4 of moves by 0 and 4.
        assert found.contributions.tolist() == [0.0, 3.0]
        assert found.total == 3.0

    def test_an_aggregate_that_is_another_rule_s_is_told_apart(self, round_of):
        # The uniform mean would be 4; the file's aggregate is 5, as the weighted one is.
        assert ask(round_of(), (1, 2, 0, 1), "uniform").aggregate_move == 3.0
        assert ask(round_of(), (1, 2, 0, 1), "num_examples").aggregate_move is None
        assert ask(round_of(), (0, 2, 0, 2), "uniform").aggregate_move is None

    def test_a_uniform_aggregate_has_equal_shares(self, round_of):
        assert ask(round_of(), (1, 2, 0, 1), "uniform").contributions.tolist() == [0.0, 2.0]

    def test_several_cells_along_the_mean_s_move(self, round_of):
        found = ask(round_of(), (0, 2, 0, 2), "num_examples")
        moves = np.array([[0.25, 0, 0, 0], [0, 0, 3, -4.5]])
        whole = moves.sum(axis=0)
        length = np.sqrt(0.0625 + 9 + 20.25)
        assert found.contributions == pytest.approx(moves @ whole / length, rel=1e-12)
        assert found.total == pytest.approx(length, rel=1e-12)
        assert (found.num_cells, found.indices) == (4, ((0, 0), (1, 1)))
        assert dict(found.values)["client b"] == 1.0

    def test_without_a_server_model_nothing_moved(self, round_of):
        found = ask(round_of(server=None), (0, 1, 0, 1), None)
        assert np.isnan(found.contributions).all()
        assert np.isnan(found.total)
        assert dict(found.values) == {"client a": 1.0, "client b": 0.0}

    def test_a_cell_of_a_kernel_s_tile(self, round_of):
        values = np.arange(3 * 3 * 2 * 4, dtype="f4").reshape(3, 3, 2, 4)
        round_ = round_of(values + 1, values, values, values)
        layout = layout_for(values.shape, "kernel")
        row, column = layout.cell_of((2, 1, 1, 3))
        cells = (row, row + 1, column, column + 1)
        found = movers(round_, "w", layout, cells, ("a", "b"), "num_examples")
        assert found.indices[0] == (2, 1, 1, 3)
        assert found.contributions.tolist() == [0.25, 0.0]
        gap = (3, 4, 3, 4)
        with pytest.raises(InvalidArgumentError, match="no value of the tensor in the cells"):
            movers(round_, "w", layout, gap, ("a", "b"), None)

    def test_too_many_cells_are_refused(self, round_of):
        with pytest.raises(InvalidArgumentError, match="16,384 are the most"):
            ask(round_of(), (0, 200, 0, 200), None)


def ask(round_, cells, aggregate):
    layout = layout_for((2, 2))
    return movers(round_, "w", layout, cells, ("a", "b"), aggregate)
