import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fedviz.errors import DatasetFormatError, StorageError
from fedviz.exporters import export_weights
from tests.importers.keras_layouts import BIAS, KERNEL
from tests.importers.opened import opened


def raw(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def sharded(folder, places):
    save_file({"a": KERNEL, "unnamed": BIAS}, folder / "model-00001-of-00002.safetensors")
    save_file({"b": BIAS}, folder / "model-00002-of-00002.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 36}, "weight_map": places}))
    return index


def test_every_dtype_is_kept_bit_by_bit(tmp_path):
    weights = {
        dtype: np.array([0, 1, 2]).astype(getattr(ml_dtypes, dtype, dtype))
        for dtype in ("float64", "float32", "float16", "bfloat16", "int64", "uint8", "bool")
    }
    save_file(weights, tmp_path / "w.safetensors")
    found = opened(tmp_path / "w.safetensors")
    for dtype, array in weights.items():
        assert found.arrays[dtype].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[dtype], array)


def test_shards_are_read_by_their_index(tmp_path):
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    found = opened(sharded(tmp_path, {"b": second, "a": first}))
    assert found.names == ["b", "a"]
    np.testing.assert_array_equal(found.arrays["a"], KERNEL)
    assert found.left_out == {f"{first}: unnamed": "the index does not name it"}
    assert found.format == "safetensors in shards"


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "sub/x.safetensors"])
def test_an_index_does_not_lead_out_of_its_folder(tmp_path, shard):
    with pytest.raises(DatasetFormatError, match="tensor a: expected its shard in the same folder"):
        opened(sharded(tmp_path, {"a": shard}))


def test_an_index_that_names_what_is_not_there(tmp_path):
    first = "model-00001-of-00002.safetensors"
    with pytest.raises(DatasetFormatError, match=f"tensor b: expected it in {first}"):
        opened(sharded(tmp_path, {"b": first}))
    with pytest.raises(StorageError, match=r"cannot read gone\.safetensors"):
        opened(sharded(tmp_path, {"b": "gone.safetensors"}))


def test_an_export_is_read_back_by_safetensors(tmp_path):
    weights = {"dense/kernel": KERNEL.T, "dense/bias": BIAS.astype(ml_dtypes.bfloat16)}
    export_weights(tmp_path / "w.safetensors", weights)
    found = load_file(tmp_path / "w.safetensors")
    for name, array in weights.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_duplicate_names_are_refused(tmp_path):
    entry = '"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    path = raw(tmp_path / "w.safetensors", f"{{{entry}, {entry}}}".encode(), b"\0" * 4)
    with pytest.raises(DatasetFormatError, match="tensor a: the name is used by more than one"):
        opened(path)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_dtypes_that_weights_cannot_have(tmp_path, dtype):
    entry = {"dtype": dtype, "shape": [4], "data_offsets": [0, 4]}
    path = raw(tmp_path / "w.safetensors", {"a": entry}, b"\0" * 4)
    with pytest.raises(DatasetFormatError, match=f"tensor a: dtype {dtype} cannot be a weight"):
        opened(path)


@pytest.mark.parametrize(
    "shape", [[1_000_000_000_000], [-1], [2**40, 2**40]], ids=["huge", "negative", "overflow"]
)
def test_shapes_that_the_file_has_no_bytes_for(tmp_path, shape):
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}
    path = raw(tmp_path / "w.safetensors", {"a": entry}, b"\0" * 4)
    with pytest.raises(DatasetFormatError, match=r"^w\.safetensors: expected a \.safetensors file"):
        opened(path)
