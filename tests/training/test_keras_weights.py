import numpy as np
import pytest
import tensorflow as tf

from fedviz.errors import InvalidArgumentError, SignatureError, StorageError
from fedviz.training.architectures import architecture
from fedviz.training.keras_files import save_keras_weights
from fedviz.training.keras_models import build_model, initial_weights
from fedviz.training.keras_weights import assign_weights, extract_weights

layers = tf.keras.layers


def test_weights_come_by_name_trainable_ones_first():
    model = tf.keras.Sequential(
        [
            tf.keras.Input((3,)),
            layers.BatchNormalization(name="norm"),
            layers.Dense(2, name="dense"),
        ]
    )
    model.layers[1].set_weights([np.array([[1, 2], [3, 4], [5, 6]]), np.array([7, 8])])
    weights = extract_weights(model)
    assert list(weights) == [
        "norm/gamma",
        "norm/beta",
        "dense/kernel",
        "dense/bias",
        "norm/moving_mean",
        "norm/moving_variance",
    ]
    assert weights["dense/kernel"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert [spec.trainable for spec in weights.signature] == [True] * 4 + [False] * 2
    assert str(weights.signature).startswith("<norm/gamma=float32[3],norm/beta=float32[3],")


def test_frozen_layers_are_not_trainable():
    model = tf.keras.Sequential([tf.keras.Input((2,)), layers.Dense(1, name="d", trainable=False)])
    assert [spec.trainable for spec in extract_weights(model).signature] == [False, False]


def test_two_variables_of_one_path_get_names_of_their_own():
    inner = [
        tf.keras.Sequential([tf.keras.Input((2,)), layers.Dense(2, name="dense")], name=name)
        for name in ("first", "second")
    ]
    model = tf.keras.Sequential([tf.keras.Input((2,)), *inner])
    assert extract_weights(model).signature.names == (
        "dense/kernel",
        "dense/bias",
        "dense/kernel_1",
        "dense/bias_1",
    )


def test_weights_are_a_copy_that_training_does_not_change():
    model = build_model(architecture("dense"))
    before = extract_weights(model)
    kernel = before["dense/kernel"].copy()
    model.trainable_variables[0].assign_add(tf.ones((5, 10)))
    assert np.array_equal(before["dense/kernel"], kernel)


@pytest.mark.parametrize("name", ["digits-resnet", "lstm", "transformer"])
def test_the_round_trip_gives_the_same_outputs(name):
    trained, fresh = (build_model(architecture(name)) for _ in range(2))
    for variable in trained.variables:
        variable.assign(variable + 0.25)
    assign_weights(fresh, extract_weights(trained))
    x = np.random.default_rng(0).random((4, *architecture(name).input_shape), np.float32)
    np.testing.assert_array_equal(fresh(x).numpy(), trained(x).numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_dtypes_make_the_round_trip(dtype):
    model = tf.keras.Sequential([tf.keras.Input((2,)), layers.Dense(1, name="d", dtype=dtype)])
    weights = extract_weights(model)
    assert {spec.dtype for spec in weights.signature} == {dtype}
    assign_weights(model, {name: array + 1 for name, array in weights.items()})
    np.testing.assert_array_equal(extract_weights(model)["d/bias"], weights["d/bias"] + 1)


def test_weights_that_do_not_fit_leave_the_model_unchanged():
    model = build_model(architecture("dense"))
    before = extract_weights(model)
    changed = {name: array + 1 for name, array in before.items()}
    for faulty, message in (
        (
            {**changed, "dense_1/bias": np.zeros(3, np.float32)},
            r"dense_1/bias: expected float",
        ),
        ({**changed, "dense/bias": np.zeros(10)}, r"expected float32\[10\], found float64\[10\]"),
        ({**changed, "more": np.zeros(1)}, "tensor more: expected no such tensor"),
        ({"dense/bias": changed["dense/bias"]}, "dense/kernel: expected .*, found nothing"),
    ):
        with pytest.raises(SignatureError, match=message):
            assign_weights(model, faulty)
        after = extract_weights(model)
        assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_model_without_variables_is_refused():
    with pytest.raises(SignatureError, match="build it or call it once first"):
        extract_weights(tf.keras.Sequential([layers.Dense(3)]))


@pytest.mark.parametrize("name", ["digits-resnet", "transformer"])
def test_keras_loads_what_was_saved_for_it(name, tmp_path):
    source, path = architecture(name), tmp_path / "mean.weights.h5"
    weights = initial_weights(source, 7)
    save_keras_weights(source, weights, path)
    model = build_model(source)
    model.load_weights(path)
    loaded = extract_weights(model)
    assert all(np.array_equal(loaded[tensor], weights[tensor]) for tensor in weights)
    assert list(tmp_path.iterdir()) == [path]


def test_keras_weights_are_saved_where_they_can_be_only(tmp_path):
    source = architecture("dense")
    weights = initial_weights(source, 0).arrays
    with pytest.raises(InvalidArgumentError, match=r"mean\.h5: expected a name that ends in"):
        save_keras_weights(source, weights, tmp_path / "mean.h5")
    with pytest.raises(SignatureError, match="expected 4 tensors, found 3"):
        save_keras_weights(source, weights[:3], tmp_path / "mean.weights.h5")
    with pytest.raises(StorageError, match="cannot write"):
        save_keras_weights(source, weights, tmp_path / "absent" / "mean.weights.h5")
    assert list(tmp_path.iterdir()) == []
