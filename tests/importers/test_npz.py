import zipfile

import ml_dtypes
import numpy as np
import pytest

from fedviz.errors import DatasetFormatError
from fedviz.exporters import export_weights
from fedviz.importers.npz import read_npz
from tests.importers.keras_layouts import BIAS, KERNEL
from tests.importers.opened import opened


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_named_arrays_keep_their_order(tmp_path, save):
    save(tmp_path / "w.npz", **{"z/kernel": KERNEL, "a/bias": BIAS})
    found = opened(tmp_path / "w.npz")
    assert found.names == ["z/kernel", "a/bias"]
    assert found.took == {"z/kernel.npy": "z/kernel", "a/bias.npy": "a/bias"}
    np.testing.assert_array_equal(found.arrays["z/kernel"], KERNEL)
    assert found.notes == ()


def test_numbered_arrays_are_in_numeric_order(tmp_path):
    arrays = {f"arr_{i}": np.full(2, i, np.float32) for i in range(12)}
    np.savez(tmp_path / "w.npz", **dict(sorted(arrays.items())))
    found = opened(tmp_path / "w.npz")
    assert found.names == [f"arr_{i}" for i in range(12)]
    assert [array[0] for array in found.arrays.values()] == list(range(12))
    assert found.notes == ("the file gives its arrays numbers instead of names",)


def test_an_npy_file_is_one_tensor(tmp_path):
    np.save(tmp_path / "w.npy", KERNEL.astype(">f8"))
    found = opened(tmp_path / "w.npy")
    assert found.names == ["arr_0"]
    assert found.arrays["arr_0"].dtype.str == "<f8"
    np.testing.assert_array_equal(found.arrays["arr_0"], KERNEL)


def test_fortran_order_integers_bools_scalars_and_empty_tensors(tmp_path):
    arrays = {
        "fortran": np.asfortranarray(KERNEL),
        "count": np.int64(7),
        "mask": np.array([True, False]),
        "none": np.zeros((0, 3), np.float16),
    }
    np.savez(tmp_path / "w.npz", **arrays)
    found = opened(tmp_path / "w.npz")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == np.asarray(array).dtype


def test_an_export_is_read_back_by_numpy(tmp_path):
    # "file" is a parameter of numpy.savez, and a fair name of a tensor.
    weights = {"file": KERNEL, "dense/bias": BIAS.astype(ml_dtypes.bfloat16)}
    export_weights(tmp_path / "w.npz", weights)
    with np.load(tmp_path / "w.npz") as file:
        assert file.files == ["file", "dense/bias"]
        np.testing.assert_array_equal(file["file"], KERNEL)
        assert file["dense/bias"].dtype == np.float32
        np.testing.assert_array_equal(file["dense/bias"], BIAS)


def test_training_data_may_have_text_in_it(tmp_path):
    np.savez(tmp_path / "data.npz", x=KERNEL, client_ids=np.array(["c0", "c1"]))
    assert read_npz(tmp_path / "data.npz")["client_ids"].tolist() == ["c0", "c1"]


def test_a_header_that_declares_more_than_there_is(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    for read in (read_npz, opened):
        with pytest.raises(DatasetFormatError, match="tensor a: expected 4,000,000,000,000 bytes"):
            read(tmp_path / "w.npz")
