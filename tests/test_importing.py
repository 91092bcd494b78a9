import json
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from fedviz.cli import main
from fedviz.dataset import WeightDataset
from fedviz.errors import (
    DatasetFormatError,
    InvalidArgumentError,
    JobCancelledError,
)
from fedviz.importers.imported import LeftOut, Taken
from fedviz.importing import import_clients
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.importers.keras_layouts import (
    BIAS,
    KERNEL,
    layer,
    write_keras_archive,
    write_keras_hdf5,
)

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("dense/kernel", "dense/bias")


def keras(path, shift=0.0, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = arrays or {"kernel": KERNEL + np.float32(shift), "bias": BIAS}
    return write_keras_hdf5(path, {"dense": {f"dense/{k}:0": v for k, v in weights.items()}})


def five_kinds(folder):
    """One model in five formats, the kernel shifted by the client's number."""
    folder.mkdir()
    keras(folder / "client1_n10.h5", 1)
    write_keras_archive(
        folder / "client2_n20.keras",
        [layer("Dense", "dense")],
        {"layers/dense": [KERNEL + 2, BIAS], "optimizer": [KERNEL]},
    )
    np.savez(folder / "client3_n30.npz", **dict(zip(NAMES, [KERNEL + 3, BIAS], strict=True)))
    # The file lists its tensors by name: bias first.
    weights = dict(zip(NAMES, [KERNEL + 4, BIAS], strict=True))
    save_file(weights, folder / "client4_n40.safetensors")
    signature = Signature(
        (TensorSpec(NAMES[0], (2, 3), "float32"), TensorSpec(NAMES[1], (3,), "float32"))
    )
    with (
        WeightDatasetWriter(folder / "run.h5", signature) as writer,
        writer.round([ClientEntry("client10", 100)]) as round_,
    ):
        round_.write_client("client10", [KERNEL + 10, BIAS])
    return folder


def test_one_model_in_five_formats_is_one_round(tmp_path):
    report = import_clients([five_kinds(tmp_path / "in")], tmp_path / "out.h5")
    with WeightDataset(tmp_path / "out.h5") as dataset:
        (round_,) = dataset.rounds
        assert [(r.id, r.num_examples) for r in round_.records] == [
            *(("client1", 10), ("client2", 20), ("client3", 30), ("client4", 40)),
            ("client10", 100),
        ]
        assert dataset.signature.names == NAMES
        for client, shift in (("client1", 1), ("client2", 2), ("client4", 4), ("client10", 10)):
            np.testing.assert_array_equal(round_.clients[client]["dense/kernel"], KERNEL + shift)
        # safetensors keeps no order, so that client keeps its own.
        assert [record.id for record in round_.divergent] == ["client4"]
        assert dataset.recipe["mode"] == "import"
        assert round_.server is None
    assert report.reference == "majority"
    assert [client.format for client in report.clients] == [
        *("Keras HDF5", "Keras .keras", "NumPy .npz", "safetensors", "fedviz dataset")
    ]
    second = report.clients[1]
    assert second.took[0] == Taken("layers/dense/vars/0", "dense/kernel")
    assert second.left_out == (LeftOut("optimizer/vars/0", "optimizer state"),)
    assert [client.id for client in report.divergent] == ["client4"]


def test_a_zip_gives_the_same_dataset_as_its_folder(tmp_path):
    folder = five_kinds(tmp_path / "in")
    (folder / "run.h5").unlink()
    (folder / "notes.txt").write_text("hello")
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, f"in/{path.name}")
    import_clients([folder], tmp_path / "a.h5")
    report = import_clients([tmp_path / "in.zip"], tmp_path / "b.h5")
    assert report.passed_over == (LeftOut("in.zip/in/notes.txt", "not a weights file"),)
    with WeightDataset(tmp_path / "a.h5") as a, WeightDataset(tmp_path / "b.h5") as b:
        assert a.signature == b.signature
        assert a.round().records == b.round().records
        assert len(a.round().records) == 4


def test_the_server_model_is_the_reference_and_is_kept(tmp_path):
    keras(tmp_path / "server.h5")
    files = [keras(tmp_path / f"c{i}.h5", kernel=KERNEL.T, bias=BIAS) for i in range(3)]
    files.append(keras(tmp_path / "c3.h5", 3))
    report = import_clients(files, tmp_path / "out.h5", server=tmp_path / "server.h5")
    assert (report.reference, report.server) == ("server.h5", "server.h5")
    assert [client.mismatches for client in report.clients] == [1, 1, 1, 0]
    with WeightDataset(tmp_path / "out.h5") as dataset:
        round_ = dataset.round()
        np.testing.assert_array_equal(round_.server["dense/kernel"], KERNEL)
        np.testing.assert_array_equal(round_.clients["c0"]["dense/kernel"], KERNEL.T)


