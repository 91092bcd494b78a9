"""What happens to the file, or to us, in the middle of a mean."""

import os
import re
import threading

import numpy as np
import pytest

from fedviz.aggregation.average import average
from fedviz.dataset import WeightDataset
from fedviz.errors import EngineError, InvalidArgumentError, JobCancelledError, StorageError
from fedviz.results import save_average
from fedviz.signature import Signature
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.aggregation.helpers import f32, write_round

pytestmark = pytest.mark.tff

SHAPE = (400, 400)


@pytest.fixture
def path(tmp_path):
    clients = [{"w": np.full(SHAPE, value, np.float32), "b": f32(value)} for value in (1, 3)]
    return write_round(tmp_path / "clients.h5", clients)


def in_the_middle(action):
    """A callback that does something once, when the first tensor is about to be averaged."""
    waiting = [action]

    def report(progress):
        if progress.message.startswith("averaging") and waiting:
            waiting.pop()()

    return report


def other_file(path):
    """The same clients with other values, in a file of the same size."""
    clients = [{"w": np.full(SHAPE, value, np.float32), "b": f32(value)} for value in (10, 30)]
    return write_round(path.with_name("other.h5"), clients)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("replaced", StorageError, r"clients\.h5: the file was replaced"),
        ("overwritten", StorageError, r"clients\.h5: the file was replaced"),
        ("vanished", EngineError, r"clients\.h5, round 0: .*clients\.h5; No such file"),
        ("cut short", EngineError, r"clients\.h5, round 0: the TFF worker (reports|ended)"),
    ],
)
def test_a_file_that_changes_is_an_error_and_the_next_mean_works(path, change, error, message):
    other = other_file(path)
    content = path.read_bytes()
    actions = {
        "replaced": lambda: other.replace(path),
        "overwritten": lambda: path.write_bytes(other.read_bytes()),
        "vanished": path.unlink,
        "cut short": lambda: os.truncate(path, 4096),
    }

    with pytest.raises(error, match=message) as caught:
        average(path, progress=in_the_middle(actions[change]))

    assert "\n" not in str(caught.value)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    assert average(path).weights["b"].tolist() == [2.0]


def test_a_file_that_is_cut_short_while_it_is_read(tmp_path):
    """The worker dies of it: large enough that it reads for a while."""
    path = tmp_path / "large.h5"
    entries = [ClientEntry(f"c{i}", 1) for i in range(64)]
    model = np.ones(1 << 20, np.float32)
    with (
        WeightDatasetWriter(path, Signature.of({"w": model})) as writer,
        writer.round(entries) as round_,
    ):
        for entry in entries:
            round_.write_client(entry.id, [model])
    cut = threading.Timer(0, os.truncate, (path, 4096))

    with pytest.raises((EngineError, StorageError), match=r"large\.h5") as caught:
        average(path, progress=in_the_middle(cut.start))

    assert re.search("ended while it worked|reports|replaced", str(caught.value))
    small = write_round(tmp_path / "small.h5", [{"w": f32(1)}, {"w": f32(5)}])
    assert average(small).weights["w"].tolist() == [3.0]


@pytest.mark.parametrize("aggregator", ["median", "krum", "geometric-median"])
def test_a_rule_whose_file_is_cut_short_is_an_error_and_the_next_one_works(tmp_path, aggregator):
    """Nothing of it runs in the worker: what ended here would be ourselves."""
    clients = [{"w": np.full(SHAPE, value, np.float32)} for value in range(5)]
    path = write_round(tmp_path / "clients.h5", clients)
    content = path.read_bytes()
    expected = average(path, aggregator=aggregator).weights["w"]

    with pytest.raises(StorageError, match=r"clients\.h5, round 0, tensor w: .*became shorter"):
        average(path, aggregator=aggregator, progress=lambda _: os.truncate(path, 8192))

    path.write_bytes(content)
    np.testing.assert_array_equal(average(path, aggregator=aggregator).weights["w"], expected)


def test_cancelled_in_the_middle_nothing_is_written_and_the_next_job_works(path):
    before = path.read_bytes()

    def cancel():
        raise JobCancelledError("cancelled")

    with pytest.raises(JobCancelledError):
        average(path, progress=in_the_middle(cancel))

    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before
    with WeightDataset(path) as dataset:
        save_average(average(dataset), dataset, path.with_name("mean.npz"))
    assert np.load(path.with_name("mean.npz"))["b"].tolist() == [2.0]


@pytest.mark.parametrize("examples", [-1, 2.5, float("nan"), float("inf"), "7", 1 << 63])
def test_numbers_of_examples_that_no_file_holds(tmp_path, examples):
    with pytest.raises(InvalidArgumentError, match=r"client c00: num_examples is .*whole number"):
        write_round(tmp_path / "a.h5", [{"w": f32(1)}], [examples])
    assert list(tmp_path.iterdir()) == []
