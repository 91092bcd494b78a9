"""Files that are not datasets, damaged ones and hostile ones: one clear line, never a crash."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from fedviz.analysis.check import check
from fedviz.dataset import WeightDataset
from fedviz.describe import dataset_info
from fedviz.errors import DatasetFormatError, FedvizError, NewerFormatError, StorageError
from fedviz.records import FaultKind, InjectedFault, Metric
from fedviz.signature import Signature
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.conftest import SIGNATURE, random_weights

ROOT = Path(__file__).parents[1]
DIVERGENT = Signature(SIGNATURE.tensors[:3])


@pytest.fixture
def path(tmp_path) -> Path:
    return write_everything(tmp_path / "clients.h5")


def write_everything(path: Path) -> Path:
    """A dataset that has everything that a dataset may have."""
    rng = np.random.default_rng(0)
    entries = [ClientEntry("c0", 3), ClientEntry("c1", 4, DIVERGENT), ClientEntry("c2", 5)]
    with WeightDatasetWriter(path, SIGNATURE, {"seed": 1}) as writer:
        with writer.round(entries, random_weights(SIGNATURE, rng)) as round_:
            for entry in entries:
                round_.write_client(entry.id, random_weights(entry.signature or SIGNATURE, rng))
            round_.write_aggregate(
                "mean", random_weights(SIGNATURE, rng), aggregator="mean", weighting="uniform"
            )
            round_.write_metrics([Metric("client", "c0", "loss", 0.5)])
            round_.write_label_counts(np.ones((3, 2)))
        writer.write_ground_truth([InjectedFault("c1", FaultKind.MISSING)])
    return path


def read_everything(path: Path) -> None:
    with WeightDataset(path) as dataset:
        assert dataset.recipe is not None
        assert dataset.ground_truth is not None
        dataset_info(dataset)
        for round_ in dataset.rounds:
            models = [*round_.clients.values(), *round_.aggregates.values()]
            for model in [*models, *([round_.server] if round_.server else [])]:
                for spec, array in zip(model.signature, model.values(), strict=True):
                    assert (array.shape, array.dtype) == (spec.shape, spec.numpy_dtype)
            for aggregate in round_.aggregates.values():
                assert aggregate.parameters == aggregate.measurements == {}
                assert isinstance(aggregate.aggregator + aggregate.weighting, str)
            assert round_.metrics is not None
            assert round_.label_counts is None or round_.label_counts.dtype == np.int64
        check(dataset)


def message_of(path: Path, kind: type[FedvizError] = DatasetFormatError) -> str:
    with pytest.raises(kind) as caught:
        read_everything(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


# --- files of another kind --------------------------------------------------------------------


def test_empty_file(path):
    path.write_bytes(b"")
    assert message_of(path) == "clients.h5 is not an HDF5 file: found an empty file."


def test_another_kind_of_file(path):
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    assert message_of(path) == "clients.h5 is not an HDF5 file: found another kind of file."


def test_a_folder(tmp_path):
    message = message_of(tmp_path, StorageError)
    assert message.endswith("it is a folder; name a file in it.")


def test_absent_file_and_folder(tmp_path):
    assert message_of(tmp_path / "no.h5", StorageError).startswith(
        f"cannot read no.h5: there is no {tmp_path}"
    )
    assert str(tmp_path / "none") in message_of(tmp_path / "none" / "no.h5", StorageError)


def test_hdf5_of_another_program(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1, 2]
    assert message_of(tmp_path / "other.h5") == (
        "other.h5 is HDF5, but not a fedviz dataset: expected the attribute "
        "format = fedviz-weights, found None."
    )


@pytest.mark.parametrize("version", [0, "one", [1, 1], 1.5])
def test_a_version_that_is_none(path, version):
    with h5py.File(path, "r+") as file:
        del file.attrs["format_version"]
        file.attrs["format_version"] = version
    assert "clients.h5: expected a number from 1 as format_version, found" in message_of(path)


def test_newer_version(path):
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 2
    assert message_of(path, NewerFormatError) == (
        "clients.h5 has format version 2; this fedviz reads up to 1. Install a newer fedviz."
    )


def test_user_block(path):
    path.write_bytes(bytes(512) + path.read_bytes())
    assert "no user block" in message_of(path)


# --- shortened files --------------------------------------------------------------------------


def test_truncated_anywhere(path):
    content = path.read_bytes()
    for size in [*range(1, 600, 23), *range(600, len(content), 4099), len(content) - 1]:
        path.write_bytes(content[:size])
        message = message_of(path)
        if size > 512:
            assert message == "clients.h5 is shorter than its index says. Copy it again."


# --- what reaches out of the file -------------------------------------------------------------

PLACES = [
    "signature",
    "recipe",
    "ground_truth",
    "rounds",
    "rounds/000000",
    "rounds/000000/clients",
    "rounds/000000/server",
    "rounds/000000/server/001",
    "rounds/000000/weights",
    "rounds/000000/weights/000",
    "rounds/000000/divergent",
    "rounds/000000/divergent/000001",
    "rounds/000000/divergent/000001/signature",
    "rounds/000000/aggregates",
    "rounds/000000/aggregates/mean",
    "rounds/000000/aggregates/mean/parameters",
    "rounds/000000/metrics",
    "rounds/000000/label_counts",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("external", [True, False], ids=["external", "soft"])
def test_links_are_refused_even_to_the_same_thing(tmp_path, path, place, external):
    other = write_everything(tmp_path / "other.h5")
    with h5py.File(path, "r+") as file:
        file.move(place, "moved")
        file[place] = h5py.ExternalLink(other, place) if external else h5py.SoftLink("/moved")
    assert "is a link to another place. A dataset holds all that it shows" in message_of(path)


@pytest.mark.parametrize("place", ["rounds/000000/server", "ground_truth", "recipe"])
def test_the_target_of_a_link_is_never_opened(tmp_path, path, place):
    """Opening a pipe that nobody writes to would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(path, "r+") as file:
        del file[place]
        file[place] = h5py.ExternalLink(tmp_path / "pipe", "/x")
    assert "is a link to another place" in message_of(path)


