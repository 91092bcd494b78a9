import asyncio
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedviz.aggregation.aggregators import AGGREGATORS
from fedviz.aggregation.average import average
from fedviz.aggregation.cohort import validated_cohort
from fedviz.dataset import WeightDataset
from fedviz.errors import (
    CohortError,
    InvalidArgumentError,
    JobCancelledError,
    StorageError,
    UnknownNameError,
)
from fedviz.signature import Signature
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.aggregation.helpers import (
    f32,
    numpy_mean,
    random_clients,
    rounding_bound,
    ulps,
    write_round,
)

pytestmark = pytest.mark.tff

finite_float32 = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clients.h5"


def test_two_clients_by_hand(path):
    write_round(path, [{"w": f32(1, 2), "b": f32(0)}, {"w": f32(5, -2), "b": f32(4)}], [1, 3])

    result = average(path)

    assert list(result.weights) == ["w", "b"]
    np.testing.assert_array_equal(result.weights["w"], f32(4, -1))
    np.testing.assert_array_equal(result.weights["b"], f32(3))
    assert result.l2_norm == pytest.approx(np.sqrt(16 + 1 + 9), rel=1e-15)
    assert (result.aggregator, result.weighting, result.round) == ("mean", "num_examples", 0)
    assert (result.clients, result.left_out) == (("c00", "c01"), ())
    assert result.bytes_read == 2 * 3 * 4
    assert result.seconds > 0
    assert result.engine.startswith("tff worker")
    assert result.measurements["total_weight"] == 4.0
    assert result.measurements["copied"] is False


def test_uniform_weighting_by_hand(path):
    write_round(path, [{"w": f32(1, 2)}, {"w": f32(5, -2)}], [1, 3])

    assert average(path, weighting="uniform").weights["w"].tolist() == [3.0, 0.0]


@pytest.mark.parametrize("n", [1, 2, 7])
def test_agrees_with_numpy_in_every_dtype(path, n):
    clients, weights = random_clients(n), [3 + 97 * i for i in range(n)]

    result = average(write_round(path, clients, weights))

    assert list(result.weights) == list(clients[0])
    for name, found in result.weights.items():
        arrays = [client[name] for client in clients]
        assert (found.dtype, found.shape) == (arrays[0].dtype, arrays[0].shape)
        assert ulps(found, numpy_mean(arrays, weights), arrays) <= rounding_bound(found.dtype)


def test_more_clients_and_values_than_one_tile(path):
    rng = np.random.default_rng(0)
    # All of one sign and nearly equal, as a normalisation's scales are: float32 sums drift here.
    clients = [{"w": (1 + rng.random(8200) / 10).astype(np.float32)} for _ in range(201)]
    weights = [int(w) for w in rng.integers(1, 900, 201)]

    found = average(write_round(path, clients, weights)).weights["w"]

    arrays = [client["w"] for client in clients]
    assert ulps(found, numpy_mean(arrays, weights), arrays) <= 1


def test_order_of_clients_moves_nothing_by_more_than_an_ulp(tmp_path):
    clients, weights = random_clients(9), [5, 1, 400, 33, 2, 7, 90, 12, 1]
    order = [4, 8, 0, 3, 7, 1, 6, 2, 5]

    one = average(write_round(tmp_path / "a.h5", clients, weights)).weights
    shuffled = [clients[i] for i in order], [weights[i] for i in order]
    other = average(write_round(tmp_path / "b.h5", *shuffled)).weights

    for name, array in one.items():
        bound = max(1, rounding_bound(array.dtype))
        assert ulps(array, other[name], [client[name] for client in clients]) <= bound


def test_mean_of_equal_clients_is_that_client(path):
    (client,) = random_clients(1)

    result = average(write_round(path, [client] * 5, [7, 100, 3, 59, 11]))

    # A float64 value times its weight has more digits than float64 holds.
    rounded = {name: ulps(result.weights[name], a, [a]) for name, a in client.items()}
    assert rounded.pop("double/kernel") <= rounding_bound(np.dtype(np.float64))
    assert set(rounded.values()) == {0.0}


SMALLEST = float(np.finfo(np.float32).smallest_normal)


