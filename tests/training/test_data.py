import numpy as np
import pytest

from fedviz.errors import DatasetFormatError, InvalidArgumentError, StorageError, UnknownNameError
from fedviz.training.data import fit_to, load_data


@pytest.fixture
def save(tmp_path):
    def save_arrays(**arrays):
        path = tmp_path / "mine.npz"
        np.savez(path, **arrays)
        return str(path)

    return save_arrays


def test_digits_hold_out_360_by_class():
    data = load_data("digits", seed=0)
    assert data.x_train.shape == (1437, 8, 8)
    assert data.x_test.shape == (360, 8, 8)
    assert data.feature_shape == (8, 8)
    assert (data.x_train.dtype, data.y_train.dtype) == (np.float32, np.int64)
    assert (data.x_train.min(), data.x_train.max()) == (0.0, 1.0)
    assert (data.task, data.num_classes, data.client_ids) == ("classification", 10, None)
    # The data set has 174 to 183 of each class: a fifth is 35 to 37.
    assert set(np.bincount(data.y_test)) <= {35, 36, 37}
    assert np.array_equal(data.x_test, load_data("digits", seed=5).x_test)


def test_a_files_classes_are_held_out_in_proportion(save):
    y = np.repeat([0, 1], [80, 20])
    path = save(x=np.arange(100)[:, None], y=y, client_ids=np.arange(100) % 7)
    data = load_data(path, seed=3)
    assert np.bincount(data.y_test).tolist() == [16, 4]
    assert (data.name, data.num_classes) == ("mine.npz", 2)
    # Each example keeps its label and its client.
    indices = data.x_train[:, 0].astype(int)
    assert data.y_train.tolist() == y[indices].tolist()
    assert data.client_ids.tolist() == (indices % 7).tolist()
    assert sorted(indices.tolist() + data.x_test[:, 0].astype(int).tolist()) == list(range(100))
    assert np.array_equal(load_data(path, seed=3).x_test, data.x_test)
    assert not np.array_equal(load_data(path, seed=4).x_test, data.x_test)


def test_real_targets_make_a_regression(save):
    data = load_data(save(x=np.ones((10, 3)), y=np.linspace(0, 1, 10)))
    assert (data.task, data.num_classes) == ("regression", None)
    assert (data.y_train.shape, data.y_train.dtype) == ((8, 1), np.float32)


def test_a_files_own_test_examples_are_used(save):
    data = load_data(
        save(x=np.ones((4, 2)), y=[0, 1, 0, 1], x_test=np.zeros((1, 2)), y_test=np.array([5]))
    )
    assert len(data.x_train) == 4
    assert data.x_test.tolist() == [[0.0, 0.0]]
    assert data.num_classes == 6


def test_bytes_are_pixels(save):
    data = load_data(save(x=np.full((10, 2), 255, np.uint8), y=np.zeros(10, int)))
    assert data.x_train.max() == 1.0


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones(3)}, "mine.npz: y: expected such an array, found x"),
        ({"x": np.ones(3), "y": np.ones(2, int)}, "y: expected 3 of them, .* found 2"),
        ({"x": np.ones((0, 2)), "y": np.ones(0, int)}, "expected at least one example"),
        ({"x": np.ones(1), "y": np.ones(1, int)}, "expected at least 2 examples"),
        ({"x": [1.0, np.nan], "y": [0, 1]}, "x: expected finite numbers, found 1 NaN or infinite"),
        ({"x": np.ones(2), "y": [0.0, np.inf]}, "y: expected finite numbers, found 1"),
        ({"x": np.array(["a", "b"]), "y": [0, 1]}, "x: expected numbers, found <U1"),
        ({"x": np.ones(2), "y": [0, -1]}, "y: expected labels from 0 on, found -1"),
        ({"x": np.ones(2), "y": np.eye(2, dtype=int)}, r"if it is one-hot, save y.argmax"),
        ({"x": np.ones(2), "y": [0, 1], "clients": [1]}, r"clients: expected shape \[2\]"),
        ({"x": np.ones(2), "y": [0, 1], "x_test": np.ones(1)}, "y_test: expected such an array"),
        (
            {"x": np.ones((2, 3)), "y": [0, 1], "x_test": np.ones((1, 4)), "y_test": [0]},
            r"x_test: expected examples of float32\[3\] as in training, found float32\[4\]",
        ),
    ],
)
def test_arrays_that_do_not_fit_one_another_are_refused(save, arrays, message):
    with pytest.raises(DatasetFormatError, match=message):
        load_data(save(**arrays))


def test_objects_are_refused_and_never_unpickled(save):
    path = save(x=np.array([{"a": 1}, None], object), y=[0, 1])
    with pytest.raises(DatasetFormatError, match="tensor x: expected numbers, found Python obj"):
        load_data(path)


def test_unknown_names_and_files_say_what_there_is(tmp_path):
    with pytest.raises(UnknownNameError, match=r"there is digits, or give the path of an \.npz"):
        load_data("mnist")
    with pytest.raises(StorageError, match="there is no"):
        load_data(str(tmp_path / "absent.npz"))
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(DatasetFormatError, match=r"text\.npz: .*npz"):
        load_data(str(tmp_path / "text.npz"))


def test_features_are_reshaped_where_the_sizes_agree():
    data = load_data("digits")
    fitted = fit_to(data, (8, 8, 1), 10)
    assert fitted.x_train.shape == (1437, 8, 8, 1)
    assert fitted.x_test[3, :, :, 0].tolist() == data.x_test[3].tolist()


def test_data_that_does_not_fit_the_model_is_refused(save):
    digits = load_data("digits")
    with pytest.raises(InvalidArgumentError, match=r"inputs of shape \[784\], .* shape \[8, 8\]"):
        fit_to(digits, (784,), 10)
    with pytest.raises(InvalidArgumentError, match="5 outputs, and the data has labels up to 9"):
        fit_to(digits, (64,), 5)
    targets = load_data(save(x=np.ones((10, 3)), y=np.ones((10, 2))))
    with pytest.raises(InvalidArgumentError, match="3 outputs, and the data has 2 targets"):
        fit_to(targets, (3,), 3)