def test_virtual_dataset(tmp_path, path):
    other = write_everything(tmp_path / "other.h5")
    place = "rounds/000000/weights/000"
    with h5py.File(path, "r+") as file:
        shape = file[place].shape
        layout = h5py.VirtualLayout(shape, "<f4")
        layout[:] = h5py.VirtualSource(other, place, shape)
        del file[place]
        file.create_virtual_dataset(place, layout)
    assert "/rounds/000000/weights/000 keeps its values in another file" in message_of(path)


@pytest.mark.parametrize("place", ["rounds/000000/server/001", "rounds/000000/label_counts"])
def test_external_storage(path, place):
    with h5py.File(path, "r+") as file:
        shape, dtype = file[place].shape, file[place].dtype
        del file[place]
        file.create_dataset(place, shape, dtype, external=[("/etc/passwd", 0, 400)])
    assert f"/{place} keeps its values in another file" in message_of(path)


# --- what lies about its size -----------------------------------------------------------------


@pytest.fixture
def little_memory():
    """2 GB more than now: allocating what the file declares would fail, or be seen."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**31, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("chunks", [None, (1, 2**20)], ids=["contiguous", "chunked"])
def test_a_terabyte_in_a_small_file_is_not_allocated(tmp_path, chunks):
    path, cells = tmp_path / "clients.h5", 2**38
    write_everything(path)
    with h5py.File(path, "r+") as file:
        table = file["signature"][()]
        table["shape"][0] = np.array([cells], "u8")
        file["signature"][...] = table
        for place, shape in (("weights", (2, cells)), ("server", (cells,))):
            del file[f"rounds/000000/{place}/000"]
            file.create_dataset(
                f"rounds/000000/{place}/000", shape, "<f4", chunks=chunks and chunks[-len(shape) :]
            )
    assert "bytes, but 0 are stored in a file of" in message_of(path)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("table", ["signature", "rounds/000000/clients"])
def test_an_endless_table_is_not_allocated(path, table):
    with h5py.File(path, "r+") as file:
        dtype = file[table].dtype
        del file[table]
        file.create_dataset(table, (2**36,), dtype, chunks=(1024,))
    assert "bytes, but 0 are stored in a file of" in message_of(path)


# --- what contradicts the index ---------------------------------------------------------------


def replaced(path: Path, place: str, value: np.ndarray) -> str:
    with h5py.File(path, "r+") as file:
        del file[place]
        file[place] = value
    return message_of(path)


def test_wrong_shape(path):
    message = replaced(path, "rounds/000000/weights/001", np.zeros((3, 10), "f4"))
    assert message == (
        "clients.h5: /rounds/000000/weights/001: expected shape [2, 10], found [3, 10]."
    )


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i4"])
def test_wrong_dtype(path, dtype):
    message = replaced(path, "rounds/000000/server/001", np.zeros(10, dtype))
    assert "/rounds/000000/server/001: expected little-endian float32, found" in message


def test_a_group_for_a_dataset_and_the_reverse(path):
    assert "/rounds/000000/server: expected a group, found a dataset" in replaced(
        path, "rounds/000000/server", np.zeros(3)
    )
    with h5py.File(path, "r+") as file:
        del file["rounds/000000/metrics"]
        file.create_group("rounds/000000/metrics")
        del file["rounds/000000/server"]
    assert "/rounds/000000/metrics: expected a dataset, found a group" in message_of(path)


@pytest.mark.parametrize(
    "place",
    [
        "signature",
        "rounds",
        "rounds/000000/clients",
        "rounds/000000/weights",
        "rounds/000000/weights/002",
        "rounds/000000/server/002",
        "rounds/000000/divergent",
        "rounds/000000/divergent/000001",
        "rounds/000000/divergent/000001/signature",
        "rounds/000000/divergent/000001/000",
        "rounds/000000/aggregates/mean/003",
    ],
)
def test_missing_parts_are_named(path, place):
    with h5py.File(path, "r+") as file:
        del file[place]
    assert f"clients.h5: /{place} is missing. Copy the file again." == message_of(path)


def test_a_round_that_is_no_number(path):
    with h5py.File(path, "r+") as file:
        file["rounds"].create_group("last")
    assert "clients.h5 is damaged: cannot read the list of rounds" in message_of(path)


def changed(path: Path, place: str, column: str, row: int, value: object) -> str:
    with h5py.File(path, "r+") as file:
        table = file[place][()]
        table[column][row] = value
        file[place][...] = table
    return message_of(path)


@pytest.mark.parametrize(
    ("place", "column", "row", "value", "expected"),
    [
        ("signature", "dtype", 1, "float12", "dtype float12 cannot be a weight"),
        ("signature", "dtype", 1, "object", "dtype object cannot be a weight"),
        ("signature", "name", 1, "", "cannot name a tensor"),
        ("signature", "name", 1, "dense/kernel", "used by more than one tensor"),
        ("signature", "name", 1, b"\xff\xfe", "can't decode byte 0xff"),
        ("signature", "index", 1, 7, "the tensors' indices are not 0, 1 and so on"),
        ("signature", "shape", 1, np.array([2**63], "u8"), "expected shape"),
        ("rounds/000000/clients", "id", 2, "c0", "two clients have the same id"),
        ("rounds/000000/clients", "row", 2, 7, "the clients' rows are [0, 7], not 0, 1"),
        ("rounds/000000/clients", "row", 2, -1, "the clients' rows are [-1, 0], not 0, 1"),
        ("rounds/000000/clients", "conforming", 1, 1, "the clients' rows are [-1, 0, 1]"),
        ("ground_truth", "kind", 0, "magic", "'magic' is not a valid FaultKind"),
    ],
)
def test_tables_that_make_no_sense(path, place, column, row, value, expected):
    assert expected in changed(path, place, column, row, value)


def blank_table(rows: int, dtype: np.dtype) -> np.ndarray:
    table = np.zeros(rows, dtype)
    for name in dtype.names:
        item = h5py.check_vlen_dtype(dtype[name])
        if dtype[name].hasobject:
            for row in range(rows):
                table[name][row] = "x" if item in (None, str) else np.zeros(1, item)
    return table


@pytest.mark.parametrize(
    ("place", "column", "kind"),
    [
        ("signature", "index", h5py.string_dtype()),
        ("signature", "name", "i8"),
        ("signature", "shape", "f8"),
        ("signature", "shape", h5py.vlen_dtype("f8")),
        ("signature", "trainable", "f4"),
        ("rounds/000000/clients", "num_examples", h5py.string_dtype()),
        ("rounds/000000/clients", "row", h5py.vlen_dtype("i8")),
        ("rounds/000000/metrics", "value", "i8"),
    ],
)
def test_columns_of_another_kind(path, place, column, kind):
    with h5py.File(path, "r+") as file:
        old = file[place]
        kinds = [(n, kind if n == column else old.dtype[n]) for n in old.dtype.names]
        table = blank_table(len(old), np.dtype(kinds))
        del file[place]
        file[place] = table
    assert f"clients.h5: /{place}, column {column}: expected" in message_of(path)


def test_a_column_that_is_not_there(path):
    with h5py.File(path, "r+") as file:
        old = file["signature"].dtype
        del file["signature"]
        kinds = [(n, old[n]) for n in old.names if n != "shape"]
        file["signature"] = blank_table(4, np.dtype(kinds))
    message = message_of(path)
    assert "expected a table with the columns index, name, shape, dtype, trainable" in message
    assert message.endswith("found shape missing.")


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{", '{"a": NaN}', "[" * 100_000],
    ids=["empty", "list", "cut", "NaN", "nested"],
)
@pytest.mark.parametrize("place", ["recipe", "rounds/000000/aggregates/mean/measurements"])
def test_json_that_is_no_object(path, place, text):
    with h5py.File(path, "r+") as file:
        del file[place]
        file.create_dataset(place, data=text, dtype=h5py.string_dtype())
    assert message_of(path)


def test_attributes_of_variable_length_are_not_followed(path):
    """They would lie in a heap that nothing can check before HDF5 walks it."""
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = "fedviz-weights"
    assert "expected the attribute format = fedviz-weights, found None" in message_of(path)


# --- wrong bytes ------------------------------------------------------------------------------


def test_a_heap_that_makes_hdf5_loop_for_ever_is_refused(path):
    content = bytearray(path.read_bytes())
    heap = content.find(b"GCOL")
    # The length of its first object: what follows is then taken for an empty one, for ever.
    content[heap + 24 : heap + 32] = (2048).to_bytes(8, "little")
    path.write_bytes(content)
    assert "is damaged: it holds a value of" in message_of(path)


FLIP_BYTES = """
import faulthandler, random, resource, sys
from pathlib import Path
from fedviz.errors import FedvizError
from tests.test_bad_files import read_everything, write_everything

resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
path = write_everything(Path(sys.argv[1]))
content = path.read_bytes()
# Most of the file are the gaps of the alignment.
places = [at for at, byte in enumerate(content) if byte]
outcomes = {"read": 0, "refused": 0}
for seed in range(400):
    print("seed", seed, flush=True)
    faulthandler.dump_traceback_later(10, exit=True)
    chance = random.Random(seed)
    damaged = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8])):
        at = min(chance.choice(places) + chance.randrange(8), len(content) - 1)
        damaged[at] = chance.choice([chance.randrange(256), damaged[at] ^ 1, 0, 255])
    path.write_bytes(damaged)
    try:
        read_everything(path)
        outcomes["read"] += 1
    except FedvizError as error:
        assert path.name in str(error) and "\\n" not in str(error), error
        outcomes["refused"] += 1
print(outcomes["read"], outcomes["refused"])
"""


def test_wrong_bytes_are_refused_or_are_weights(tmp_path):
    """In a process of its own: a crash or an endless loop of libhdf5 would end it."""
    done = subprocess.run(
        [sys.executable, "-c", FLIP_BYTES, str(tmp_path / "clients.h5")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"ended with {done.returncode} at {lines[-1:]}:\n{done.stderr}"
    read, refused = map(int, lines[-1].split())
    assert read > 20
    assert refused > 200


# --- through the command ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["absent", "empty", "folder", "other", "truncated", "damaged"])
def test_the_command_says_it_in_one_line(path, kind, monkeypatch, capsys):
    from fedviz.cli import main

    content = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind != "absent":
        cells = re.sub(b"float32", b"floatXX", content)
        made = {"empty": b"", "other": b"x" * 99, "truncated": content[:9999], "damaged": cells}
        path.write_bytes(made[kind])
    monkeypatch.setattr(sys, "argv", ["fedviz", "info", str(path)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert re.fullmatch(r"fedviz: [^\n]*clients\.h5[^\n]*\n", err)
    assert "should not happen" not in err
