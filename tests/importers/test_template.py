import numpy as np
import pytest
from safetensors.numpy import save_file

from fedviz.errors import DatasetFormatError, StorageError
from fedviz.importers.template import read_template
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.importers.keras_layouts import BIAS, KERNEL, write_store


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


def test_keras_weights_have_the_usual_names(tmp_path):
    write_store(tmp_path / "w.weights.h5", {"layers/dense": [KERNEL, BIAS]})
    check(tmp_path / "w.weights.h5")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pkl", b"", "w.pkl: a pickle may run code when it is read, .* as safetensors"),
        ("w.txt", b"", "w.txt: expected weights, found an empty file"),
        ("w.h5", b"nothing", "w.h5: expected HDF5, found a text"),
        ("model_checkpoint", b"model_checkpoint_path: 'x'", "cannot be read here; make a dataset"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetFormatError, match=message):
        read_template(tmp_path / name)


def test_an_absent_file_is_said(tmp_path):
    with pytest.raises(StorageError, match="there is no"):
        read_template(tmp_path / "absent.h5")
