"""Files of Keras 1.2, 2.3, 2.14 and 3.15 are read as the same Keras describes its models."""

import functools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.importers.opened import opened

FOLDER = Path(__file__).parent / "files"
FILES = sorted(path.name for path in FOLDER.glob("keras*") if path.suffix in (".h5", ".keras"))
CELL = "bidirectional/forward_layer/cell"
DENSE_BY_NUMBER = ["dense", *(f"dense_{i}" for i in range(1, 11))]


@functools.cache
def read(file):
    return opened(FOLDER / file)


@functools.cache
def said_by(version):
    return json.loads((FOLDER / f"{version}_said.json").read_text())


def said_by_keras(file):
    """Names and values of a file's model, in the order of ``get_weights()``."""
    version, _, rest = file.partition("_")
    said = said_by(version)[re.match("[a-z0-9]+", rest)[0]]
    arrays = [np.array(variable["values"], np.float32) for variable in said]
    return [variable["name"].removesuffix(":0") for variable in said], arrays


def in_the_order_of_weight_names(file, names):
    """Where a file's order is not that of ``get_weights()``: places in the latter.

    From Keras 2.14 on ``weight_names`` of a model that is a layer lists what is trained first.
    """
    places = list(range(len(names)))
    if file in ("keras2.14_nested.h5", "keras3.15_nested.h5"):
        places.sort(key=lambda i: (names[i].startswith("head"), "moving" in names[i]))
    return places


NAMED_OTHERWISE = {
    # Keras 1 does not part the layer's name from the variable's: the group's name is kept.
    "keras1.2_nested.h5": lambda n: n if n.startswith("head") else f"encoder/{n}",
    "keras1.2_renamed.h5": lambda n: n.replace("before", "after/before"),
    # An archive has the layer's name of today, where the variables keep their first.
    "keras2.14_renamed.keras": lambda n: n.replace("before", "after"),
    # Keras 2 wrote neither layers' nor variables' names.
    "keras2.14_deep.weights.h5": lambda n: n.replace("a_last", "dense_11"),
}


def test_every_version_and_format_is_here():
    assert len(FILES) == 41
    assert {said_by(file.partition("_")[0])["keras"] for file in FILES} == {
        *("1.2.2", "2.3.1", "2.14.0", "3.15.1")
    }


@pytest.mark.parametrize("file", FILES)
def test_values_and_order_are_keras_own(file):
    names, arrays = said_by_keras(file)
    places = in_the_order_of_weight_names(file, names)
    found = list(read(file).arrays.values())
    assert len(found) == len(arrays)
    for array, place in zip(found, places, strict=True):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, arrays[place])


@pytest.mark.parametrize("file", [f for f in FILES if f != "keras2.14_text.weights.h5"])
def test_names_are_keras_own(file):
    names, _ = said_by_keras(file)
    places = in_the_order_of_weight_names(file, names)
    renamed = NAMED_OTHERWISE.get(file, str)
    assert read(file).names == [renamed(names[place]) for place in places]


def test_groups_whose_class_keras_2_does_not_write_are_numbered_and_said_so():
    found = read("keras2.14_text.weights.h5")
    assert found.names[:3] == ["embedding/embeddings", *(f"{CELL}/{i}" for i in (0, 1))]
    assert "heads/query/kernel" in read("keras2.14_text.keras").names
    assert CELL in found.notes[0]


@pytest.mark.parametrize("version", ["keras2.14", "keras3.15"])
def test_the_twelfth_dense_layer_is_not_before_the_second(version):
    for ending in (".h5", ".keras", ".weights.h5"):
        names = read(f"{version}_deep{ending}").names
        layers = list(dict.fromkeys(name.partition("/")[0] for name in names))
        assert layers[:2] == ["conv2d", "batch_normalization"]
        assert layers[2:13] == DENSE_BY_NUMBER


@pytest.mark.parametrize(
    ("file", "count"),
    [
        # A slot for each of the six trained tensors, and counters of steps and learning rates.
        ("keras1.2_deep.h5", 6),
        ("keras2.3_deep.h5", 7),
        ("keras2.14_deep.h5", 7),
        ("keras2.14_deep.keras", 7),
        ("keras3.15_deep.h5", 8),
        ("keras3.15_deep.keras", 8),
        ("keras3.15_deep.weights.h5", 8),
    ],
)
def test_the_optimizers_state_of_a_trained_model_is_left_out(file, count):
    left_out = read(file).left_out
    assert list(left_out.values()).count("optimizer state") == count
    assert all("optimizer" in source for source, why in left_out.items() if "state" in why)


@pytest.mark.parametrize("version", ["keras2.14", "keras3.15"])
def test_an_archive_says_what_is_not_trained(version):
    found = read(f"{version}_text.keras")
    trained = dict(zip(found.names, found.trainable, strict=True))
    assert trained["words/embeddings"] is False
    assert trained["head/kernel"] is True
    deep = read(f"{version}_deep.keras")
    assert [n for n, t in zip(deep.names, deep.trainable, strict=True) if t] == [
        *("conv2d/kernel", "conv2d/bias", "batch_normalization/gamma", "batch_normalization/beta"),
        *("a_last/kernel", "a_last/bias"),
    ]


def test_the_same_model_in_two_formats_of_keras_3_has_the_same_names():
    for model in ("deep", "text", "renamed"):
        older, newer = (read(f"keras3.15_{model}{ending}") for ending in (".h5", ".keras"))
        assert older.names == newer.names
    for model in ("deep", "text"):
        newest, newer = (read(f"keras3.15_{model}{e}") for e in (".weights.h5", ".keras"))
        assert newest.names == newer.names
