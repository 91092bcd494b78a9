import io
import json
import zipfile

import h5py
import ml_dtypes
import numpy as np
import pytest

from fedviz.errors import DatasetFormatError
from tests.importers.keras_layouts import (
    BIAS,
    KERNEL,
    layer,
    write_keras_archive,
    write_store,
)
from tests.importers.opened import opened

VECTOR = np.ones(4, np.float32)


def test_a_keras_archive_has_the_names_and_order_of_its_config(tmp_path):
    layers = [
        layer("InputLayer", "in"),
        *(layer("Dense", f"z{i}") for i in range(11)),
        layer("BatchNormalization", "norm"),
        layer("Dense", "a_last", use_bias=False),
    ]
    groups = {f"layers/dense_{i}" if i else "layers/dense": [KERNEL + i, BIAS] for i in range(11)}
    groups["layers/dense_11"] = [KERNEL + 11]
    groups["layers/batch_normalization"] = [VECTOR, VECTOR * 2, VECTOR * 3, VECTOR * 4]
    groups["optimizer"] = [np.int64(3), KERNEL]
    found = opened(write_keras_archive(tmp_path / "m.keras", layers, groups))
    assert found.names == [
        *(f"z{i}/{variable}" for i in range(11) for variable in ("kernel", "bias")),
        *(f"norm/{v}" for v in ("gamma", "beta", "moving_mean", "moving_variance")),
        "a_last/kernel",
    ]
    assert [found.arrays[f"z{i}/kernel"][0, 0] for i in range(11)] == list(range(11))
    assert found.arrays["a_last/kernel"][0, 0] == 11
    assert found.trainable[-5:] == [True, True, False, False, True]
    assert found.left_out == {
        "optimizer/vars/0": "optimizer state",
        "optimizer/vars/1": "optimizer state",
    }


def test_numbered_variables_are_in_numeric_order(tmp_path):
    write_store(tmp_path / "w.weights.h5", {"layers/mine": [VECTOR * i for i in range(12)]})
    found = opened(tmp_path / "w.weights.h5")
    assert found.names == [f"mine/{i}" for i in range(12)]
    assert [a[0] for a in found.arrays.values()] == list(range(12))
    assert "the variables of mine: they are numbered" in found.notes[0]


def test_the_usual_variables_of_recurrent_wrapped_and_nested_layers(tmp_path):
    inner = layer("LSTM", "lstm")
    layers = [
        layer("Embedding", "words"),
        layer("Bidirectional", "both", layer=inner),
        layer("GRU", "gru"),
        layer("TimeDistributed", "each", layer=layer("Dense", "inner")),
        layer("MultiHeadAttention", "heads"),
        {"class_name": "Sequential", "config": {"name": "sub", "layers": [layer("Dense", "d")]}},
        layer("LayerNormalization", "ln", center=False),
        layer("Conv2D", "conv"),
    ]
    cell = [KERNEL, KERNEL, BIAS]
    groups = {
        "layers/embedding": [KERNEL],
        "layers/bidirectional/forward_layer/cell": cell,
        "layers/bidirectional/backward_layer/cell": cell,
        "layers/gru/cell": cell,
        "layers/time_distributed/layer": [KERNEL, BIAS],
        **{
            f"layers/multi_head_attention/_{part}_dense": [KERNEL, BIAS]
            for part in ("key", "output", "query", "value")
        },
        "layers/sequential/layers/dense": [KERNEL, BIAS],
        "layers/layer_normalization": [VECTOR],
        "layers/conv2d": [KERNEL, BIAS],
        "layers/dropout/seed_generator": [np.zeros(2, np.uint32)],
    }
    found = opened(write_keras_archive(tmp_path / "m.keras", layers, groups))
    recurrent = ("kernel", "recurrent_kernel", "bias")
    assert found.names == [
        "words/embeddings",
        *(f"both/{way}_lstm/lstm_cell/{v}" for way in ("forward", "backward") for v in recurrent),
        *(f"gru/gru_cell/{v}" for v in recurrent),
        *("each/inner/kernel", "each/inner/bias"),
        *(
            f"heads/{part}/{v}"
            for part in ("query", "key", "value", "attention_output")
            for v in ("kernel", "bias")
        ),
        *("sub/d/kernel", "sub/d/bias", "ln/gamma", "conv/kernel", "conv/bias"),
    ]
    assert found.left_out == {"layers/dropout/seed_generator/vars/0": "state of a random generator"}


