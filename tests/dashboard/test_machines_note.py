import socket
import time

import pytest

from fedviz.aggregation.machines import listed_workers
from fedviz.aggregation.worker import Worker
from fedviz.dashboard.machines import HealthWatch, engine_note, workers_note
from tests.aggregation.several_machines import Machine, SharedWorker
from tests.dashboard.opened import unescaped
from tests.dashboard.test_samples import MLP

DEADLINE_SECONDS = 20


def asked(watch):
    """What a watch knows when all workers have been asked."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while any(worker.silence is None for worker in watch.look()):
        assert time.monotonic() < deadline
    return watch.look()


@pytest.fixture(scope="module")
def living(tmp_path_factory):
    worker = SharedWorker(Machine("127.0.0.1"), tmp_path_factory.mktemp("data"))
    yield worker.address
    worker.end()


def test_looking_never_waits_and_tells_who_is_silent(living):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        dumb = f"127.0.0.1:{mute.getsockname()[1]}"
        watch = HealthWatch(listed_workers(f"{living},127.0.0.9:9,{dumb}"))
        started = time.monotonic()
        first = watch.look()
        # A worker that accepts and says nothing is waited for elsewhere, for seconds.
        assert time.monotonic() - started < 1
        assert [worker.silence for worker in first] == [None] * 3
        known = asked(watch)

    assert [worker.address for worker in known] == [living, "127.0.0.9:9", dumb]
    assert known[0].silence == ""
    assert known[0].since is None
    told, *silent = map(unescaped, workers_note(known))
    assert "Runs on 3 TFF workers of other machines: 1 of 3 answer" in told
    assert len(silent) == 2
    assert f"127.0.0.9:9] :gray[connection refused, since {known[1].since:%H:%M:%S}" in silent[0]
    assert f"{dumb}] :gray[it accepts connections and does not answer" in silent[1]


def test_the_page_says_where_the_mean_runs(open_page, living, monkeypatch):
    monkeypatch.setenv("FEDVIZ_TFF_WORKERS", living)
    page = open_page("averaging", dataset=MLP.name)

    def said():
        return [unescaped(m.value) for m in page.app.markdown if "Runs " in m.value]

    deadline = time.monotonic() + DEADLINE_SECONDS
    while "it answers" not in said()[0] and time.monotonic() < deadline:
        page.run()
    assert len(said()) == 1
    assert "Runs on 1 TFF worker of other machines: it answers" in said()[0]
    # TFF's own processes run here.
    page.choose(aggregator="Clipping")
    assert "other machines" not in said()[0]
    monkeypatch.setenv("FEDVIZ_TFF_WORKERS", "nonsense")
    page.choose(aggregator="Federated mean")
    assert any("expected host:port" in error for error in page.errors)


def test_a_worker_that_is_not_isolated_is_told():
    with Worker() as worker:
        assert "nobody else can reach" in engine_note(worker.isolated)
    assert ":orange[Its TFF worker listens" in engine_note(False)
    assert "Runs in the engine process" in engine_note(None)
