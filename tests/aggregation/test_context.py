import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedviz.aggregation import context
from fedviz.errors import EngineError
from tests.aggregation.helpers import f32, write_round
from tests.aggregation.test_worker import DEADLINE_SECONDS, ended

pytestmark = pytest.mark.tff

square = tff.tensorflow.computation(lambda x: x * x, np.int32)
total = tff.federated_computation(tff.federated_sum, tff.FederatedType(np.int32, tff.CLIENTS))


def test_runs_local_and_federated_computations():
    assert context.run(square, 7) == 49
    assert context.run(total, [1, 20, 300]) == 321
    assert context.run(total, [4]) == 4


def test_worker_is_kept_between_calls_and_ends_with_shutdown():
    context.warm_up()
    first = context.worker()
    context.run(square, 2)
    assert context.worker() is first

    context.shutdown()

    assert ended(first.pid)
    assert context.run(square, 3) == 9
    assert context.worker().pid != first.pid


def test_a_worker_that_was_killed_is_replaced():
    killed = context.worker()
    os.kill(killed.pid, signal.SIGKILL)

    assert context.run(square, 6) == 36
    assert context.worker().pid != killed.pid


def test_failure_is_one_line_and_the_next_call_works():
    fails = tff.tensorflow.computation(lambda: tf.io.read_file("/no/such/file"))

    with pytest.raises(EngineError, match=r"the TFF worker reports: .*/no/such/file") as caught:
        context.run(fails)

    assert "\n" not in str(caught.value)
    assert context.run(square, 4) == 16


def test_failure_of_one_thread_does_not_disturb_the_others():
    fails = tff.tensorflow.computation(lambda: tf.io.read_file("/no/such/file"))
    results, errors = [], []

    def call(i):
        try:
            results.append((i, context.run(fails if i % 2 else square, *([] if i % 2 else [i]))))
        except EngineError as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results) == [(i, i * i) for i in range(0, 12, 2)]
    assert len(errors) == 6


def test_worker_that_is_killed_while_it_works(tmp_path):
    started = tmp_path / "started"

    def works_for_ever():
        with tf.control_dependencies([tf.io.write_file(str(started), "")]):
            zero = tf.constant(0)
        return tf.while_loop(lambda i: i < 1, lambda i: i * 1, [zero])[0]

    computation = tff.tensorflow.computation(works_for_ever)
    errors = []

    def call():
        try:
            context.run(computation)
        except EngineError as error:
            errors.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not started.exists() and time.monotonic() < deadline:
        os.sched_yield()
    os.kill(context.worker().pid, signal.SIGKILL)
    thread.join(DEADLINE_SECONDS)

    (message,) = errors
    assert "the TFF worker ended while it worked" in message
    assert context.run(square, 5) == 25


AVERAGES = """
import sys
from fedviz.aggregation.average import average
from fedviz.aggregation import context

print(average(sys.argv[1]).weights["w"].tolist())
print(context.worker().pid, context.worker().supervisor_pid, flush=True)
"""


def test_a_process_that_averaged_ends_cleanly(tmp_path):
    path = write_round(tmp_path / "clients.h5", [{"w": f32(1)}, {"w": f32(3)}])

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(AVERAGES), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )

    mean, pids = done.stdout.splitlines()
    assert mean == "[2.0]"
    assert all(ended(int(pid)) for pid in pids.split())
    assert "Traceback" not in done.stderr
