"""Files that TensorFlow 2.14 and its Keras write, and what they make of ours."""

import pickle
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fedviz.dataset import WeightDataset
from fedviz.errors import DatasetFormatError, InvalidArgumentError
from fedviz.importing import import_clients
from tests.importers.opened import opened

pytestmark = pytest.mark.tff


def build_model():
    """Layers of many kinds, twelve of one kind, a model within, names out of alphabetical order."""
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = layers.Input((6, 6, 2))
    x = layers.Conv2D(3, 3, name="z_conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Reshape((4, 12))(x)
    x = layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="both")(x)
    x = layers.MultiHeadAttention(2, 3, name="heads")(x, x)
    x = layers.LayerNormalization(name="ln")(x)
    x = layers.Flatten()(x)
    x = tf.keras.Sequential([layers.Dense(4, name="inner")], name="within")(x)
    for i in range(11):
        x = layers.Dense(4, name=f"hidden_{i}")(x)
    outputs = layers.Dense(2, use_bias=False, name="a_last")(x)
    model = tf.keras.Model(inputs, outputs, name="model")
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.standard_normal(variable.shape))
    train_a_step(model, np.zeros((2, 6, 6, 2)))
    return model


def build_small_model():
    """Few layers: a SavedModel takes TensorFlow a second for each."""
    import tensorflow as tf

    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [layers.Input((3,)), layers.Dense(2, name="z"), layers.BatchNormalization(name="a")]
    )
    train_a_step(model, np.zeros((2, 3)))
    return model


def train_a_step(model, x):
    """So that the optimizer has slots and the metrics values."""
    model.compile("adam", "mse", metrics=["mae"], run_eagerly=True)
    model.fit(x, np.zeros((2, 2)), verbose=0)


@dataclass(frozen=True)
class Saved:
    folder: Path
    model: Any
    small: Any


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Saved:
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("tensorflow")
    model, small = build_model(), build_small_model()
    with pytest.warns(UserWarning, match="HDF5"):
        model.save(folder / "whole.h5")
    model.save_weights(folder / "alone.h5")
    model.save_weights(folder / "new.weights.h5")
    model.save(folder / "new.keras")
    model.save_weights(folder / "weights" / "model.ckpt")
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(model=model, optimizer=model.optimizer, step=tf.Variable(7)),
        folder / "training",
        max_to_keep=3,
    )
    manager.save()
    manager.save()
    small.save(folder / "saved")
    return Saved(folder, model, small)


def expected(model) -> dict[str, np.ndarray]:
    return {v.name.removesuffix(":0"): v.numpy() for v in model.weights}


def assert_same(found, wanted):
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("name", ["whole.h5", "alone.h5", "new.keras"])
def test_keras_files_have_get_weights_names_and_order(saved, name):
    assert_same(opened(saved.folder / name).arrays, expected(saved.model))


def test_what_keras_files_have_besides_is_left_out(saved):
    whole, archive = opened(saved.folder / "whole.h5"), opened(saved.folder / "new.keras")
    slots = 1 + 2 * len(saved.model.trainable_variables)
    assert Counter(whole.left_out.values()) == {"optimizer state": slots}
    assert Counter(archive.left_out.values()) == {"optimizer state": slots, "a metric": 4}
    assert opened(saved.folder / "alone.h5").left_out == {}


def test_a_keras_weights_file_has_the_same_values_by_group(saved):
    found = opened(saved.folder / "new.weights.h5")
    wanted = expected(saved.model)
    assert len(found.arrays) == len(wanted)
    np.testing.assert_array_equal(found.arrays["conv2d/kernel"], wanted["z_conv/kernel"])
    for i in range(11):
        name = f"dense_{i}" if i else "dense"
        np.testing.assert_array_equal(found.arrays[f"{name}/kernel"], wanted[f"hidden_{i}/kernel"])
    np.testing.assert_array_equal(
        found.arrays["batch_normalization/moving_variance"], wanted["norm/moving_variance"]
    )
    assert "they are as they were written" in found.notes[-1]


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("weights/model.ckpt", "TensorFlow checkpoint"),
        ("weights/model.ckpt.index", "TensorFlow checkpoint"),
        ("training/checkpoint", "TensorFlow checkpoint"),
        ("training", "TensorFlow checkpoint"),
        ("saved", "TensorFlow SavedModel"),
    ],
)
def test_checkpoints_and_saved_models(saved, tmp_path, source, kind):
    model = saved.small if source == "saved" else saved.model
    report = import_clients([saved.folder / source], tmp_path / "out.h5")
    (client,) = report.clients
    assert client.format == kind
    with WeightDataset(tmp_path / "out.h5") as dataset:
        assert_same(dict(dataset.round().clients[client.id]), expected(model))
    reasons = Counter(item.reason for item in client.left_out)
    assert reasons["text that TensorFlow keeps for itself"] == 1
    assert reasons["optimizer state"] >= 2 * len(model.trainable_variables)
    assert reasons["a metric"] == (4 if source == "saved" else 0)
    # The step that the program counts, and the save counter.
    assert reasons["a counter"] == (2 if source.startswith("training") else 0)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("weights", "all.zip/weights/model.ckpt.index"),
        ("training", "all.zip/training/ckpt-2.index"),
        ("saved", "all.zip/saved"),
    ],
)
def test_the_same_in_a_zip(saved, tmp_path, folder, name):
    packed = shutil.make_archive(str(tmp_path / "all"), "zip", saved.folder, folder)
    report = import_clients([Path(packed)], tmp_path / "zip.h5")
    straight = import_clients([saved.folder / folder], tmp_path / "folder.h5")

    (client,), (other,) = report.clients, straight.clients
    assert (client.source, client.format) == (name, other.format)
    assert client.left_out == other.left_out
    with WeightDataset(tmp_path / "zip.h5") as one, WeightDataset(tmp_path / "folder.h5") as two:
        assert one.signature == two.signature
        assert_same(dict(one.round().clients[client.id]), dict(two.round().clients[other.id]))


