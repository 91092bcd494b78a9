from __future__ import annotations

import numpy as np
import pytest

from fedviz.analysis.aggregates import MOST_TENSORS, compare_aggregates
from fedviz.analysis.statistics import summarise_round
from fedviz.dataset import Round, WeightDataset
from fedviz.records import Metric
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter

SIGNATURE = Signature((TensorSpec("w", (2,), "float32"), TensorSpec("n", (), "int32")))


def model(*values, count=0):
    return [np.array(values, "f4"), np.int32(count)]


def write_aggregate(round_, name, values, weighting="num_examples"):
    round_.write_aggregate(name, values, aggregator="mean", weighting=weighting)


@pytest.fixture
def dataset(tmp_path):
    """Two clients, (0, 4) and (6, 4), that start from (0, 1)."""
    with WeightDatasetWriter(tmp_path / "a.h5", SIGNATURE) as writer:
        entries = [ClientEntry("a", 1), ClientEntry("b", 1)]
        with writer.round(entries, model(0, 1, count=9)) as round_:
            round_.write_client("a", model(0, 4))
            round_.write_client("b", model(6, 4))
            write_aggregate(round_, "mean", model(3, 4))
            write_aggregate(round_, "mean-uniform", model(0, 1, count=5), "uniform")
            scores = [("client", "a", 0.25), ("aggregate", "mean", 0.75), ("server", "", 0.125)]
            round_.write_metrics([Metric(r, s, "accuracy", v) for r, s, v in scores])
    with WeightDataset(tmp_path / "a.h5") as dataset:
        yield dataset


@pytest.fixture
def fresh(tmp_path):
    """An aggregate that is not saved yet: it lies in a dataset of its own."""
    with WeightDatasetWriter(tmp_path / "b.h5", SIGNATURE) as writer, writer.round([]) as round_:
        write_aggregate(round_, "mean-uniform", model(0, 3), "uniform")
        round_.write_metrics([Metric("aggregate", "mean-uniform", "accuracy", 0.5)])
    with WeightDataset(tmp_path / "b.h5") as dataset:
        yield dataset.round().aggregates["mean-uniform"]


def compared(round_, looked_at, fresh=None):
    return compare_aggregates(round_, looked_at, fresh, summarise_round(round_, looked_at))


def test_without_a_summary_no_client_is_read(dataset, monkeypatch):
    def read(*arguments):
        raise AssertionError(f"a client was read: {arguments}")

    monkeypatch.setattr(Round, "read_stack", read)
    round_ = dataset.round()
    found = compare_aggregates(round_, round_.aggregates["mean"], None, None)
    assert (found.distances, found.medians) == (None, None)
    assert found.tensors == ("w",)
    assert found.moved == pytest.approx([np.sqrt(18)])


def test_saved_aggregates_by_hand(dataset):
    round_ = dataset.round()
    found = compared(round_, round_.aggregates["mean"])
    # From (0, 1) to (3, 4), over a norm of 1; the integer does not count.
    moved = np.sqrt(9 + 9)
    rows = [(r.name, r.weighting, r.score, r.moved, r.saved) for r in found.rows]
    assert rows == [
        ("mean", "num_examples", 0.75, pytest.approx(moved), True),
        ("mean-uniform", "uniform", None, 0.0, True),
    ]
    assert (found.name, found.metric, found.server) == ("mean", "accuracy", 0.125)
    assert found.client_ids == ("a", "b")
    np.testing.assert_equal(found.clients, [0.25, np.nan])
    assert found.tensors == ("w",)
    assert found.distances.tolist() == [[3 / 5], [3 / 5]]
    assert found.medians.tolist() == [3 / 5]
    assert found.moved == pytest.approx([moved])


def test_a_fresh_one_takes_the_place_of_the_saved_one(dataset, fresh):
    found = compared(dataset.round(), fresh, fresh)
    assert [(r.name, r.score, r.saved) for r in found.rows] == [
        ("mean", 0.75, True),
        ("mean-uniform", 0.5, False),
    ]
    assert found.rows[1].moved == 2.0
    assert found.name == "mean-uniform"
    assert found.distances.tolist() == [[1 / 3], [pytest.approx(np.sqrt(37) / 3)]]


def test_without_an_aggregate_and_a_server_model(tmp_path):
    writer = WeightDatasetWriter(tmp_path / "b.h5", SIGNATURE)
    with writer, writer.round([ClientEntry("a")]) as round_:
        round_.write_client("a", model(1, 2))
        write_aggregate(round_, "mean", model(1, 2))
    with WeightDataset(tmp_path / "b.h5") as dataset:
        found = compared(dataset.round(), None)
    assert (found.name, found.metric, found.server) == (None, None, None)
    assert np.isnan(found.rows[0].moved)
    assert (found.tensors, found.distances, found.medians) == ((), None, None)


def test_the_tensors_that_clients_lie_furthest_from_are_shown(tmp_path):
    count = MOST_TENSORS + 5
    specs = tuple(TensorSpec(f"t{i}", (1,), "float32") for i in range(count))
    # The even ones lie further from the aggregate (1) than the odd ones.
    values = [np.array([101.0 + i if i % 2 == 0 else 1.0], "f4") for i in range(count)]
    writer = WeightDatasetWriter(tmp_path / "c.h5", Signature(specs))
    with writer, writer.round([ClientEntry("a")]) as round_:
        round_.write_client("a", values)
        write_aggregate(round_, "mean", [np.ones(1, "f4")] * count)
    with WeightDataset(tmp_path / "c.h5") as dataset:
        found = compared(dataset.round(), dataset.round().aggregates["mean"])
    even = [f"t{i}" for i in range(0, count, 2)]
    assert len(found.tensors) == MOST_TENSORS
    assert [n for n in found.tensors if n in even] == even
    assert list(found.tensors) == sorted(found.tensors, key=lambda n: int(n[1:]))
    assert found.distances[0, 0] == 100.0