def test_the_majority_or_a_file_is_the_reference(tmp_path):
    files = [keras(tmp_path / "c0.h5", kernel=KERNEL.astype(np.float64), bias=BIAS)]
    files += [keras(tmp_path / f"c{i}.h5", i) for i in (1, 2)]
    by_majority = import_clients(files, tmp_path / "a.h5")
    assert [client.id for client in by_majority.divergent] == ["c0"]
    by_file = import_clients(files, tmp_path / "b.h5", reference=files[0])
    assert [client.id for client in by_file.divergent] == ["c1", "c2"]
    assert by_file.signature["dense/kernel"].dtype == "float64"


def test_a_server_model_that_does_not_fit_the_reference(tmp_path):
    files = [keras(tmp_path / f"c{i}.h5", i) for i in (1, 2)]
    server = keras(tmp_path / "server.h5", kernel=KERNEL.T, bias=BIAS)
    with pytest.raises(InvalidArgumentError, match=r"server\.h5, tensor dense/kernel: the server"):
        import_clients(files, tmp_path / "out.h5", server=server, reference="majority")
    assert not (tmp_path / "out.h5").exists()


def test_arrays_without_names_get_the_references_if_all_shapes_agree(tmp_path):
    server = keras(tmp_path / "server.h5")
    np.savez(tmp_path / "c0.npz", KERNEL + 1, BIAS)
    np.savez(tmp_path / "c1.npz", BIAS, KERNEL)
    files = [tmp_path / "c0.npz", tmp_path / "c1.npz"]
    report = import_clients(files, tmp_path / "out.h5", server=server)
    first, second = report.clients
    assert first.took == (Taken("arr_0.npy", NAMES[0]), Taken("arr_1.npy", NAMES[1]))
    assert "its names were taken" in first.notes[-1]
    assert first.conforming
    assert [taken.tensor for taken in second.took] == ["arr_0", "arr_1"]
    with WeightDataset(tmp_path / "out.h5") as dataset:
        np.testing.assert_array_equal(dataset.round().clients["c0"]["dense/kernel"], KERNEL + 1)
    alone = import_clients(files[:1], tmp_path / "alone.h5")
    assert alone.signature.names == ("arr_0", "arr_1")


def test_num_examples_from_a_list_a_mapping_and_a_csv(tmp_path):
    files = [keras(tmp_path / f"c{i}.h5", i) for i in (1, 2)]
    (tmp_path / "n.csv").write_text("client,num_examples\nc2,7\nc1.h5,5\n")
    for given in ([5, 7], {"c1": 5, "c2": 7}, tmp_path / "n.csv"):
        report = import_clients(files, tmp_path / "out.h5", num_examples=given)
        assert [client.num_examples for client in report.clients] == [5, 7]
    with pytest.raises(InvalidArgumentError, match="the files are named in another order"):
        import_clients(files[::-1], tmp_path / "out.h5", num_examples=[7, 5])


def test_another_programs_file_is_not_replaced(tmp_path):
    files = [keras(tmp_path / f"c{i}.h5", i) for i in (1, 2)]
    before = files[0].read_bytes()
    with pytest.raises(InvalidArgumentError, match=r"c1\.h5 is there and is no fedviz dataset"):
        import_clients(files[1:], files[0])
    assert files[0].read_bytes() == before


