"""Aggregates saved, exported and measured; each format is read back by its own library."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

from fedviz.aggregation.average import AverageResult
from fedviz.dataset import WeightDataset
from fedviz.errors import InvalidArgumentError, StorageError
from fedviz.exporters import export_weights
from fedviz.records import AGGREGATE
from fedviz.results import (
    aggregate_name,
    average_json,
    average_text,
    check_output,
    measured,
    save_average,
)
from fedviz.signature import Signature
from fedviz.training.architectures import ARCHITECTURES
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.conftest import random_weights

WEIGHTS = {
    "층/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scale": np.array(2.5, np.float64),
    "mask": np.array([True, False]),
}


def result_of(weights, **changes):
    known = {
        "aggregator": "mean",
        "weighting": "num_examples",
        "parameters": {},
        "round": 0,
        "clients": ("c0", "c1"),
        "left_out": ("c2",),
        "engine": "tff worker",
        "seconds": 0.5,
        "bytes_read": 1000,
        "l2_norm": 2.0,
        "measurements": {"total_weight": 8.0, "nonfinite_values": 0},
    }
    return AverageResult(weights=dict(weights), **{**known, **changes})


def dataset_of(path, weights, recipe=None):
    signature = Signature.of(weights)
    writer = WeightDatasetWriter(path, signature, recipe)
    with writer, writer.round([ClientEntry("c0", 5)], weights) as round_:
        round_.write_client("c0", weights)
    return WeightDataset(path)


@pytest.fixture
def dataset(tmp_path):
    with dataset_of(tmp_path / "clients.h5", WEIGHTS, {"seed": 1}) as dataset:
        yield dataset


@pytest.fixture
def digits(tmp_path):
    """A dataset of digits-mlp with random weights, and these by name."""
    signature = ARCHITECTURES["digits-mlp"].signature
    arrays = random_weights(signature, np.random.default_rng(0))
    weights = dict(zip(signature.names, arrays, strict=True))
    recipe = {"architecture": "digits-mlp", "data": "digits"}
    with dataset_of(tmp_path / "digits.h5", weights, recipe) as dataset:
        yield dataset, weights


def assert_same(found, expected):
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


# --- formats ----------------------------------------------------------------------------------


def test_npz(dataset, tmp_path):
    save_average(result_of(WEIGHTS), dataset, tmp_path / "mean.npz")
    with np.load(tmp_path / "mean.npz", allow_pickle=False) as found:
        assert found.files == list(WEIGHTS)
        assert_same(dict(found), WEIGHTS)


def test_safetensors(dataset, tmp_path):
    from safetensors.numpy import load_file

    save_average(result_of(WEIGHTS), dataset, tmp_path / "mean.safetensors")
    assert_same(load_file(tmp_path / "mean.safetensors"), WEIGHTS)


def test_bfloat16_and_arrays_that_are_views(tmp_path):
    from safetensors.numpy import load_file

    brain = np.array([[1.5, -2], [3, 0.25]]).astype(ml_dtypes.bfloat16).T
    export_weights(tmp_path / "a.npz", {"w": brain})
    with np.load(tmp_path / "a.npz") as found:
        assert found["w"].dtype == np.float32
        assert found["w"].tolist() == [[1.5, 3], [-2, 0.25]]
    export_weights(tmp_path / "a.safetensors", {"w": brain})
    assert load_file(tmp_path / "a.safetensors")["w"].tolist() == [[1.5, 3], [-2, 0.25]]


@pytest.mark.tff
def test_keras_weights(digits, tmp_path):
    from fedviz.training.keras_models import build_model

    dataset, weights = digits
    save_average(result_of(weights), dataset, tmp_path / "mean.weights.h5")
    model = build_model(ARCHITECTURES["digits-mlp"])
    model.load_weights(tmp_path / "mean.weights.h5")
    for variable, array in zip(model.trainable_variables, weights.values(), strict=True):
        np.testing.assert_array_equal(variable.numpy(), array)


def test_a_dataset_of_its_own(dataset, tmp_path):
    result = result_of(WEIGHTS, weighting="uniform")
    assert save_average(result, dataset, tmp_path / "mean.h5") == "mean-uniform"
    with WeightDataset(tmp_path / "mean.h5") as saved:
        assert saved.signature == dataset.signature
        assert saved.recipe == {"seed": 1, "averaged_from": "clients.h5", "round": 0}
        (round_,) = saved.rounds
        assert round_.records == ()
        assert_same(dict(round_.server), WEIGHTS)
        aggregate = round_.aggregates["mean-uniform"]
        assert_same(dict(aggregate), WEIGHTS)
        assert (aggregate.aggregator, aggregate.weighting) == ("mean", "uniform")
        assert aggregate.measurements == {
            "total_weight": 8.0,
            "nonfinite_values": 0,
            "clients": 2,
            "left_out": ["c2"],
            "engine": "tff worker",
            "seconds": 0.5,
        }


@pytest.mark.parametrize("through_link", [False, True])
def test_the_dataset_itself_takes_the_aggregate(dataset, tmp_path, through_link):
    out = dataset.path
    if through_link:
        out = tmp_path / "link.h5"
        out.symlink_to(dataset.path)
    for _ in range(2):
        assert save_average(result_of(WEIGHTS), dataset, out) == "mean"
    with WeightDataset(dataset.path) as saved:
        assert list(saved.round().aggregates) == ["mean"]
        assert saved.round().records == dataset.round().records
        assert saved.recipe == {"seed": 1}


def test_an_existing_file_is_replaced(dataset, tmp_path):
    (tmp_path / "mean.npz").write_bytes(b"old")
    save_average(result_of(WEIGHTS), dataset, tmp_path / "mean.npz")
    with np.load(tmp_path / "mean.npz") as found:
        assert_same(dict(found), WEIGHTS)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mean", "mean.txt", "mean.h5.bak", "mean.pkl"])
def test_unknown_endings(dataset, tmp_path, name):
    with pytest.raises(InvalidArgumentError) as caught:
        check_output(tmp_path / name, dataset)
    assert str(caught.value) == (
        f"{name}: expected a name that ends in .h5, .npz, .safetensors, .weights.h5."
    )


def test_keras_needs_to_know_the_model(dataset, tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"clients.h5 does not say which model"):
        check_output(tmp_path / "mean.weights.h5", dataset)


def test_a_recipe_that_names_a_model_with_other_tensors_is_not_believed(tmp_path):
    with (
        dataset_of(tmp_path / "a.h5", WEIGHTS, {"architecture": "digits-mlp"}) as dataset,
        pytest.raises(InvalidArgumentError, match="does not say which model"),
    ):
        check_output(tmp_path / "mean.weights.h5", dataset)


@pytest.mark.parametrize("name", ["mean.npz", "mean.safetensors", "mean.h5"])
def test_a_folder_that_is_not_there(dataset, tmp_path, name):
    with pytest.raises(StorageError, match=rf"cannot write {name}: there is no .*nowhere"):
        save_average(result_of(WEIGHTS), dataset, tmp_path / "nowhere" / name)


def test_a_failed_export_leaves_the_old_file(tmp_path):
    from safetensors import SafetensorError

    (tmp_path / "a.safetensors").write_bytes(b"old")
    with pytest.raises(SafetensorError, match="Unknown dtype"):
        export_weights(tmp_path / "a.safetensors", {**WEIGHTS, "name": np.array(["text"])})
    assert (tmp_path / "a.safetensors").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


# --- measured and told ------------------------------------------------------------------------


@pytest.mark.tff
def test_measured_as_plain_numpy_measures_it(digits):
    from fedviz.training.data import load_data

    dataset, weights = digits
    found = measured(result_of(weights), dataset, "mean")
    data = load_data("digits")
    kernel, bias, kernel_1, bias_1 = (a.astype("f8") for a in weights.values())
    hidden = np.maximum(data.x_test.reshape(-1, 64) @ kernel + bias, 0)
    right = np.argmax(hidden @ kernel_1 + bias_1, axis=1) == data.y_test
    assert [(m.role, m.subject, m.name) for m in found] == [
        (AGGREGATE, "mean", "loss"),
        (AGGREGATE, "mean", "accuracy"),
    ]
    assert found[1].value == right.mean()


def test_what_cannot_be_measured(digits, dataset):
    known, weights = digits
    assert measured(result_of(WEIGHTS), dataset, "mean") == []
    assert measured(result_of(weights, l2_norm=np.inf), known, "mean") == []
    spoilt = result_of(weights, measurements={"nonfinite_values": 3})
    assert measured(spoilt, known, "mean") == []


def test_json(tmp_path):
    found = average_json(result_of(WEIGHTS), tmp_path / "mean.npz")
    assert found == {
        "aggregator": "mean",
        "weighting": "num_examples",
        "parameters": {},
        "round": 0,
        "clients": 2,
        "left_out": ["c2"],
        "engine": "tff worker",
        "seconds": 0.5,
        "bytes_read": 1000,
        "l2_norm": 2.0,
        "out": str(tmp_path / "mean.npz"),
        "measurements": {"total_weight": 8.0, "nonfinite_values": 0},
    }
    unbounded = average_json(result_of(WEIGHTS, l2_norm=np.nan), tmp_path / "mean.npz")
    assert unbounded["l2_norm"] is None
    json.dumps(unbounded, allow_nan=False)


def test_text(tmp_path):
    assert average_text(result_of(WEIGHTS), tmp_path / "mean.npz") == (
        f"{tmp_path / 'mean.npz'}: mean of 2 clients, 1 left out of round 0, weighted by "
        "num_examples; 1,000 bytes read in 0.50 s by the tff worker."
    )


def test_names():
    assert aggregate_name("mean", "num_examples") == "mean"
    assert aggregate_name("mean", "uniform") == "mean-uniform"
