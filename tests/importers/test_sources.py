import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from fedviz.errors import DatasetFormatError, InvalidArgumentError, StorageError
from fedviz.importers.natural_order import natural_key
from fedviz.importers.sources import (
    ClientSource,
    client_ids,
    examples_in_name,
    find_sources,
    in_natural_order,
)
from tests.importers.keras_layouts import BIAS, KERNEL


def ids_of(*names):
    return client_ids([ClientSource(name, Path(name)) for name in names])


def names_in(*paths):
    sources, _ = find_sources(paths)
    return [source.name for source in in_natural_order(sources)]


def weights(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, kernel=KERNEL, bias=BIAS)
    return path


@given(st.lists(st.integers(0, 10**25), unique=True))
def test_natural_order_is_numeric(numbers):
    names = [f"client{n}.h5" for n in numbers]
    assert sorted(names, key=natural_key) == [f"client{n}.h5" for n in sorted(numbers)]


@given(st.lists(st.text(), unique=True))
def test_natural_order_tells_all_names_apart(names):
    assert len({natural_key(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["client1.h5", "client2.h5"], ["client1", "client2"]),
        (["a_n120.npz", "b_n7.npz"], ["a", "b"]),
        (["site-3_num_examples=50.safetensors"], ["site-3"]),
        (["c1.weights.h5", "c2.keras", "c3.ckpt.index"], ["c1", "c2", "c3"]),
        (["north/model.h5", "south/model.h5"], ["north", "south"]),
        (["x/a/model.h5", "y/a/model.h5", "y/b/model.h5"], None),
        (["a/client1.h5", "b/client1.h5", "b/client2.h5"], ["a/client1", "b/client1", "b/client2"]),
        (["d/client1.h5", "d/client1.npz"], ["d/client1.h5", "d/client1.npz"]),
        (["n5.npz", "n6.npz"], ["n5", "n6"]),
        (["node_n1.h5", "node_n2.h5"], ["node_n1", "node_n2"]),
        (["north_n7/model.h5", "south_n9/model.h5"], ["north", "south"]),
        (["m.safetensors.index.json"], ["m"]),
    ],
)
def test_client_ids_come_from_names_and_are_unique(names, ids):
    found = ids_of(*names)
    assert found == (ids or names)
    assert len(set(found)) == len(names)


@pytest.mark.parametrize(
    ("name", "examples"),
    [
        ("client3_n120.npz", 120),
        ("client3-n=120.h5", 120),
        ("c_num_examples120.h5", 120),
        ("c.samples_9.h5", 9),
        ("site_n4/model.h5", 4),
        ("cnn2.h5", None),
        ("client3_n120b.h5", None),
        ("n.h5", None),
        ("n5.h5", None),
    ],
)
def test_num_examples_in_names(name, examples):
    source = ClientSource(name, Path(name))
    assert examples_in_name(source, *client_ids([source])) == examples


def test_a_number_that_tells_clients_apart_is_not_num_examples():
    sources = [ClientSource(name, Path(name)) for name in ("node_n1.h5", "node_n2.h5")]
    ids = client_ids(sources)
    assert [examples_in_name(s, i) for s, i in zip(sources, ids, strict=True)] == [None, None]


def test_a_client_of_a_dataset_keeps_its_id():
    source = ClientSource("run.h5#site_n5", Path("run.h5"), part="site_n5")
    assert client_ids([source]) == ["site_n5"]


def test_a_folder_is_searched_in_natural_order_and_says_what_it_passes_over(tmp_path):
    for name in ("client10", "client9", "sub/client1"):
        weights(tmp_path / "in" / f"{name}.npz")
    (tmp_path / "in" / "README.md").write_text("hello")
    (tmp_path / "in" / "client2.pt").write_bytes(b"\x80\x02}q.")
    (tmp_path / "in" / ".hidden.npz").write_bytes(b"")
    (tmp_path / "in" / "config.json").write_text('{"class_name": "Sequential"}')
    sources, passed_over = find_sources([tmp_path / "in"])
    assert [s.name for s in sources] == [
        *("in/client9.npz", "in/client10.npz", "in/sub/client1.npz"),
    ]
    assert {item.source: item.reason for item in passed_over} == {
        "in/README.md": "not a weights file",
        "in/config.json": "not a weights file",
        "in/client2.pt": "a pickle, which is never opened; save it as .safetensors",
    }


def test_shards_belong_to_their_index(tmp_path):
    for client in ("a", "b"):
        folder = tmp_path / "all" / client
        folder.mkdir(parents=True)
        save_file({"kernel": KERNEL}, folder / "model-1.safetensors")
        index = {"weight_map": {"kernel": "model-1.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    sources, passed_over = find_sources([tmp_path / "all"])
    assert client_ids(sources) == ["a", "b"]
    assert {item.reason for item in passed_over} == {"a shard, read by its index"}


def test_a_damaged_client_in_a_folder_does_not_get_lost(tmp_path):
    content = weights(tmp_path / "in" / "client1.npz").read_bytes()
    (tmp_path / "in" / "client2.npz").write_bytes(content[:200])
    with pytest.raises(DatasetFormatError, match=r"^client2\.npz: the archive is damaged"):
        find_sources([tmp_path / "in"])


def test_a_zip_of_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("c10.npz", "c9.npz", "__MACOSX/c9.npz", ".DS_Store", "sub/"):
            archive.writestr(name, b"")
    assert names_in(tmp_path / "all.zip") == ["all.zip/c9.npz", "all.zip/c10.npz"]


def test_files_given_by_themselves_keep_the_order_given(tmp_path):
    paths = [weights(tmp_path / f"c{i}.npz") for i in (10, 2)]
    sources, _ = find_sources(paths)
    assert [s.path.name for s in sources] == ["c10.npz", "c2.npz"]
    assert [s.path.name for s in in_natural_order(sources)] == ["c2.npz", "c10.npz"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda _: [], InvalidArgumentError, "expected files or folders to import, found none"),
        (lambda f: [f / "gone.h5"], StorageError, r"cannot read gone\.h5: there is no"),
        (lambda f: [f], InvalidArgumentError, "expected weights files, found none"),
        (lambda f: [weights(f / "a.npz")] * 2, InvalidArgumentError, r"a\.npz is named twice"),
        (lambda f: [weights(f / "a.npz"), f], InvalidArgumentError, r"a\.npz is named twice"),
        (lambda f: [weights(f / "a.npz").with_name("a.npz#c0")], DatasetFormatError, "part c0"),
    ],
)
def test_what_cannot_be_found(tmp_path, make, error, message):
    with pytest.raises(error, match=message):
        find_sources(make(tmp_path))


def test_a_number_sign_in_a_file_name_is_no_part(tmp_path):
    assert names_in(weights(tmp_path / "c#1.npz")) == [f"{tmp_path.name}/c#1.npz"]