def test_clients_in_folders_of_a_zip(saved, tmp_path):
    for site in ("north", "south"):
        shutil.copytree(saved.folder / "weights", tmp_path / "sites" / site)
    packed = shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path / "sites")
    report = import_clients([Path(packed)], tmp_path / "out.h5")
    assert [client.id for client in report.clients] == ["north", "south"]
    assert {item.reason for item in report.passed_over} == {
        "part of a checkpoint",
        "it only names a checkpoint",
    }


def test_earlier_states_of_a_checkpoint_are_passed_over(saved, tmp_path):
    packed = Path(shutil.make_archive(str(tmp_path / "all"), "zip", saved.folder, "training"))
    for named, place in ((saved.folder / "training", "training"), (packed, "all.zip/training")):
        report = import_clients([named], tmp_path / f"{named.stem}.h5")
        assert [client.source for client in report.clients] == [f"{place}/ckpt-2.index"]
        reasons = {item.source: item.reason for item in report.passed_over}
        assert reasons[f"{place}/ckpt-1.index"] == "an earlier state of the same checkpoint"


def test_checkpoints_of_tensorflow_1_leave_their_slots_out(tmp_path):
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        values = {
            "dense/kernel": np.ones((2, 3), np.float32),
            "dense/kernel/Adam": np.zeros((2, 3), np.float32),
            "beta1_power": np.float32(0.9),
            "global_step": np.int64(5),
        }
        for name, value in values.items():
            tf.compat.v1.get_variable(name, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(tmp_path / "old"))
    report = import_clients([tmp_path / "old.index"], tmp_path / "out.h5")
    (client,) = report.clients
    assert [taken.tensor for taken in client.took] == ["dense/kernel"]
    assert {item.source: item.reason for item in client.left_out} == {
        "dense/kernel/Adam": "an optimizer's slot",
        "beta1_power": "optimizer state",
        "global_step": "a counter",
    }


def test_a_checkpoint_with_a_part_missing(saved, tmp_path):
    (tmp_path / "c.index").write_bytes((saved.folder / "weights" / "model.ckpt.index").read_bytes())
    with pytest.raises(DatasetFormatError, match=r"^c\.index: .*copy the whole folder again"):
        import_clients([tmp_path / "c.index"], tmp_path / "out.h5")
    data = (saved.folder / "weights" / "model.ckpt.data-00000-of-00001").read_bytes()
    (tmp_path / "c.data-00000-of-00001").write_bytes(data[: len(data) // 3])
    with pytest.raises(DatasetFormatError, match=r"^c\.index: .*copy the whole folder again"):
        import_clients([tmp_path / "c.index"], tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_five_models_saved_by_keras_make_a_dataset(saved, tmp_path):
    for i in range(5):
        saved.model.get_layer("a_last").kernel.assign(np.full((4, 2), i, np.float32))
        saved.model.save_weights(tmp_path / f"client{i}.h5")
    report = import_clients([tmp_path], tmp_path / "out.h5")
    assert [client.id for client in report.clients] == [f"client{i}" for i in range(5)]
    assert report.divergent == ()
    with WeightDataset(tmp_path / "out.h5") as dataset:
        stack = dataset.round().read_stack("a_last/kernel")
        np.testing.assert_array_equal(stack[:, 0, 0], range(5))


@pytest.mark.parametrize("file_format", ["weights.h5", "h5"])
def test_keras_reads_what_was_exported_for_it(saved, tmp_path, file_format):
    import tensorflow as tf

    from fedviz.training.keras_files import save_keras_weights
    from fedviz.training.keras_weights import extract_weights

    weights = {name: array + 1 for name, array in extract_weights(saved.small).items()}
    path = tmp_path / f"w.{file_format}"
    save_keras_weights(saved.small.to_json(), weights, path, file_format)
    fresh = tf.keras.models.model_from_json(saved.small.to_json())
    fresh.load_weights(path)
    assert_same(dict(extract_weights(fresh)), weights)
    if file_format == "h5":
        with h5py.File(path) as file:
            names = [n.decode() if isinstance(n, bytes) else n for n in file.attrs["layer_names"]]
        assert names == [layer.name for layer in saved.small.layers]
        assert set(opened(path).names) == set(weights)


@pytest.mark.parametrize(
    ("name", "file_format"),
    [("w.weights.h5", "h5"), ("w.h5", "weights.h5"), ("w.npz", "h5"), ("w.h5", "pickle")],
)
def test_a_keras_export_is_never_guessed(tmp_path, name, file_format):
    from fedviz.training.keras_files import save_keras_weights

    with pytest.raises(InvalidArgumentError):
        save_keras_weights("dense", {}, tmp_path / name, file_format)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_models_program_is_never_loaded(saved, tmp_path):
    """Its graph and its Keras metadata may be anything: only variables are read."""
    copy = tmp_path / "saved"
    (copy / "variables").mkdir(parents=True)
    for path in (saved.folder / "saved" / "variables").iterdir():
        (copy / "variables" / path.name).write_bytes(path.read_bytes())
    (copy / "saved_model.pb").write_bytes(pickle.dumps("not a graph"))
    report = import_clients([copy], tmp_path / "out.h5")
    assert [taken.tensor for taken in report.clients[0].took] == list(expected(saved.small))