@settings(max_examples=8)
@given(
    clients=st.lists(
        st.tuples(st.integers(0, 10**9), st.lists(finite_float32, min_size=3, max_size=3)),
        min_size=1,
        max_size=5,
    ).filter(lambda clients: any(n for n, _ in clients))
)
@example(clients=[(1, [0.0, 1.0, SMALLEST]), (1, [SMALLEST, 2.0, -SMALLEST])])
def test_any_finite_values_and_weights(tmp_path_factory, clients):
    weights = [n for n, _ in clients]
    arrays = [f32(*values) for _, values in clients]
    path = tmp_path_factory.mktemp("any") / "clients.h5"

    found = average(write_round(path, [{"w": array} for array in arrays], weights)).weights["w"]

    # Two float64 sums in another order, and one rounding to float32.
    mean = numpy_mean(arrays, weights)
    normal = np.abs(mean) >= SMALLEST
    assert ulps(found[normal], mean[normal], [a[normal] for a in arrays]) <= 0.501
    # What is smaller than any normal number may come out as 0.
    assert np.all(np.abs(found[~normal] - mean[~normal]) <= SMALLEST)


def test_subnormal_numbers_count_as_zero(path):
    """TensorFlow's threads flush them: the docstring of the mean says so."""
    tiny = SMALLEST / 4

    found = average(write_round(path, [{"w": f32(tiny, 1)}, {"w": f32(tiny, 3)}])).weights["w"]

    np.testing.assert_array_equal(found, f32(0, 2))


def test_largest_values_do_not_overflow(path):
    top = {"d": np.array([np.finfo(np.float64).max]), "h": np.array([65504], np.float16)}

    result = average(write_round(path, [top, top], [10**6, 10**6]))

    assert {name: float(a[0]) for name, a in result.weights.items()} == {
        "d": np.finfo(np.float64).max,
        "h": 65504.0,
    }
    assert result.measurements["nonfinite_values"] == 0


def test_zero_examples_weigh_nothing_even_with_nan(path):
    write_round(path, [{"w": f32(1, 2)}, {"w": f32(np.nan, np.inf)}, {"w": f32(3, 4)}], [1, 0, 1])

    result = average(path)

    assert result.weights["w"].tolist() == [2.0, 3.0]
    assert result.clients == ("c00", "c01", "c02")
    assert result.measurements["zero_weight_clients"] == ["c01"]
    assert result.bytes_read == 2 * 2 * 4


def test_nonfinite_values_of_a_client_are_counted(path):
    write_round(path, [{"w": f32(1, 2, 3)}, {"w": f32(np.nan, np.inf, 5)}])

    result = average(path)

    np.testing.assert_array_equal(result.weights["w"], f32(np.nan, np.inf, 4))
    assert result.measurements["nonfinite_values"] == 2


def integer_model(value, flag):
    return {"steps": np.int64(value), "w": f32(value), "mask": np.array([flag, True])}


def test_integer_tensors_are_the_server_models(path):
    write_round(path, [integer_model(1, True), integer_model(2, True)], [1, 3],
                server=integer_model(7, False))  # fmt: skip

    result = average(path)

    assert list(result.weights) == ["steps", "w", "mask"]
    assert (result.weights["steps"], result.weights["steps"].dtype) == (7, np.int64)
    assert result.weights["mask"].tolist() == [False, True]
    assert result.weights["w"].tolist() == [1.75]
    assert result.measurements["kept_tensors"] == ["steps", "mask"]
    assert result.measurements["kept_from"] == "server"


def test_integer_tensors_without_server_model_are_the_heaviest_clients(path):
    write_round(path, [integer_model(1, True), integer_model(2, False)], [1, 3])

    result = average(path)

    assert (result.weights["steps"], result.weights["mask"].tolist()) == (2, [False, True])
    assert result.measurements["kept_from"] == "c01"


def test_latest_and_named_round(path):
    signature = Signature.of({"w": f32(0)})
    with WeightDatasetWriter(path, signature) as writer:
        for value in (1.0, 10.0):
            with writer.round([ClientEntry("a", 1), ClientEntry("b", 1)]) as round_:
                round_.write_client("a", [f32(value)])
                round_.write_client("b", [f32(3 * value)])

    with WeightDataset.open(path) as dataset:
        assert average(dataset).weights["w"].tolist() == [20.0]
        assert average(dataset, round=0).weights["w"].tolist() == [2.0]
        assert average(dataset).round == 1


