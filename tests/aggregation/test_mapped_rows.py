"""What the worker keeps from call to call, and that it keeps nothing else."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import fedviz
from fedviz.aggregation import connection, context
from fedviz.aggregation.federated_mean import federated_mean_of_rows
from fedviz.aggregation.memory_map import MappedTensor
from tests.aggregation.helpers import f32, write_round
from tests.aggregation.test_worker import DEADLINE_SECONDS

pytestmark = [pytest.mark.tff, pytest.mark.usefixtures("fresh_worker")]

MEGABYTE = 1 << 20


def _is_mapped(path: Path) -> bool:
    maps = Path(f"/proc/{context.worker().pid}/maps").read_text()
    return os.fspath(path) in maps


def _anonymous_bytes(pid: int | str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) << 10


def _wait_until(condition):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def path(tmp_path):
    clients = [{"kernel": np.full((64, 16), i, np.float32)} for i in range(4)]
    return write_round(tmp_path / "round.h5", clients)


@pytest.fixture
def fresh_worker():
    context.shutdown()
    yield
    context.shutdown()


def test_a_mapping_is_kept_and_then_let_go(path, monkeypatch):
    monkeypatch.setattr(connection, "KEPT_SECONDS", 3600.0)
    fedviz.average(path)
    assert _is_mapped(path)

    context.shutdown()
    monkeypatch.setattr(connection, "KEPT_SECONDS", 0.05)
    fedviz.average(path)
    _wait_until(lambda: not _is_mapped(path))
    assert (fedviz.average(path).weights["kernel"] == 1.5).all()


def test_a_kept_mapping_is_not_taken_for_another_state_of_the_file(path):
    assert (fedviz.average(path).weights["kernel"] == 1.5).all()

    write_round(path, [{"kernel": np.full((64, 16), i, np.float32)} for i in range(10, 14)])
    assert (fedviz.average(path).weights["kernel"] == 11.5).all()

    written = path.stat()
    write_round(path, [{"kernel": np.full((64, 16), i, np.float32)} for i in range(20, 24)])
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert path.stat().st_size == written.st_size
    assert (fedviz.average(path).weights["kernel"] == 21.5).all()

    path.unlink()
    with pytest.raises(fedviz.FedvizError, match=r"round\.h5"):
        fedviz.average(path)


def test_another_file_takes_the_place_of_the_kept_one(path, tmp_path):
    other = write_round(tmp_path / "other.h5", [{"x": f32(1, 2)}, {"x": f32(3, 4)}])
    fedviz.average(path)
    fedviz.average(other)

    _wait_until(lambda: not _is_mapped(path))
    assert _is_mapped(other)


def test_what_is_mapped_takes_no_memory_of_ours_either(tmp_path):
    """TensorFlow's optimiser makes examples of arguments whose size it knows."""
    path, rows = tmp_path / "zeros", 256
    with path.open("wb") as file:
        file.truncate(rows * 4 * MEGABYTE // 4)
    tensor = MappedTensor(
        os.fsencode(path), path.stat().st_size, 0, rows, (MEGABYTE // 4,), "float32", (0, 0)
    )
    context.warm_up()
    before = _anonymous_bytes("self")

    (mean,) = federated_mean_of_rows([tensor], np.ones(rows))

    assert not mean.any()
    assert _anonymous_bytes("self") - before < path.stat().st_size // 4


def test_values_are_given_back():
    large = tff.tensorflow.computation(lambda x: tf.fill([4 * MEGABYTE // 4], x), np.float32)
    for i in range(5):
        context.run(large, float(i))
    before = _anonymous_bytes(context.worker().pid)

    for i in range(40):
        context.run(large, float(i))

    assert _anonymous_bytes(context.worker().pid) - before < 5 * 4 * MEGABYTE


@pytest.fixture
def requests(monkeypatch):
    """The names of all requests to the worker, and how many values each gave back."""
    made = []

    def counted(name, send):
        def sent(stub, request):
            made.append((name, len(request.value_ref) if name == "dispose" else 0))
            return send(stub, request)

        return sent

    for name in ("create_value", "create_struct", "create_call", "compute", "dispose"):
        monkeypatch.setattr(connection._Stub, name, counted(name, getattr(connection._Stub, name)))
    return made


def test_a_second_mean_sends_no_function_and_gives_all_back_at_once(path, requests):
    fedviz.average(path)
    requests.clear()
    fedviz.average(path)
    assert requests == [
        # The shards, and with the rows that are kept the argument.
        ("create_value", 0),
        ("create_struct", 0),
        ("create_call", 0),
        ("compute", 0),
        # Shards, argument and result.
        ("dispose", 3),
    ]


def test_functions_that_are_kept_are_few(requests):
    def constant(number):
        return tff.tensorflow.computation(lambda: tf.constant(number))

    for number in range(2 * connection._FUNCTIONS):
        assert context.run(constant(number)) == number
    created = sum(name == "create_value" for name, _ in requests)
    given_back = sum(count for name, count in requests if name == "dispose")
    assert created == 2 * connection._FUNCTIONS
    # Each result, and the functions that others took the place of.
    assert given_back == 3 * connection._FUNCTIONS


def test_freed_memory_is_used_again():
    program = """
import resource, numpy as np
from fedviz.aggregation.freed_memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(2_000_000), np.ones(2_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults()
keep_freed_memory()
faults()
print(before, faults())
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    before, after = map(int, run.stdout.split())
    assert after < before / 10
