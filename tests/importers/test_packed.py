"""Models of several files inside a zip; TensorFlow's are in test_tensorflow_files.py."""

import json
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save

from fedviz.dataset import WeightDataset
from fedviz.errors import DatasetFormatError, StorageError
from fedviz.importers.packed import packed_models
from fedviz.importing import import_clients
from tests.importers.keras_layouts import BIAS, KERNEL

PARTS = {"model-1.safetensors": {"kernel": KERNEL}, "model-2.safetensors": {"bias": BIAS}}
WHERE = {name: shard for shard, tensors in PARTS.items() for name in tensors}


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def sharded(folder, where=WHERE):
    index = {f"{folder}/model.safetensors.index.json": json.dumps({"weight_map": where})}
    return index | {f"{folder}/{shard}": save(tensors) for shard, tensors in PARTS.items()}


def test_each_index_with_its_shards_is_a_client(tmp_path):
    members = sharded("north") | sharded("south") | {"README.md": "hello"}
    report = import_clients([write_zip(tmp_path / "all.zip", members)], tmp_path / "out.h5")

    assert [client.id for client in report.clients] == ["north", "south"]
    reasons = {item.source: item.reason for item in report.passed_over}
    assert reasons["all.zip/north/model-2.safetensors"] == "a shard, read by its index"
    assert reasons["all.zip/README.md"] == "not a weights file"
    with WeightDataset(tmp_path / "out.h5") as dataset:
        for client in dataset.round().clients.values():
            np.testing.assert_array_equal(client["kernel"], KERNEL)
            np.testing.assert_array_equal(client["bias"], BIAS)


def test_a_shard_that_is_not_there(tmp_path):
    members = sharded("north")
    del members["north/model-2.safetensors"]
    with pytest.raises(StorageError, match=r"model-2\.safetensors"):
        import_clients([write_zip(tmp_path / "all.zip", members)], tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ("../../model-1.safetensors", "expected its shard in the same folder"),
        ("/etc/passwd", "expected its shard in the same folder"),
        ("model 1.safetensors", "expected shards named with letters"),
        (".model", "expected shards named with letters"),
        ("m" * 200, "expected shards named with letters"),
    ],
)
def test_names_that_an_index_could_trick_with(tmp_path, shard, message):
    members = sharded("north", {"kernel": shard}) | {f"north/{shard.rpartition('/')[2]}": b"x"}
    with pytest.raises(DatasetFormatError, match=message):
        import_clients([write_zip(tmp_path / "all.zip", members)], tmp_path / "out.h5")


def test_a_shard_that_is_a_bomb(tmp_path):
    members = sharded("north") | {"north/model-1.safetensors": bytes(300_000_000)}
    with pytest.raises(DatasetFormatError, match="as zip bombs do"):
        import_clients([write_zip(tmp_path / "all.zip", members)], tmp_path / "out.h5")


def test_names_under_which_members_are_copied_out_are_ours(tmp_path):
    members = {
        "a b/tricky name.index": b"i",
        "a b/tricky name.data-00000-of-00001": b"d",
        "m/saved_model.pb": b"p",
        "m/variables/variables.index": b"i",
        "m/variables/variables.data-00000-of-00001": b"d",
        "m/assets/run.sh": b"#!",
        "single;file.npz": b"s",
    }
    models, passed_over = packed_models(write_zip(tmp_path / "all.zip", members))

    by_name = {model.name: model for model in models}
    assert list(by_name) == ["a b/tricky name.index", "m", "single;file.npz"]
    owns = {name: sorted(own for _, own in model.files) for name, model in by_name.items()}
    assert owns["a b/tricky name.index"] == ["model.ckpt.data-00000-of-00001", "model.ckpt.index"]
    assert owns["m"] == [
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    assert owns["single;file.npz"] == ["single_file.npz"]
    assert [item.reason for item in passed_over] == ["part of a checkpoint"]
    with by_name["m"].copied_out(tmp_path / "all.zip") as folder:
        assert (folder / "variables" / "variables.index").read_bytes() == b"i"
    assert not folder.exists()
