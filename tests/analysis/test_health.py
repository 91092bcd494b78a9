from __future__ import annotations

import numpy as np
import pytest

from fedviz.analysis.health import round_health, skewed_clients
from fedviz.analysis.statistics import summarise_round
from fedviz.dataset import WeightDataset
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter

SIGNATURE = Signature(
    (
        TensorSpec("kernel", (2,), "float32"),
        TensorSpec("count", (), "int64"),
        TensorSpec("bias", (1,), "float32"),
    )
)
OTHER = Signature(SIGNATURE.tensors[:1])


def weights(value=1.0):
    return [np.array([value, 0], "f4"), np.array(3), np.array([0], "f4")]


@pytest.fixture
def health_of(tmp_path):
    def health(entries, values=None, counts=None):
        path = tmp_path / "a.h5"
        with WeightDatasetWriter(path, SIGNATURE) as writer, writer.round(entries) as round_:
            for entry in entries:
                own = weights((values or {}).get(entry.id, 1.0))
                round_.write_client(entry.id, own if entry.signature is None else own[:1])
            if counts is not None:
                round_.write_label_counts(np.array(counts))
        with WeightDataset(path) as dataset:
            return round_health(dataset.round(), summarise_round(dataset.round(), None))

    return health


def test_a_round_that_is_fit(health_of):
    health = health_of([ClientEntry("c0", 3), ClientEntry("c1", 1)])
    assert (health.clients, health.fit, health.unfit) == (2, True, ())
    assert health.dtypes == ("float32", "int64")
    assert health.skewed is None


def test_what_stands_in_the_way(health_of):
    health = health_of(
        [
            ClientEntry("good", 3),
            ClientEntry("other", 3, OTHER),
            ClientEntry("nan", 0),
            ClientEntry("inf", None),
        ],
        {"nan": np.nan, "inf": -np.inf},
    )
    assert health.clients == 4
    assert health.divergent == ("other",)
    assert health.nonfinite == ("nan", "inf")
    assert health.unweighted == ("nan", "inf")
    assert health.unfit == ("other", "nan", "inf")
    assert not health.fit


def test_no_clients_are_not_fit(health_of):
    health = health_of([])
    assert (health.clients, health.fit) == (0, False)


def test_skewed_clients_have_two_labels_for_most_of_their_examples(health_of):
    entries = [ClientEntry(c, 10) for c in ("even", "border", "skewed", "none")]
    counts = [[4, 3, 3, 0], [5, 2, 2, 1], [5, 3, 1, 1], [0, 0, 0, 0]]
    # 7 of 10 is exactly the share, and not more.
    assert health_of(entries, counts=counts).skewed == ("skewed",)


def test_two_classes_cannot_be_skewed(health_of):
    assert health_of([ClientEntry("c0", 1)], counts=[[1, 0]]).skewed is None


def test_labels_of_divergent_clients_count_too(tmp_path):
    entries = [ClientEntry("other", 3, OTHER), ClientEntry("c1", 3)]
    path = tmp_path / "a.h5"
    with WeightDatasetWriter(path, SIGNATURE) as writer, writer.round(entries) as round_:
        round_.write_client("other", weights()[:1])
        round_.write_client("c1", weights())
        round_.write_label_counts(np.array([[9, 0, 0], [1, 1, 1]]))
    with WeightDataset(path) as dataset:
        assert skewed_clients(dataset.round()) == ("other",)
