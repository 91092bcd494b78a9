from __future__ import annotations

import numpy as np
import pytest

from fedviz.analysis.courses import aggregate_scores, client_scores, metric_courses, metric_of
from fedviz.dataset import WeightDataset
from fedviz.records import Metric
from fedviz.signature import Signature
from fedviz.writer import ClientEntry, WeightDatasetWriter

NAN = np.nan


@pytest.fixture
def dataset_of(tmp_path):
    opened = []

    def build(*rounds):
        path = tmp_path / "a.h5"
        with WeightDatasetWriter(path, Signature(())) as writer:
            for clients, metrics in rounds:
                with writer.round([ClientEntry(c) for c in clients]) as round_:
                    for client in clients:
                        round_.write_client(client, [])
                    round_.write_metrics([Metric(*metric) for metric in metrics])
        opened.append(WeightDataset(path))
        return opened[-1]

    yield build
    for dataset in opened:
        dataset.close()


FIRST = (
    ["a", "b"],
    [
        ("server", "", "accuracy", 0.1),
        ("client", "a", "accuracy", 0.3),
        ("client", "b", "accuracy", 0.4),
        ("client", "a", "loss", 2.0),
        ("aggregate", "mean", "accuracy", 0.5),
        ("aggregate", "median", "accuracy", 0.6),
    ],
)
SECOND = (["b", "c"], [("client", "c", "accuracy", 0.9)])


def test_courses_over_two_rounds_with_other_clients(dataset_of):
    courses = metric_courses(dataset_of(FIRST, SECOND))
    assert (courses.metric, courses.rounds) == ("accuracy", (0, 1))
    np.testing.assert_equal(courses.clients, [[0.3, 0.4, NAN], [NAN, NAN, 0.9]])
    np.testing.assert_equal(courses.server, [0.1, NAN])
    np.testing.assert_equal(courses.aggregate, [0.5, NAN])


def test_loss_where_there_is_no_accuracy(dataset_of):
    dataset = dataset_of((["a"], [("client", "a", "loss", 2.0)]))
    assert metric_of(dataset.round()) == "loss"
    assert metric_courses(dataset).clients.tolist() == [[2.0]]


def test_nothing_measured(dataset_of):
    dataset = dataset_of((["a"], []), ([], [("client", "x", "speed", 1.0)]))
    assert [metric_of(r) for r in dataset.rounds] == [None, None]
    assert metric_courses(dataset) is None


def test_no_rounds(dataset_of):
    assert metric_courses(dataset_of()) is None


def test_scores_of_one_round(dataset_of):
    dataset = dataset_of(FIRST, SECOND)
    assert client_scores(dataset.round(0), "accuracy") == {"a": 0.3, "b": 0.4}
    np.testing.assert_equal(client_scores(dataset.round(0), "loss"), {"a": 2.0, "b": NAN})
    assert aggregate_scores(dataset.round(0), "accuracy") == {"mean": 0.5, "median": 0.6}
    assert aggregate_scores(dataset.round(1), "accuracy") == {}