DIVERGENT = {"c07": {"w": f32(1, 2, 3)}, "c09": {"v": f32(1, 2)}}


def test_divergent_clients_are_refused_by_name(path):
    write_round(path, [{"w": f32(1, 2)}], divergent=DIVERGENT)

    with pytest.raises(CohortError, match=r"round 0: 2 of 3 clients .*\(c07, c09\)"):
        average(path)


def test_divergent_clients_can_be_left_out(path):
    write_round(path, [{"w": f32(1, 2)}, {"w": f32(3, 6)}], divergent=DIVERGENT)

    result = average(path, divergent="leave-out")

    assert result.weights["w"].tolist() == [2.0, 4.0]
    assert (result.clients, result.left_out) == (("c00", "c01"), ("c07", "c09"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weighting": "size"}, UnknownNameError, "no weighting size.*num_examples, uniform"),
        ({"aggregator": "avg"}, UnknownNameError, "no aggregator avg.*mean"),
        ({"round": 3}, UnknownNameError, "no round 3"),
        ({"parameters": {"beta": 1}}, UnknownNameError, "mean has no parameter beta"),
        ({"divergent": "drop"}, InvalidArgumentError, "refuse or leave-out, found drop"),
    ],
)
def test_unknown_names(path, arguments, error, message):
    write_round(path, [{"w": f32(1)}])

    with pytest.raises(error, match=message):
        average(path, **arguments)


@pytest.mark.parametrize(
    ("clients", "num_examples", "message"),
    [
        ([], [], "no clients to average"),
        ([{"w": f32(1)}] * 3, [5, None, None], r"not known of 2 clients \(c01, c02\).*uniform"),
        ([{"w": f32(1)}] * 2, [0, 0], "zero examples"),
    ],
)
def test_cohorts_that_make_no_mean(path, clients, num_examples, message):
    write_round(path, clients, num_examples, server={"w": f32(0)})

    with (
        WeightDataset.open(path) as dataset,
        pytest.raises(CohortError, match=f"clients.h5, round 0: .*{message}"),
    ):
        validated_cohort(dataset.round())


def test_unknown_examples_do_not_matter_to_a_uniform_mean(path):
    write_round(path, [{"w": f32(1)}, {"w": f32(2)}], [None, 7])

    assert average(path, weighting="uniform").weights["w"].tolist() == [1.5]


def test_only_divergent_clients(path):
    write_round(path, [], server={"w": f32(0, 0)}, divergent=DIVERGENT)

    with pytest.raises(CohortError, match="no client has the dataset's signature"):
        average(path, divergent="leave-out")


def test_file_that_vanished_or_was_replaced(path):
    write_round(path, [{"w": f32(1)}])
    with WeightDataset.open(path) as dataset:
        path.unlink()
        with pytest.raises(StorageError, match=r"cannot read clients\.h5"):
            average(dataset)
        write_round(path, [{"w": f32(8)}])
        with pytest.raises(StorageError, match="replaced since it was opened"):
            average(dataset)
    assert average(path).weights["w"].tolist() == [8.0]


def test_progress_ends_at_the_total_and_can_cancel(path):
    write_round(path, [{"w": f32(1), "b": f32(2)}])
    steps = []

    average(path, progress=steps.append)

    assert [(s.done, s.total) for s in (steps[0], steps[-1])] == [(0, 2), (2, 2)]

    def cancel(progress):
        raise JobCancelledError(progress.message)

    with pytest.raises(JobCancelledError):
        average(path, progress=cancel)


def test_many_threads_at_once(path):
    clients = random_clients(6)
    write_round(path, clients, [1, 2, 3, 4, 5, 6])
    expected = average(path).weights
    found = []
    threads = [threading.Thread(target=lambda: found.append(average(path))) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    for result in found:
        for name, array in expected.items():
            np.testing.assert_array_equal(result.weights[name], array)


def test_within_a_running_event_loop(path):
    write_round(path, [{"w": f32(1)}, {"w": f32(5)}])

    async def notebook_cell():
        return average(path)

    assert asyncio.run(notebook_cell()).weights["w"].tolist() == [3.0]


def test_registry_describes_its_aggregators():
    assert list(AGGREGATORS) == [spec.name for spec in AGGREGATORS.values()]
    assert all(spec.description and spec.formula for spec in AGGREGATORS.values())
