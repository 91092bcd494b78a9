import h5py
import numpy as np
import pytest

from fedviz.errors import DatasetFormatError
from tests.importers.keras_layouts import BIAS, KERNEL, write_keras_hdf5
from tests.importers.opened import opened

DENSE = {"dense/kernel:0": KERNEL, "dense/bias:0": BIAS}


@pytest.mark.parametrize("root", ["", "model_weights"])
def test_order_is_that_of_layer_names_and_weight_names(tmp_path, root):
    layers = {f"dense_{i}": {f"dense_{i}/kernel:0": KERNEL * i} for i in (2, 10, 1)}
    layers["a_last"] = {"a_last/kernel:0": KERNEL, "a_last/bias:0": BIAS}
    found = opened(write_keras_hdf5(tmp_path / "w.h5", layers, root))
    assert found.names == [
        *("dense_2/kernel", "dense_10/kernel", "dense_1/kernel"),
        *("a_last/kernel", "a_last/bias"),
    ]
    np.testing.assert_array_equal(found.arrays["dense_10/kernel"], KERNEL * 10)
    assert found.took["a_last/a_last/bias:0"] == "a_last/bias"
    assert found.format == "Keras HDF5"


def test_optimizer_state_is_left_out_and_said_so(tmp_path):
    path = write_keras_hdf5(tmp_path / "m.h5", {"dense": DENSE}, "model_weights", optimizer=True)
    found = opened(path)
    assert found.names == ["dense/kernel", "dense/bias"]
    assert found.left_out == {"optimizer_weights/Adam/m/dense/kernel:0": "optimizer state"}


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        # Keras 1 numbers its layers and calls the variables W and b.
        ({"dense_1": {"dense_1_W": KERNEL, "dense_1_b": BIAS}}, ["dense_1_W", "dense_1_b"]),
        # Keras 3 writes bare names, or paths that begin with the model's name.
        ({"dense": {"kernel": KERNEL, "bias": BIAS}}, ["dense/kernel", "dense/bias"]),
        ({"dense": {"sequential/dense/kernel": KERNEL}}, ["dense/kernel"]),
        # A model as a layer: its own layers' names differ from its group's.
        ({"encoder": {"dense_7/kernel:0": KERNEL}, "out": {"out/bias:0": BIAS}}, None),
    ],
)
def test_names_that_differ_from_their_groups(tmp_path, layers, names):
    found = opened(write_keras_hdf5(tmp_path / "w.h5", layers))
    assert found.names == (names or ["dense_7/kernel", "out/bias"])


def test_a_name_that_two_layers_use_takes_its_layer_before_it(tmp_path):
    layers = {"left": {"dense/kernel:0": KERNEL}, "right": {"dense/kernel:0": KERNEL + 1}}
    found = opened(write_keras_hdf5(tmp_path / "w.h5", layers))
    assert found.names == ["left/dense/kernel", "right/dense/kernel"]
    np.testing.assert_array_equal(found.arrays["right/dense/kernel"], KERNEL + 1)


def test_names_above_64_kb_are_split_over_attributes(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for chunk, names in enumerate(([b"b", b"a"], [b"c"])):
            file.attrs[f"layer_names{chunk}"] = names
            for name in names:
                group = file.create_group(name)
                group.attrs["weight_names"] = [name + b"/kernel:0"]
                group[name + b"/kernel:0"] = KERNEL
    assert opened(tmp_path / "w.h5").names == ["b/kernel", "a/kernel", "c/kernel"]


def test_weights_of_the_model_itself_come_last(tmp_path):
    layers = {"dense": DENSE, "top_level_model_weights": {"temperature:0": np.float32(2.0)}}
    path = write_keras_hdf5(tmp_path / "w.h5", layers)
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = [b"dense"]
    found = opened(path)
    assert found.names == ["dense/kernel", "dense/bias", "temperature"]
    assert found.arrays["temperature"] == 2.0


def test_big_endian_values_become_little_endian(tmp_path):
    path = write_keras_hdf5(tmp_path / "w.h5", {"dense": {"dense/kernel:0": KERNEL.astype(">f4")}})
    kernel = opened(path).arrays["dense/kernel"]
    assert kernel.dtype.str == "<f4"
    np.testing.assert_array_equal(kernel, KERNEL)


@pytest.mark.parametrize("step", ["dense", "dense/dense", "dense/dense/kernel:0"])
def test_links_to_other_files_are_not_followed(tmp_path, step):
    write_keras_hdf5(tmp_path / "secret.h5", {"dense": DENSE})
    path = write_keras_hdf5(tmp_path / "w.h5", {"dense": DENSE})
    with h5py.File(path, "r+") as file:
        attributes = dict(file["dense"].attrs)
        del file[step]
        file[step] = h5py.ExternalLink("secret.h5", step)
        if step != "dense":
            file["dense"].attrs.update(attributes)
    with pytest.raises(DatasetFormatError, match=r"w\.h5, tensor dense.*found a link to another"):
        opened(path)


@pytest.mark.parametrize("kind", ["virtual", "external"])
def test_values_in_other_files_are_not_followed(tmp_path, kind):
    write_keras_hdf5(tmp_path / "secret.h5", {"dense": DENSE})
    path = write_keras_hdf5(tmp_path / "w.h5", {"dense": DENSE})
    with h5py.File(path, "r+") as file:
        del file["dense/dense/kernel:0"]
        if kind == "virtual":
            virtual = h5py.VirtualLayout((2, 3), "f4")
            virtual[:] = h5py.VirtualSource(tmp_path / "secret.h5", "dense/dense/kernel:0", (2, 3))
            file.create_virtual_dataset("dense/dense/kernel:0", virtual)
        else:
            place = [(str(tmp_path / "secret.h5"), 0, 24)]
            file.create_dataset("dense/dense/kernel:0", (2, 3), "f4", external=place)
    with pytest.raises(DatasetFormatError, match="tensor dense/kernel: its values lie in another"):
        opened(path)


def test_values_that_are_not_in_the_file_are_refused(tmp_path):
    path = write_keras_hdf5(tmp_path / "w.h5", {"dense": DENSE})
    with h5py.File(path, "r+") as file:
        del file["dense/dense/kernel:0"]
        file.create_dataset("dense/dense/kernel:0", (10**6, 10**6), "f4", chunks=(1000, 1000))
    with pytest.raises(DatasetFormatError, match=r"declares 4,000,000,000,000 bytes, of which 0"):
        opened(path)


def test_a_weight_that_is_not_there_is_named(tmp_path):
    path = write_keras_hdf5(tmp_path / "w.h5", {"dense": DENSE})
    with h5py.File(path, "r+") as file:
        del file["dense/dense/bias:0"]
    with pytest.raises(DatasetFormatError, match=r"tensor dense/bias:0: .* found no such item"):
        opened(path)
