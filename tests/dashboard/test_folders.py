"""Names from people and from uploads never become paths, and nothing is written over."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedviz.dashboard import folders
from fedviz.dataset import WeightDataset
from fedviz.errors import DatasetFormatError, FedvizError, InvalidArgumentError
from tests.dashboard.datasets import NASTY_FILE, write

SAMPLE = folders.SAMPLES / "digits-mlp.h5"


@pytest.fixture(autouse=True)
def _own_folder(data_dir):
    """Every test here writes."""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my run", "my-run.h5"),
        ("my-run.h5", "my-run.h5"),
        ("../../etc/passwd", "passwd.h5"),
        ("/etc/shadow", "shadow.h5"),
        (r"..\..\windows", "windows.h5"),
        (".hidden", "hidden.h5"),
        ("a\0b", "a-b.h5"),
        ("größe", "gr-e.h5"),
        ("x" * 500, "x" * 80 + ".h5"),
    ],
)
def test_a_name_becomes_a_file_in_the_folder(data_dir, name, expected):
    assert folders.free_path(name) == data_dir / expected


@pytest.mark.parametrize("name", ["", "..", "/", "...", "✨", ".h5", "-"])
def test_a_name_of_which_nothing_is_left_is_refused(name):
    with pytest.raises(InvalidArgumentError, match="cannot name a dataset"):
        folders.free_path(name)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=100))
def test_no_name_leaves_the_folder(name):
    try:
        path = folders.free_path(name)
    except InvalidArgumentError:
        return
    assert path.parent == folders.data_folder()
    assert path.resolve().parent == folders.data_folder().resolve()
    assert (path.suffix, path.name.startswith(".")) == (".h5", False)


def test_a_taken_name_gets_a_number(data_dir):
    write(data_dir / "run.h5")
    assert folders.free_path("run").name == "run-2.h5"
    write(data_dir / "run-2.h5")
    assert folders.free_path("run.h5").name == "run-3.h5"


def test_the_name_of_a_sample_is_taken():
    assert folders.free_path(SAMPLE.name).name == "digits-mlp-2.h5"


def test_whatever_has_the_name_is_not_written_over(data_dir):
    (data_dir / "folder.h5").mkdir()
    (data_dir / "link.h5").symlink_to(data_dir / "nowhere")
    assert folders.free_path("folder").name == "folder-2.h5"
    assert folders.free_path("link").name == "link-2.h5"
    assert not {"folder.h5", "link.h5"} & set(folders.datasets())


def test_an_upload_is_kept_beside_one_of_its_name(data_dir):
    content = SAMPLE.read_bytes()
    first = folders.keep_upload("run.h5", content)
    second = folders.keep_upload("run.h5", content)
    assert [first.name, second.name] == ["run.h5", "run-2.h5"]
    assert first.read_bytes() == second.read_bytes() == content
    assert {path.name for path in data_dir.iterdir()} == {"run.h5", "run-2.h5"}


@pytest.mark.parametrize("content", [b"", b"no HDF5", SAMPLE.read_bytes()[:50_000]])
def test_an_upload_that_is_no_dataset_leaves_nothing(data_dir, content):
    with pytest.raises(FedvizError, match=r"run\.h5"):
        folders.keep_upload("run.h5", content)
    assert list(data_dir.iterdir()) == []


def test_another_program_s_hdf5_is_no_dataset(data_dir, tmp_path):
    import h5py

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(DatasetFormatError):
        folders.keep_upload("other.h5", (tmp_path / "other.h5").read_bytes())
    assert list(data_dir.iterdir()) == []


def test_templates_are_named_by_their_content(data_dir):
    path = folders.keep_template("../my model.json", b"{}")
    assert path.parent == data_dir / "uploads"
    assert path.name.startswith("my-model-")
    assert path.suffix == ".json"
    assert folders.keep_template("../my model.json", b"{}") == path
    assert folders.keep_template("../my model.json", b"[]") != path


def test_all_datasets_are_listed_the_newest_first(data_dir, monkeypatch, tmp_path):
    import os

    old, new = write(data_dir / "old.h5"), write(data_dir / NASTY_FILE)
    os.utime(old, (1, 1))
    samples = ["digits-mlp.h5", "digits-cnn.h5", "digits-faults.h5"]
    assert list(folders.datasets()) == [new.name, old.name, *samples]
    assert folders.first_dataset() == "digits-mlp.h5"
    opened = write(tmp_path / "elsewhere.h5")
    monkeypatch.setenv("FEDVIZ_OPEN", str(opened))
    assert folders.first_dataset() == "elsewhere.h5"
    assert folders.dataset_path("elsewhere.h5") == opened
    assert not folders.is_ours(opened)


def test_a_sample_stays_in_reach_when_its_name_is_taken(data_dir):
    shutil.copyfile(SAMPLE, data_dir / SAMPLE.name)
    found = folders.datasets()
    assert found[SAMPLE.name] == data_dir / SAMPLE.name
    assert found[f"{SAMPLE.name} (sample)"] == SAMPLE
    with WeightDataset(found[SAMPLE.name]) as dataset:
        assert len(dataset.rounds) == 5