def test_nothing_is_left_of_an_import_that_fails(tmp_path):
    folder = tmp_path / "in"
    for i in range(3):
        keras(folder / f"c{i}.h5", i)
    np.savez(folder / "c3.npz", kernel=np.array([None], object))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DatasetFormatError, match=r"c3\.npz, tensor kernel: expected numbers"):
        import_clients([folder], tmp_path / "out.h5")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_job_that_is_cancelled_leaves_nothing(tmp_path):
    files = [keras(tmp_path / f"c{i}.h5", i) for i in (1, 2)]
    seen = []

    def cancel(progress):
        seen.append((progress.done, progress.total, progress.message))
        if progress.done == 3:
            raise JobCancelledError("cancelled")

    with pytest.raises(JobCancelledError):
        import_clients(files, tmp_path / "out.h5", progress=cancel)
    assert [done for done, _, _ in seen] == [0, 1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c1.h5", "c2.h5"]


def test_a_zip_in_a_zip_and_pickles_in_it_are_refused_or_passed_over(tmp_path):
    keras(tmp_path / "c1.h5")
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as archive:
        archive.write(tmp_path / "c1.h5", "c1.h5")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(tmp_path / "inner.zip", "inner.zip")
    with pytest.raises(DatasetFormatError, match=r"^inner\.zip: a zip inside a zip is not opened"):
        import_clients([tmp_path / "outer.zip"], tmp_path / "out.h5")
    with zipfile.ZipFile(tmp_path / "pickles.zip", "w") as archive:
        archive.writestr("c1.pt", b"\x80\x02}q.")
    with pytest.raises(InvalidArgumentError, match=r"found none \(pickles\.zip/c1\.pt: a pickle"):
        import_clients([tmp_path / "pickles.zip"], tmp_path / "out.h5")


def test_a_fedviz_dataset_round_trips_with_its_divergent_clients(tmp_path):
    files = [keras(tmp_path / f"c{i}.h5", i) for i in (1, 2)]
    files.append(keras(tmp_path / "c3_n9.h5", kernel=KERNEL.T, bias=BIAS))
    import_clients(files, tmp_path / "a.h5")
    report = import_clients([tmp_path / "a.h5"], tmp_path / "b.h5")
    assert [client.id for client in report.clients] == ["c1", "c2", "c3"]
    with WeightDataset(tmp_path / "a.h5") as a, WeightDataset(tmp_path / "b.h5") as b:
        assert a.round().records == b.round().records
    one = import_clients([tmp_path / "a.h5#c3"], tmp_path / "c.h5")
    assert [(client.id, client.num_examples) for client in one.clients] == [("c3", 9)]


# --- the command ------------------------------------------------------------------------------


def run(folder, *arguments):
    command = [sys.executable, "-m", "fedviz.cli", "import", *map(str, arguments)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_command_prints_what_was_taken_and_left_out(tmp_path):
    folder = five_kinds(tmp_path / "in")
    done = run(tmp_path, "out.h5", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "out.h5: 5 clients, 2 tensors, 9 parameters; reference: majority." in done.stdout
    assert "client2: 20 examples, 2 tensors, from in/client2_n20.keras (Keras .keras)" in (
        done.stdout
    )
    assert "Left out: optimizer/vars/0: optimizer state." in done.stdout
    assert "1 client differs from the reference" in done.stdout


def test_the_commands_json(tmp_path):
    files = [keras(tmp_path / f"c{i}.h5", i) for i in (1, 2)]
    done = run(tmp_path, "out.h5", *files, "--num-examples", "5,7", "--server", files[0], "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["reference"] == found["server"] == f"{files[0].name}"
    assert (found["tensors"], found["num_parameters"], found["passed_over"]) == (2, 9, [])
    assert found["clients"][1] == {
        "id": "c2",
        "num_examples": 7,
        "source": f"{tmp_path.name}/c2.h5",
        "format": "Keras HDF5",
        "took": [
            {"source": "dense/dense/kernel:0", "tensor": "dense/kernel"},
            {"source": "dense/dense/bias:0", "tensor": "dense/bias"},
        ],
        "left_out": [],
        "notes": [],
        "mismatches": 0,
        "conforming": True,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out.h5", "gone.h5"], "fedviz: cannot read gone.h5: there is no gone.h5."),
        (["out.npz", "c1.h5"], "fedviz: out.npz: expected a name that ends in .h5."),
        (["out.h5", "text.h5"], "fedviz: text.h5: expected HDF5, found a text"),
        (["out.h5", "c1.h5", "--num-examples", "1,2"], "expected one num_examples for each of"),
        (["out.h5", "c1.h5", "--num-examples", "n.csv"], "cannot read n.csv: there is no n.csv."),
        (["out.h5"], "Missing argument 'FILE...'"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(
    tmp_path, monkeypatch, capsys, arguments, message
):
    keras(tmp_path / "c1.h5")
    (tmp_path / "text.h5").write_text("hello")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fedviz", "import", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out.h5").exists()


def test_clients_are_read_one_by_one(tmp_path):
    """The clients together are larger than what may be in memory at a time."""
    weights = {"kernel": np.zeros((100, 100), np.float32)}
    folder = tmp_path / "in"
    for i in range(10):
        keras(folder / f"c{i}.h5", **weights)
    program = (
        "import resource, sys\nfrom fedviz.importing import import_clients\n"
        "import_clients([sys.argv[1]], sys.argv[2])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "import_clients(sys.argv[3:], sys.argv[2])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    large = []
    for i in range(6):
        with h5py.File(tmp_path / f"large{i}.h5", "w") as file:
            file.attrs["layer_names"] = [b"dense"]
            file.create_group("dense").attrs["weight_names"] = [b"dense/kernel:0"]
            file["dense"]["dense/kernel:0"] = np.ones((2500, 4000), np.float32)
        large.append(tmp_path / f"large{i}.h5")
    command = [sys.executable, "-c", program, folder, tmp_path / "out.h5", *large]
    done = subprocess.run(map(str, command), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Six clients of 40 MB; one of them, and a copy of it on the way, is 80 MB.
    assert int(done.stdout) < 130_000
