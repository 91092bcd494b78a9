import dataclasses
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedviz.aggregation.average import average
from fedviz.aggregation.connection import Connection
from fedviz.aggregation.machines import LostWorkerWarning, listed_workers, silence_of
from fedviz.aggregation.mean_on_machines import federated_mean_on_machines
from fedviz.aggregation.memory_map import mapped_tensors
from fedviz.aggregation.worker_supervisor import landlock_version
from fedviz.dataset import WeightDataset
from fedviz.errors import EngineError, InvalidArgumentError, JobCancelledError
from tests.aggregation.helpers import (
    f32,
    numpy_mean,
    random_clients,
    rounding_bound,
    ulps,
    write_round,
)
from tests.aggregation.several_machines import Machine, SharedWorker, machines
from tests.aggregation.test_worker import ended, listening_inodes, socket_inodes

pytestmark = pytest.mark.tff

NUM_CLIENTS = 100
WEIGHTS = [1 + 7 * i for i in range(NUM_CLIENTS)]
HERE = Machine("127.0.0.1")


def clients():
    """200 MB, so that there are several portions for each of three workers."""
    values = np.random.default_rng(0).standard_normal((NUM_CLIENTS, 500, 1000), dtype=np.float32)
    return [
        {**small, "large": large}
        for small, large in zip(random_clients(NUM_CLIENTS), values, strict=True)
    ]


@pytest.fixture(scope="module")
def cohort():
    return clients()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def path(data_dir, cohort):
    return write_round(data_dir / "clients.h5", cohort, WEIGHTS)


@pytest.fixture(scope="module")
def expected(cohort):
    return {name: numpy_mean([c[name] for c in cohort], WEIGHTS) for name in cohort[0]}


@pytest.fixture(scope="module")
def workers(data_dir):
    """Three workers on three machines; a test may kill one of them."""
    with machines(3) as hosts:
        started = [SharedWorker(host, data_dir) for host in hosts]
        assert len({worker.address for worker in started}) == 3
        yield started
        for worker in started:
            worker.end()


@pytest.fixture
def listed(workers, monkeypatch):
    addresses = [worker.address for worker in workers]
    monkeypatch.setenv("FEDVIZ_TFF_WORKERS", ",".join(addresses))
    return addresses


def assert_is_mean(result, cohort, expected):
    for name, found in result.weights.items():
        arrays = [client[name] for client in cohort]
        assert (found.dtype, found.shape) == (arrays[0].dtype, arrays[0].shape)
        bound = max(1, rounding_bound(found.dtype))
        assert ulps(found, expected[name], arrays) <= bound


def test_three_machines_give_the_mean(listed, path, cohort, expected):
    result = average(path)

    assert_is_mean(result, cohort, expected)
    assert result.engine == f"tff workers at {', '.join(listed)}"
    assert set(result.measurements["workers"]) <= set(listed)
    assert sum(result.measurements["workers"].values()) == 12
    assert result.measurements["lost_workers"] == []


@pytest.mark.usefixtures("listed")
def test_cancelled_in_the_middle_and_the_next_one_works(data_dir, path):
    def cancel(progress):
        if progress.done == 2:
            raise JobCancelledError(progress.message)

    with pytest.raises(JobCancelledError, match="averaging on 3 machines"):
        average(path, progress=cancel)

    small = write_round(data_dir / "small.h5", [{"w": f32(1)}, {"w": f32(4)}], [2, 1])
    assert average(small).weights["w"].tolist() == [2.0]


def on(worker, computation):
    connection = Connection(worker.address)
    try:
        return connection.invoke(computation, ())
    finally:
        connection.give_back()
        connection.close()


def test_a_worker_reads_its_folder_and_writes_nothing(workers, data_dir):
    (data_dir / "readable").write_text("yes")
    here = str(data_dir / "readable")

    def write():
        with tf.control_dependencies([tf.io.write_file(f"{here}-2", "")]):
            return tf.constant(0)

    assert on(workers[0], tff.tensorflow.computation(lambda: tf.io.read_file(here))) == b"yes"
    outside = tff.tensorflow.computation(lambda: tf.io.read_file("/etc/passwd"))
    if landlock_version():
        with pytest.raises(grpc.RpcError, match="Permission denied"):
            on(workers[0], outside)
        with pytest.raises(grpc.RpcError, match="Permission denied"):
            on(workers[0], tff.tensorflow.computation(write))
        assert not Path(f"{here}-2").exists()
    else:
        assert b"root" in on(workers[0], outside)


