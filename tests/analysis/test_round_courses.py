"""Courses over rounds, by hand; a damaged round leaves a gap and no more."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from fedviz.analysis.courses import metric_courses
from fedviz.analysis.round_courses import (
    MOST_LINES,
    foremost,
    round_courses,
    tensor_over_rounds,
)
from fedviz.analysis.statistics import movement_by_round, summarise_round
from fedviz.dataset import WeightDataset
from fedviz.records import Metric
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter

NAN = np.nan
# The server model is (3, 4) at first; each round's aggregate is the next one's server model.
SERVERS = [[3, 4], [3, 5], [6, 8]]
AGGREGATES = [[3, 5], [6, 8], [6, 9]]
CLIENTS = [([3, 5], [3, 7]), ([3, 5], [9, 13]), ([6, 8], [6, 10])]


def model(values):
    return [np.array(values, "f4")]


def summarise(round_, aggregate):
    return summarise_round(round_, round_.aggregates[aggregate] if aggregate else None)


@pytest.fixture
def path(tmp_path):
    """Three rounds of two clients; the second round's clients are damaged on request."""
    path = tmp_path / "a.h5"
    signature = Signature((TensorSpec("w", (2,), "float32"),))
    with WeightDatasetWriter(path, signature) as writer:
        for server, mean, clients in zip(SERVERS, AGGREGATES, CLIENTS, strict=True):
            entries = [ClientEntry("a", 1), ClientEntry("b", 1)]
            with writer.round(entries, model(server)) as round_:
                for client, values in zip("ab", clients, strict=True):
                    round_.write_client(client, model(values))
                round_.write_aggregate("mean", model(mean), aggregator="mean", weighting="uniform")
                round_.write_metrics([Metric("aggregate", "mean", "accuracy", 0.5)])
    return path


def damage(path):
    with h5py.File(path, "r+") as file:
        name = sorted(file["rounds"])[1]
        del file["rounds"][name]["clients"]


def test_every_course_by_hand(path):
    with WeightDataset(path) as dataset:
        found = round_courses(dataset, "mean", summarise)
    assert (found.rounds, found.tensors, found.clients) == ((0, 1, 2), ("w",), ("a", "b"))
    start = 5.0
    assert found.drift[:, 0] == pytest.approx([1 / start, 1.0, np.sqrt(34) / start])
    assert found.moved[:, 0] == pytest.approx([1 / 5, np.sqrt(18) / np.sqrt(34), 1 / 10])
    assert found.client_updates == pytest.approx(np.array([[1, 3], [0, 10], [0, 2]]))
    assert found.updates[:, 0] == pytest.approx([2, 5, 1])
    # In the first round the clients are 1 apart from their mean in one of two cells.
    rms = np.sqrt((9 + 25) / 2)
    assert found.disagreement[0, 0] == pytest.approx(np.sqrt(1 / 2) / rms)
    assert found.damaged == ()


def test_without_reading_clients(path):
    with WeightDataset(path) as dataset:
        found = round_courses(dataset, None, None)
    assert found.drift[:, 0] == pytest.approx([0, 1 / 5, 1])
    assert np.isnan(found.moved).all()
    assert np.isnan(found.client_updates).all()


def test_a_damaged_round_leaves_a_gap(path):
    damage(path)
    with WeightDataset(path) as dataset:
        found = round_courses(dataset, "mean", summarise)
        ((number, message),) = found.damaged
        assert (number, "rounds/000001/clients is missing" in message) == (1, True)
        assert np.isfinite(found.drift[:, 0]).tolist() == [True, False, True]
        np.testing.assert_equal(found.client_updates, [[1, 3], [NAN, NAN], [0, 2]])
        small = tensor_over_rounds(dataset, "w", "mean", "aggregate", (0, 1, 2))
        assert [panel.matrix is None for panel in small.panels] == [False, True, False]
        assert small.panels[2].matrix.values.tolist() == [[6, 9]]
        assert small.limit == pytest.approx(9, rel=0.02)
        np.testing.assert_equal(metric_courses(dataset).aggregate, [0.5, NAN, 0.5])
        assert movement_by_round(dataset.rounds, "w", "mean")[0] == 1.0


def test_differences_over_the_rounds(path):
    with WeightDataset(path) as dataset:
        found = tensor_over_rounds(dataset, "w", "mean", "aggregate-server", (0, 2))
        none = tensor_over_rounds(dataset, "w", "median", "aggregate", (0, 2))
    assert [panel.matrix.values.tolist() for panel in found.panels] == [[[0, 1]], [[0, 1]]]
    assert [panel.matrix for panel in none.panels] == [None, None]


def test_of_many_courses_the_highest_and_the_selected_one_are_left():
    rng = np.random.default_rng(0)
    values = rng.random((5, 100))
    values[3, 7] = 9.0
    values[:, 11] = -1.0
    values[2] = np.nan
    names = [f"t{i}" for i in range(100)]
    found = foremost(values, names, "t11")
    assert len(found.names) == MOST_LINES
    assert {"t7", "t11"} <= set(found.names)
    assert list(found.names) == sorted(found.names, key=lambda name: int(name[1:]))
    tops = np.nanmax(values, axis=0)
    left_out = [i for i, name in enumerate(names) if name not in found.names]
    shown = [i for i, name in enumerate(names) if name in found.names and name != "t11"]
    assert tops[left_out].max() <= tops[shown].min()
    np.testing.assert_array_equal(found.values[:, found.names.index("t7")], values[:, 7])
    assert np.isnan(found.band[:, 2]).all()
    np.testing.assert_allclose(found.band[:, 0], np.percentile(values[0], [5, 95]))


def test_a_few_courses_are_all_left():
    values = np.array([[1.0, 2.0], [3.0, 4.0]])
    found = foremost(values, ["a", "b"], "a")
    assert (found.names, found.band) == (("a", "b"), None)
    assert found.values is values
