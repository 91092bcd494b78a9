"""The writer under faults: killed, locked, full disk, read-only folder."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest

from fedviz.dataset import WeightDataset
from fedviz.errors import InvalidArgumentError, LockedFileError, StorageError
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.conftest import SIGNATURE, random_weights

BEGIN_AND_WAIT = """
    import sys
    import numpy as np
    from fedviz.writer import ClientEntry, WeightDatasetWriter
    path, point = sys.argv[1:]
    with WeightDatasetWriter.append(path) as writer:
        weights = [np.ones(s.shape, s.numpy_dtype) for s in writer.signature]
        writer.write_aggregate(0, "mean", weights, aggregator="mean", weighting="uniform")
        with writer.round([ClientEntry("c0"), ClientEntry("c1")]) as round_:
            round_.write_client("c0", weights)
            if point == "inside a round":
                print("ready", flush=True)
                sys.stdin.read()
            round_.write_client("c1", weights)
        writer._file.flush()
        print("ready", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def dataset_path(write_dataset) -> Path:
    return write_dataset({"c0": random_weights(SIGNATURE, np.random.default_rng(0))})


def started(code: str, *arguments: str, **options) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("point", ["inside a round", "before the rename"])
def test_killed_writer_leaves_the_old_dataset(dataset_path, point):
    before = dataset_path.read_bytes()
    writer = started(BEGIN_AND_WAIT, str(dataset_path), point)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert dataset_path.read_bytes() == before
    with WeightDataset(dataset_path) as dataset:
        assert len(dataset.rounds) == 1

    with WeightDatasetWriter.append(dataset_path) as writer, writer.round([]):
        pass
    assert [p.name for p in dataset_path.parent.iterdir()] == [dataset_path.name]
    with WeightDataset(dataset_path) as dataset:
        assert len(dataset.rounds) == 2


def test_second_writer_is_refused_and_readers_are_not(dataset_path):
    writer = started(BEGIN_AND_WAIT, str(dataset_path), "before the rename")
    try:
        with (
            pytest.raises(LockedFileError, match=r"clients.h5 is locked: another process"),
            WeightDatasetWriter.append(dataset_path),
        ):
            pass
        with WeightDataset(dataset_path) as dataset:
            assert len(dataset.rounds) == 1
    finally:
        writer.stdin.close()
        writer.wait()
    with WeightDataset(dataset_path) as dataset:
        assert len(dataset.rounds) == 2
        assert list(dataset.round(0).aggregates) == ["mean"]


OPEN_AND_WAIT = """
    import sys
    import h5py
    with h5py.File(sys.argv[1], "r+"):
        print("ready", flush=True)
        sys.stdin.read()
"""


def test_file_that_another_program_writes_is_named(dataset_path):
    program = started(OPEN_AND_WAIT, str(dataset_path))
    try:
        with pytest.raises(LockedFileError, match=r"clients.h5 is locked: another process"):
            WeightDataset(dataset_path)
    finally:
        program.stdin.close()
        program.wait()


FILL = """
    import resource, sys
    import numpy as np
    from fedviz.errors import StorageError
    from fedviz.signature import Signature, TensorSpec
    from fedviz.writer import ClientEntry, WeightDatasetWriter
    print("ready", flush=True)
    if sys.argv[2] == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    signature = Signature((TensorSpec("a", (2**20,), "float32"),))
    try:
        with WeightDatasetWriter(sys.argv[1], signature) as writer:
            with writer.round([ClientEntry("c0")]) as round_:
                round_.write_client("c0", [np.ones(2**20, "f4")])
    except StorageError as error:
        print(error, flush=True)
"""


def test_no_space_left_is_one_clear_line(dataset_path):
    before = dataset_path.read_bytes()
    process = started(FILL, str(dataset_path), "limit", stderr=subprocess.PIPE)
    out, err = process.communicate()
    assert "cannot write clients.h5: no space left in" in out
    assert (process.returncode, err) == (0, "")
    assert dataset_path.read_bytes() == before
    assert [p.name for p in dataset_path.parent.iterdir()] == [dataset_path.name]


def test_full_file_system(tmp_path):
    """A real file system of 1 MB, in a mount namespace of its own, where those are allowed."""
    script = 'mount -t tmpfs -o size=1m none "$3" && exec "$4" -c "$1" "$2" disk'
    command = ["unshare", "-rm", "sh", "-c", script, "sh"]
    if subprocess.run([*command[:2], "true"], check=False, capture_output=True).returncode:
        pytest.skip("mount namespaces are forbidden; the file size limit covers the same path")
    process = subprocess.run(
        [*command, textwrap.dedent(FILL), str(tmp_path / "clients.h5"), tmp_path, sys.executable],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot write clients.h5: no space left in" in process.stdout


def test_folder_that_cannot_be_written(tmp_path):
    with (
        pytest.raises(StorageError, match=r"cannot write a.h5: there is no .*absent"),
        WeightDatasetWriter(tmp_path / "absent" / "a.h5", SIGNATURE),
    ):
        pass


READ_ONLY = """
    import os, sys
    from fedviz.errors import StorageError
    from fedviz.signature import Signature
    from fedviz.writer import WeightDatasetWriter
    print("ready", flush=True)
    if os.geteuid() == 0:
        os.setuid(65534)  # root may write anywhere
    try:
        with WeightDatasetWriter(sys.argv[1], Signature(())):
            pass
    except StorageError as error:
        print(error, flush=True)
"""


def test_read_only_folder():
    # Not below pytest's own folder, which only its owner may enter.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    try:
        process = started(READ_ONLY, str(folder / "a.h5"))
        out, _ = process.communicate()
        assert "cannot write a.h5" in out
        assert "does not allow it" in out
        assert list(folder.iterdir()) == []
    finally:
        folder.chmod(0o755)
        folder.rmdir()


def test_error_inside_the_block_leaves_nothing(tmp_path):
    with (
        pytest.raises(ZeroDivisionError),
        WeightDatasetWriter(tmp_path / "a.h5", SIGNATURE) as writer,
        writer.round([ClientEntry("c0")]),
    ):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_link_keeps_pointing_to_the_dataset(tmp_path, dataset_path):
    link = tmp_path / "link.h5"
    link.symlink_to(dataset_path.name)
    with WeightDatasetWriter.append(link) as writer, writer.round([]):
        pass
    assert link.is_symlink()
    with WeightDataset(dataset_path) as dataset:
        assert len(dataset.rounds) == 2


def test_permissions_are_kept(dataset_path):
    dataset_path.chmod(0o640)
    with WeightDatasetWriter.append(dataset_path) as writer, writer.round([]):
        pass
    assert dataset_path.stat().st_mode & 0o777 == 0o640


def test_nothing_is_written_after_the_end(tmp_path):
    """The descriptor that rows are written to belongs to another file by then."""
    weights = random_weights(SIGNATURE, np.random.default_rng(0))
    with (
        pytest.raises(ZeroDivisionError),
        WeightDatasetWriter(tmp_path / "a.h5", SIGNATURE) as writer,
        writer.round([ClientEntry("c0")]) as round_,
    ):
        raise ZeroDivisionError
    with (
        (tmp_path / "other").open("wb"),
        pytest.raises(InvalidArgumentError, match=r"client c0: the dataset is closed"),
    ):
        round_.write_client("c0", weights)
    assert (tmp_path / "other").read_bytes() == b""