def test_a_worker_that_sees_no_file_or_another_is_named(workers, data_dir, tmp_path, monkeypatch):
    """Relative to each process's folder: ours has the file, the workers' has another or none."""
    write_round(tmp_path / "elsewhere.h5", [{"w": f32(1, 2)}, {"w": f32(3, 4)}])
    with WeightDataset(tmp_path / "elsewhere.h5") as dataset:
        (tensor,) = mapped_tensors(dataset.round(), list(dataset.signature))
    seen = b"/proc/self/cwd/elsewhere.h5"
    tensor = dataclasses.replace(tensor, path=seen)
    monkeypatch.chdir(tmp_path)
    addresses = listed_workers(workers[0].address)

    def mean():
        return federated_mean_on_machines([tensor], np.ones(2), addresses)

    with pytest.raises(EngineError, match=rf"{workers[0].address}: it does not see .*elsewhere"):
        mean()
    content = bytearray((tmp_path / "elsewhere.h5").read_bytes())
    content[tensor.offset] ^= 1
    (data_dir / "elsewhere.h5").write_bytes(content)
    with pytest.raises(EngineError, match=rf"{workers[0].address}: it sees another state of .*h5"):
        mean()
    (data_dir / "elsewhere.h5").write_bytes(content[:-64])
    with pytest.raises(EngineError, match=rf"{workers[0].address}: it does not see .*elsewhere"):
        mean()
    (data_dir / "elsewhere.h5").write_bytes((tmp_path / "elsewhere.h5").read_bytes())
    (means, dealt) = mean()
    assert means[0].tolist() == [2.0, 3.0]
    assert dealt.portions == {workers[0].address: 1}


@pytest.mark.usefixtures("listed")
def test_one_killed_in_the_middle_is_named_and_its_shards_run_again(
    workers, path, cohort, expected
):
    victim = workers[1]
    pids = victim.pids
    assert len(pids) == 3

    def kill(progress):
        if victim.process.poll() is None and victim.address in progress.message:
            victim.process.kill()
            victim.process.wait()

    with pytest.warns(LostWorkerWarning, match=f"lost TFF worker {victim.address}: .*run again on"):
        result = average(path, progress=kill)

    assert_is_mean(result, cohort, expected)
    assert sum(result.measurements["workers"].values()) == 12
    (loss,) = result.measurements["lost_workers"]
    assert loss.startswith(victim.address)
    # Killed, and still no orphan.
    assert all(ended(pid) for pid in pids)


def test_none_is_left_and_all_are_named(path, monkeypatch):
    monkeypatch.setenv("FEDVIZ_TFF_WORKERS", "127.0.0.8:9,127.0.0.9:9")

    with pytest.raises(EngineError, match=r"clients\.h5, round 0: no TFF worker is left") as caught:
        average(path)

    for address in ("127.0.0.8:9", "127.0.0.9:9"):
        assert f"{address}: connection refused" in str(caught.value)


def test_silence(workers):
    (alive,) = listed_workers(workers[0].address)
    assert silence_of(alive, 5) == ""
    other = grpc.server(ThreadPoolExecutor(1))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    (address,) = listed_workers(f"127.0.0.1:{port}")
    assert silence_of(address, 5) == "what listens there is no TFF worker"
    other.stop(0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        (address,) = listed_workers(f"127.0.0.1:{mute.getsockname()[1]}")
        assert silence_of(address, 0.3) == "it accepts connections and does not answer within 0.3 s"
    assert silence_of(address, 0.3) == "connection refused"


@pytest.fixture(scope="module")
def local_workers(data_dir):
    started = {
        number: SharedWorker(HERE, data_dir)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
    }
    yield started
    for worker in started.values():
        worker.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_shared_worker_ends_without_orphans(local_workers, number):
    worker = local_workers[number]
    (address,) = listed_workers(worker.address)
    own, supervisor, binary = worker.pids
    # Only this process listens on the host, and only where it was asked to.
    assert len(socket_inodes(own) & listening_inodes("self")) == 1
    assert not (socket_inodes(supervisor) | socket_inodes(binary)) & listening_inodes("self")

    os.kill(own, number)

    assert worker.process.wait() == (-9 if number == signal.SIGKILL else 0)
    assert ended(supervisor)
    assert ended(binary)
    assert silence_of(address, 1) == "connection refused"
    said = worker.process.stderr.read()
    assert "no authentication: whoever reaches 127.0.0.1" in said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" a:1 , b.example:65535,", ["a:1", "b.example:65535"]),
        ("[fd00::1]:9000", ["[fd00::1]:9000"]),
    ],
)
def test_listed_workers(text, expected):
    assert [str(address) for address in listed_workers(text)] == expected


@pytest.mark.parametrize(
    "text", ["a", "a:0", "a:65536", ":9", "a:b", "http://a:1", "u@a:1", "a:1,a:1"]
)
def test_what_lists_no_workers(text):
    with pytest.raises(InvalidArgumentError, match=r"^FEDVIZ_TFF_WORKERS: "):
        listed_workers(text)
