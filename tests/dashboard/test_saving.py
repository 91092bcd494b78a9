"""What the averaging page saves and hands out."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load as load_safetensors

from fedviz.dashboard import folders, saving
from fedviz.dashboard.tasks import AverageOutcome
from fedviz.dataset import WeightDataset
from fedviz.records import Metric
from fedviz.writer import WeightDatasetWriter
from tests.dashboard.datasets import write

SAMPLE = folders.SAMPLES / "digits-mlp.h5"


@pytest.fixture
def outcome(tmp_path):
    """An aggregate of the sample's round 2, as a job leaves it: with a metric."""
    path = tmp_path / "aggregate.h5"
    with WeightDataset(SAMPLE) as sample:
        signature, model = sample.signature, sample.round(2).clients["c03"]
        weights = [model[name] for name in signature.names]
    with WeightDatasetWriter(path, signature) as writer, writer.round([]) as round_:
        round_.write_aggregate(
            "mean-uniform", weights, aggregator="mean", weighting="uniform", measurements={"k": 1}
        )
        round_.write_metrics([Metric("aggregate", "mean-uniform", "accuracy", 0.5)])
    clients = tuple(f"c{i:02d}" for i in range(10))
    return AverageOutcome(path, "mean-uniform", 2, clients, (), "tff worker", 0.1)


def saved(path, outcome):
    with WeightDataset(path) as dataset, WeightDataset(SAMPLE) as sample:
        assert len(dataset.rounds) == len(sample.rounds)
        aggregate = dataset.round(2).aggregates[outcome.name]
        assert (aggregate.weighting, aggregate.measurements) == ("uniform", {"k": 1})
        for name in sample.signature.names:
            expected = sample.round(2).clients["c03"][name]
            np.testing.assert_array_equal(aggregate[name], expected)
        assert dataset.round(2).metric("aggregate", "accuracy", "mean-uniform") == 0.5
        assert dataset.round(2).metrics[:-1] == sample.round(2).metrics


def test_a_sample_is_copied_first(data_dir, outcome):
    before = SAMPLE.read_bytes()
    with WeightDataset(SAMPLE) as sample:
        path = saving.save_aggregate(sample, outcome)
    assert path == data_dir / "digits-mlp-2.h5"
    assert SAMPLE.read_bytes() == before
    saved(path, outcome)


def test_a_dataset_of_the_folder_takes_it_itself(data_dir, outcome):
    own = data_dir / "own.h5"
    own.write_bytes(SAMPLE.read_bytes())
    with WeightDataset(own) as dataset:
        assert saving.save_aggregate(dataset, outcome) == own
    saved(own, outcome)
    assert [path.name for path in data_dir.iterdir()] == ["own.h5"]


def test_exports_hold_the_aggregate(tmp_path):
    with WeightDataset(write(tmp_path / "a.h5")) as dataset:
        mean = dataset.round().aggregates["mean"]
        (tmp_path / "mean.npz").write_bytes(saving.exported(mean, ".npz"))
        tensors = load_safetensors(saving.exported(mean, ".safetensors"))
        with np.load(tmp_path / "mean.npz") as arrays:
            assert set(arrays) == set(tensors) == set(mean)
            for name in mean:
                np.testing.assert_array_equal(arrays[name], mean[name])
                np.testing.assert_array_equal(tensors[name], mean[name])