def test_two_models_in_a_model_with_the_same_layer_names(tmp_path):
    layers = [
        {"class_name": "Sequential", "config": {"name": name, "layers": [layer("Dense", "d")]}}
        for name in ("left", "right")
    ]
    groups = {
        "layers/sequential/layers/dense": [KERNEL],
        "layers/sequential_1/layers/dense": [KERNEL + 1],
    }
    for node in layers:
        node["config"]["layers"][0]["config"]["use_bias"] = False
    found = opened(write_keras_archive(tmp_path / "m.keras", layers, groups))
    assert found.names == ["left/d/kernel", "right/d/kernel"]
    np.testing.assert_array_equal(found.arrays["right/d/kernel"], KERNEL + 1)


def test_a_weights_file_takes_layer_names_where_keras_wrote_them(tmp_path):
    groups = {"layers/dense": [KERNEL, BIAS], "layers/dense_1": [KERNEL, BIAS]}
    write_store(tmp_path / "w.weights.h5", groups, {"layers/dense": "first"})
    found = opened(tmp_path / "w.weights.h5")
    assert found.names == ["first/kernel", "first/bias", "dense_1/kernel", "dense_1/bias"]


def test_a_frozen_layer_is_not_trainable(tmp_path):
    layers = [layer("Dense", "frozen", trainable=False), layer("Dense", "free")]
    groups = {"layers/dense": [KERNEL, BIAS], "layers/dense_1": [KERNEL, BIAS]}
    found = opened(write_keras_archive(tmp_path / "m.keras", layers, groups))
    assert found.trainable == [False, False, True, True]


def test_bfloat16_of_keras_3_keeps_its_dtype(tmp_path):
    values = np.array([1.0, -2.5, 3.0], ml_dtypes.bfloat16)
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        variable = file.create_dataset("layers/dense/vars/0", data=values)
        variable.attrs["dtype"] = "bfloat16"
    kernel = opened(tmp_path / "w.weights.h5").arrays["dense/kernel"]
    assert kernel.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(kernel, values)


def test_groups_that_contain_one_another_end(tmp_path):
    write_store(tmp_path / "w.weights.h5", {"layers/dense": [KERNEL, BIAS]})
    with h5py.File(tmp_path / "w.weights.h5", "r+") as file:
        for name in "abcdefgh":
            file[f"layers/dense/{name}"] = file["layers"]
    with pytest.raises(DatasetFormatError, match=r"w\.weights\.h5: its groups contain one another"):
        opened(tmp_path / "w.weights.h5")


def test_a_config_is_never_built(tmp_path):
    """A Lambda with code in it is a layer without variables here, and nothing else."""
    layers = [layer("Lambda", "code", function=["gASV", None, None]), layer("Dense", "d")]
    path = write_keras_archive(tmp_path / "m.keras", layers, {"layers/dense": [KERNEL, BIAS]})
    assert opened(path).names == ["d/kernel", "d/bias"]


def test_an_archive_with_its_weights_as_pickles_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps({}))
        archive.writestr("model.weights.npz", b"")
    with pytest.raises(DatasetFormatError, match=r"m\.keras: expected model\.weights\.h5"):
        opened(tmp_path / "m.keras")


def test_damage_inside_an_archive_names_the_archive(tmp_path):
    store = io.BytesIO()
    write_store(store, {"layers/dense": [KERNEL, BIAS]})
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", store.getvalue()[:1000])
    with pytest.raises(DatasetFormatError, match=r"^m\.keras is damaged: "):
        opened(tmp_path / "m.keras")
