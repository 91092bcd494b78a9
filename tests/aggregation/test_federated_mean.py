import dataclasses
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedviz.aggregation.federated_mean import federated_mean_in_memory, federated_mean_of_rows
from fedviz.aggregation.memory_map import MappedTensor, mapped_tensor, row_parts
from fedviz.dataset import WeightDataset
from fedviz.errors import EngineError, InvalidArgumentError, SignatureError
from tests.aggregation.helpers import (
    f32,
    numpy_mean,
    random_clients,
    rounding_bound,
    ulps,
    write_round,
)

pytestmark = pytest.mark.tff

NUM_CLIENTS = 6
CLIENTS = random_clients(NUM_CLIENTS)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_round(tmp_path_factory.mktemp("mean") / "clients.h5", CLIENTS)


@pytest.fixture(scope="module")
def tensors(path):
    with WeightDataset.open(path) as dataset:
        round_ = dataset.round()
        return [mapped_tensor(round_, spec) for spec in dataset.signature]


def test_in_memory_by_hand():
    clients = [[f32(1, 2), np.float16([1])], [f32(5, -2), np.float16([4])]]

    kernel, bias = federated_mean_in_memory(clients, [1, 3])

    np.testing.assert_array_equal(kernel, f32(4, -1))
    np.testing.assert_array_equal(bias, np.float16([3.25]))
    assert (kernel.dtype, bias.dtype) == (np.float32, np.float16)


@settings(max_examples=15)
@given(
    weights=st.lists(st.integers(0, 10**6), min_size=NUM_CLIENTS, max_size=NUM_CLIENTS).filter(any),
    num_shards=st.integers(1, 8),
)
def test_rows_agree_with_numpy_and_with_the_reference(tensors, weights, num_shards):
    mapped = federated_mean_of_rows(tensors, np.array(weights), num_shards)
    reference = federated_mean_in_memory([list(c.values()) for c in CLIENTS], weights)

    for name, found, other in zip(CLIENTS[0], mapped, reference, strict=True):
        arrays = [client[name] for client in CLIENTS]
        assert (found.dtype, found.shape) == (arrays[0].dtype, arrays[0].shape)
        assert ulps(found, numpy_mean(arrays, weights), arrays) <= rounding_bound(found.dtype)
        assert ulps(found, other, arrays) <= max(1, rounding_bound(found.dtype))


def test_weights_decide(tensors):
    weighted = federated_mean_of_rows(tensors, np.array([1, 2, 3, 4, 5, 6]))
    uniform = federated_mean_of_rows(tensors, np.ones(NUM_CLIENTS))
    last = federated_mean_of_rows(tensors, np.array([0, 0, 0, 0, 0, 6]))

    assert np.abs(weighted[0] - uniform[0]).max() > 0.01
    np.testing.assert_array_equal(last[0], CLIENTS[5]["dense/kernel"])


def test_no_tensors():
    assert federated_mean_of_rows([], np.ones(3)) == []


def test_in_memory_errors():
    with pytest.raises(InvalidArgumentError, match="0 clients and 0 weights"):
        federated_mean_in_memory([], [])
    with pytest.raises(InvalidArgumentError, match="1 clients and 2 weights"):
        federated_mean_in_memory([[f32(1)]], [1, 2])
    with pytest.raises(SignatureError, match=r"client 1, tensor 0: expected float32\[1\], found"):
        federated_mean_in_memory([[f32(1)], [f32(1, 2)]], [1, 1])
    with pytest.raises(SignatureError, match="tensor 0: a mean needs real numbers, found int64"):
        federated_mean_in_memory([[np.int64(1)]], [1])


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-1.0, "the weight of client 1 is -1; expected a number from 0"),
        (np.nan, "the weight of client 1 is nan; expected"),
        (np.inf, "the weight of client 1 is inf; expected"),
        (0.0, "all weights are zero"),
    ],
)
def test_weights_that_make_no_mean(tensors, weight, message):
    weights = np.zeros(NUM_CLIENTS)
    weights[1] = weight

    with pytest.raises(InvalidArgumentError, match=message):
        federated_mean_of_rows(tensors, weights)
    with pytest.raises(InvalidArgumentError, match=message):
        federated_mean_in_memory([[f32(1)]] * NUM_CLIENTS, weights)


def test_vanished_and_shortened_files_are_errors_and_the_next_call_works(tensors, tmp_path):
    kernel = tensors[0]
    vanished = dataclasses.replace(kernel, path=os.fsencode(tmp_path / "gone.h5"))
    shortened = dataclasses.replace(kernel, file_bytes=kernel.file_bytes + (1 << 20))

    with pytest.raises(EngineError, match=r"gone\.h5; No such file"):
        federated_mean_of_rows([vanished], np.ones(NUM_CLIENTS))
    with pytest.raises(EngineError, match="the TFF worker reports"):
        federated_mean_of_rows([shortened], np.ones(NUM_CLIENTS))

    (found,) = federated_mean_of_rows([kernel], np.array([0, 1, 0, 0, 0, 0]))
    np.testing.assert_array_equal(found, CLIENTS[1]["dense/kernel"])


def _many(kind: str, n: int) -> np.ndarray:
    """Values of n clients, float32 of shape (n, 40, 50): where float32 sums err most."""
    rng = np.random.default_rng(1)
    model = (1 + rng.random((40, 50))).astype(np.float32)
    match kind:
        case "equal":
            return np.repeat(model[np.newaxis], n, axis=0)
        case "near":
            noise = 0.01 * rng.standard_normal((n, 40, 50))
            return np.asarray(model * (1 + noise), np.float32)
        case _:
            return np.sort(rng.standard_normal((n, 40, 50), dtype=np.float32), axis=0)


@pytest.mark.parametrize("kind", ["equal", "near", "sorted"])
@pytest.mark.parametrize("n", [97, 803])
def test_many_clients_stay_within_one_ulp(tmp_path, kind, n):
    values = _many(kind, n)
    weights = np.random.default_rng(2).integers(1, 2000, len(values))
    path = write_round(tmp_path / "many.h5", [{"kernel": value} for value in values])
    with WeightDataset.open(path) as dataset:
        tensor = mapped_tensor(dataset.round(), dataset.signature["kernel"])

    for counted, num_shards in ((weights, 1), (weights, 3), (np.ones(n, int), 2)):
        (found,) = federated_mean_of_rows([tensor], counted, num_shards)
        assert ulps(found, numpy_mean(list(values), list(counted)), list(values)) <= 1


@pytest.mark.parametrize("room", [0, 4, 2000], ids=["none", "too little", "enough"])
@pytest.mark.parametrize("num_shards", [1, 5])
def test_an_end_that_is_not_aligned(tmp_path, room, num_shards):
    """33 rows of 52 bytes: an aligned place comes after 16, 32 and 48 rows; or the file ends."""
    values = np.random.default_rng(3).standard_normal((33, 13), dtype=np.float32)
    path = tmp_path / "rows"
    path.write_bytes(bytes(64) + values.tobytes() + b"\xff" * room)
    tensor = MappedTensor(os.fsencode(path), path.stat().st_size, 64, 33, (13,), "float32", (0, 0))
    weights = np.arange(33)

    (found,) = federated_mean_of_rows([tensor], weights, num_shards)

    assert row_parts(tensor) == ([(0, 33)] if room == 2000 else [(0, 32), (32, 33)])
    assert ulps(found, numpy_mean(list(values), list(weights)), list(values)) <= 1
