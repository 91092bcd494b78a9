"""Who the clients of an import would be, and what a person may make of that."""

from __future__ import annotations

import zipfile
from dataclasses import replace

import numpy as np
import pytest

from fedviz.dataset import WeightDataset
from fedviz.errors import InvalidArgumentError
from fedviz.importers.imported import LeftOut
from fedviz.importers.listing import ProposedClient, client_problems, proposed_clients
from fedviz.importing import import_clients
from tests.importers.keras_layouts import BIAS, KERNEL, write_keras_hdf5


def keras(path, shift=0):
    path.parent.mkdir(exist_ok=True)
    return write_keras_hdf5(
        path, {"dense": {"dense/kernel:0": KERNEL + shift, "dense/bias:0": BIAS}}
    )


@pytest.fixture
def folder(tmp_path):
    """client10 without, client2 with a number; a text among them."""
    keras(tmp_path / "in" / "client10.h5", 10)
    np.savez(
        tmp_path / "in" / "client2_n20.npz",
        **{"dense/kernel": KERNEL + 2, "dense/bias": BIAS},
    )
    (tmp_path / "in" / "README.txt").write_text("hello")
    return tmp_path / "in"


def zipped(folder):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in folder.iterdir():
            archive.write(each, f"in/{each.name}")
        archive.writestr("in/model.pt", b"\x80\x02}q.")
    return path


EXPECTED = [("client2", 20), ("client10", None)]


def named(clients):
    return [(client.id, client.num_examples) for client in clients]


def test_a_folder_is_listed_as_it_would_be_imported(folder, tmp_path):
    found = proposed_clients([folder])
    assert named(found.clients) == EXPECTED
    assert [c.source for c in found.clients] == ["in/client2_n20.npz", "in/client10.h5"]
    assert found.passed_over == (LeftOut("in/README.txt", "not a weights file"),)
    report = import_clients([folder], tmp_path / "out.h5")
    assert named(report.clients) == EXPECTED


def test_the_clients_in_a_zip_are_listed_and_what_is_none_is_not(folder):
    found = proposed_clients([zipped(folder)])
    assert named(found.clients) == EXPECTED
    assert sorted(item.source for item in found.passed_over) == [
        "in.zip/in/README.txt",
        "in.zip/in/model.pt",
    ]


def test_the_clients_of_a_dataset_are_listed_with_their_numbers(folder, tmp_path):
    import_clients([folder], tmp_path / "run.h5", num_examples={"client10": 7})
    found = proposed_clients([tmp_path / "run.h5", keras(tmp_path / "more.h5")])
    assert named(found.clients) == [("more", None), ("client2", 20), ("client10", 7)]


@pytest.mark.parametrize("packed", [False, True])
def test_what_a_person_corrects_goes_before_all_else(folder, tmp_path, packed):
    files = [zipped(folder) if packed else folder]
    (tmp_path / "n.csv").write_text("client2,5\nclient10,6\n")
    first, second = proposed_clients(files, tmp_path / "n.csv").clients
    assert named([first, second]) == [("client2", 5), ("client10", 6)]
    corrected = [replace(first, id="north", num_examples=None), replace(second, num_examples=9)]
    import_clients(files, tmp_path / "out.h5", num_examples=tmp_path / "n.csv", clients=corrected)
    with WeightDataset(tmp_path / "out.h5") as dataset:
        round_ = dataset.round()
        assert named(round_.records) == [("north", None), ("client10", 9)]
        np.testing.assert_array_equal(round_.clients["north"]["dense/kernel"], KERNEL + 2)
        np.testing.assert_array_equal(round_.clients["client10"]["dense/kernel"], KERNEL + 10)


def test_what_cannot_be_is_said_of_each_client_and_refused(folder, tmp_path):
    clients = [
        ProposedClient("a.h5", "north", 3),
        ProposedClient("b.h5", "north", -1),
        ProposedClient("c.h5", " "),
        ProposedClient("d.h5", "x" * 1025),
        ProposedClient("e.h5", "east", 2**63),
        ProposedClient("f.h5", "west", 0),
    ]
    assert [(client.source, problem) for client, problem in client_problems(clients)] == [
        ("a.h5", "the id north is that of 2 clients; ids are unique"),
        ("b.h5", "the id north is that of 2 clients; ids are unique"),
        ("b.h5", "num_examples is -1; expected 0 or more"),
        ("c.h5", "expected an id, found none"),
        ("d.h5", "expected an id of 1 to 1,024 characters of valid Unicode"),
        ("e.h5", "num_examples is 9223372036854775808; expected 0 or more"),
    ]
    same = [replace(client, id="one") for client in proposed_clients([folder]).clients]
    with pytest.raises(InvalidArgumentError, match=r"^in/client2_n20\.npz: the id one is"):
        import_clients([folder], tmp_path / "out.h5", clients=same)
    assert not (tmp_path / "out.h5").exists()


def test_a_csv_may_name_the_clients(folder, tmp_path):
    (tmp_path / "n.csv").write_text(
        "file,client,num_examples\nclient10.h5,north,\n/elsewhere/client2_n20.npz,south,8\n"
    )
    report = import_clients([folder], tmp_path / "out.h5", num_examples=tmp_path / "n.csv")
    assert named(report.clients) == [("south", 8), ("north", None)]
    (tmp_path / "ids.csv").write_text("client;file\nnorth;client10.h5\n")
    found = proposed_clients([folder], tmp_path / "ids.csv")
    assert named(found.clients) == [("client2", 20), ("north", None)]


def test_a_file_name_that_several_have_names_none_of_them(tmp_path):
    files = [keras(tmp_path / place / "model.h5") for place in ("north", "south")]
    (tmp_path / "n.csv").write_text("model.h5,5\n")
    with pytest.raises(InvalidArgumentError, match=r"there is no client model\.h5; there"):
        proposed_clients(files, tmp_path / "n.csv")
    (tmp_path / "n.csv").write_text("north,5\nnorth/model.h5,6\n")
    with pytest.raises(InvalidArgumentError, match=r"n\.csv, client north: listed twice"):
        proposed_clients(files, tmp_path / "n.csv")
    (tmp_path / "n.csv").write_text("north/model.h5,6\n")
    for given in (files, [tmp_path / "north", tmp_path / "south"]):
        assert named(proposed_clients(given, tmp_path / "n.csv").clients) == [
            ("north", 6),
            ("south", None),
        ]


def test_only_other_files_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(InvalidArgumentError, match=r"a\.zip/notes\.txt: expected weights files"):
        proposed_clients([tmp_path / "a.zip"])
