import zipfile

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from fedviz.errors import DatasetFormatError, StorageError
from fedviz.importers.npz import read_npz
from fedviz.importers.template import read_template
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)
BIAS = np.array([1.0, 2.0, 3.0], np.float32)


def check(path, names=("dense/kernel", "dense/bias")):
    weights, signature = read_template(path)
    assert signature.names == names
    assert [spec.tff_type for spec in signature] == ["float32[2,3]", "float32[3]"]
    np.testing.assert_array_equal(weights[0], KERNEL)
    np.testing.assert_array_equal(weights[1], BIAS)
    return signature


def test_npz_keeps_its_order(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", **{"dense/kernel": KERNEL, "dense/bias": BIAS})
    check(tmp_path / "w.npz")


def test_safetensors(tmp_path):
    save_file({"a": KERNEL, "b": BIAS}, tmp_path / "w.safetensors")
    check(tmp_path / "w.safetensors", ("a", "b"))


def test_a_fedviz_dataset_gives_the_server_model_of_its_first_round(tmp_path):
    signature = Signature(
        (
            TensorSpec("dense/kernel", (2, 3), "float32", True),
            TensorSpec("dense/bias", (3,), "float32", False),
        )
    )
    path = tmp_path / "clients.h5"
    entry = ClientEntry("c00", 3)
    with (
        WeightDatasetWriter(path, signature) as writer,
        writer.round(clients=[entry], server=[KERNEL, BIAS]) as written,
    ):
        written.write_client("c00", [KERNEL + 1, BIAS + 1])
    assert [spec.trainable for spec in check(path)] == [True, False]


@pytest.mark.parametrize("root", ["", "model_weights"])
def test_keras_2_order_is_that_of_its_attributes(tmp_path, root):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        layers = file.require_group(root) if root else file
        layers.attrs["layer_names"] = [b"input", b"dense"]
        layers.create_group("input").attrs["weight_names"] = np.zeros(0)
        dense = layers.create_group("dense")
        dense.attrs["weight_names"] = [b"dense/kernel:0", b"dense/bias:0"]
        dense["dense/bias:0"] = BIAS
        dense["dense/kernel:0"] = KERNEL
    check(tmp_path / "w.h5")


def test_keras_weights_without_names_are_numbered_by_layer(tmp_path):
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        file["_layer_checkpoint_dependencies/dense/vars/0"] = KERNEL
        file["_layer_checkpoint_dependencies/dense/vars/1"] = BIAS
        file.create_group("vars")
    check(tmp_path / "w.weights.h5", ("dense/0", "dense/1"))


def test_links_to_other_files_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"] = KERNEL
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        dense = file.create_group("dense")
        dense.attrs["weight_names"] = [b"kernel"]
        dense["kernel"] = h5py.ExternalLink("secret.h5", "kernel")
    with pytest.raises(DatasetFormatError, match=r"w\.h5, tensor kernel: .* or a link"):
        read_template(tmp_path / "w.h5")


def test_values_that_are_not_in_the_file_are_refused(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        dense = file.create_group("dense")
        dense.attrs["weight_names"] = [b"kernel"]
        dense.create_dataset("kernel", (10**6, 10**6), "f4")
    with pytest.raises(DatasetFormatError, match="expected its values in the file, found none"):
        read_template(tmp_path / "w.h5")


def test_an_npz_header_that_declares_more_than_there_is_is_refused(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DatasetFormatError, match="tensor a: expected 4,000,000,000,000 bytes"):
        read_npz(tmp_path / "w.npz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pkl", b"", "a .pkl file is a pickle, .* save the weights as .safetensors"),
        ("w.txt", b"", "expected one of .h5, .hdf5, .npz, .safetensors, found .txt"),
        ("w.h5", b"nothing", "w.h5: expected an HDF5 file"),
        ("w.npz", b"nothing", "w.npz: expected an .npz file"),
        ("w.safetensors", b"nothing!!", "w.safetensors: expected a .safetensors file"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetFormatError, match=message):
        read_template(tmp_path / name)


def test_object_arrays_strings_and_empty_files_are_refused(tmp_path):
    np.savez(tmp_path / "o.npz", a=np.array([None, {}], object))
    with pytest.raises(DatasetFormatError, match="tensor a: expected numbers, found Python obj"):
        read_template(tmp_path / "o.npz")
    np.savez(tmp_path / "s.npz", a=np.array(["x"]))
    with pytest.raises(DatasetFormatError, match="tensor a: dtype <U1 cannot be a weight"):
        read_template(tmp_path / "s.npz")
    h5py.File(tmp_path / "e.h5", "w").close()
    with pytest.raises(DatasetFormatError, match=r"e\.h5: expected weights, found no tensors"):
        read_template(tmp_path / "e.h5")
    with pytest.raises(StorageError, match="there is no"):
        read_template(tmp_path / "absent.h5")
