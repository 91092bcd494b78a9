import json
import math
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import tensorflow_federated as tff

from fedviz.aggregation import context
from fedviz.aggregation.tff_aggregators import SIMULATED_IN_THE_CLEAR, TFF_AGGREGATORS
from fedviz.aggregation.tff_processes import RoundInput, _size_problem, aggregate_with_process
from fedviz.dataset import WeightDataset
from fedviz.errors import InvalidArgumentError, StorageError
from fedviz.signature import Signature
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.aggregation.helpers import f32, numpy_mean, random_clients, write_round

pytestmark = pytest.mark.tff

SHAPES = {"kernel": (40, 30), "bias": (30,), "scale": ()}
WEIGHTS = np.array([1.0, 2, 0, 3, 4])
_RNG = np.random.default_rng(3)
SERVER = {n: _RNG.standard_normal(s).astype(np.float32) for n, s in SHAPES.items()}
CLIENTS = [
    {
        n: np.asarray(SERVER[n] + (0.01 * 2**i) * _RNG.standard_normal(s), np.float32)
        for n, s in SHAPES.items()
    }
    for i in range(5)
]
# A client of weight 0 is not read: its NaN would be seen.
CLIENTS[2] = {n: np.full(s, np.nan, np.float32) for n, s in SHAPES.items()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two rounds of the same clients."""
    path = tmp_path_factory.mktemp("processes") / "clients.h5"
    entries = [ClientEntry(f"c{i}", int(w)) for i, w in enumerate(WEIGHTS)]
    with WeightDatasetWriter(path, Signature.of(SERVER)) as writer:
        for _ in range(2):
            with writer.round(entries, SERVER) as round_:
                for entry, weights in zip(entries, CLIENTS, strict=True):
                    round_.write_client(entry.id, weights)
    with WeightDataset.open(path) as opened:
        yield opened


def run(dataset, name, parameters=None, *, weights=WEIGHTS, rounds=1, server=True):
    inputs = [
        RoundInput(round_, weights, round_.server if server else None)
        for round_ in dataset.rounds[-rounds:]
    ]
    return aggregate_with_process(
        inputs, list(dataset.signature), TFF_AGGREGATORS[name], parameters
    )


def flat(weights):
    return np.concatenate([np.ravel(weights[n]).astype(np.float64) for n in SHAPES])


START = flat(SERVER)
UPDATES = np.array([flat(c) - START for c in CLIENTS])
TAKING_PART = np.flatnonzero(WEIGHTS)
NORMS = np.linalg.norm(UPDATES, axis=1)


def weighted_mean(updates):
    return sum(WEIGHTS[i] * updates[i] for i in TAKING_PART) / WEIGHTS.sum()


def clipped(norm):
    return [u * min(1, norm / n) for u, n in zip(UPDATES, NORMS, strict=True)]


def check_update(model, expected, tolerance=1e-6):
    np.testing.assert_allclose(flat(model) - START, expected, rtol=0, atol=tolerance)


def test_mean_and_unweighted_mean(dataset):
    model, measured = run(dataset, "tff-mean")
    plain, _ = run(dataset, "tff-unweighted-mean")

    check_update(model, weighted_mean(UPDATES))
    check_update(plain, UPDATES[TAKING_PART].mean(axis=0))
    assert np.abs(flat(model) - flat(plain)).max() > 0.01
    assert measured["aggregated"] == "updates"
    assert measured["clients_aggregated"] == 4
    assert measured["relative_distance_from_mean"] < 1e-6


def test_without_a_server_model_the_weights_are_aggregated(dataset):
    norm = float(np.linalg.norm(START)) / 2
    model, measured = run(dataset, "clipping", {"clipping_norm": norm}, server=False)

    weights = [START + u for u in UPDATES]
    expected = weighted_mean([w * min(1, norm / np.linalg.norm(w)) for w in weights])
    np.testing.assert_allclose(flat(model), expected, rtol=0, atol=1e-6)
    assert measured["aggregated"] == "weights"
    assert measured["clipped_clients"] == 4


def test_clipping_by_hand(dataset):
    norm = float(np.sort(NORMS[TAKING_PART])[:2].mean())
    model, measured = run(dataset, "clipping", {"clipping_norm": norm})

    check_update(model, weighted_mean(clipped(norm)))
    assert measured["clipped_clients"] == 3
    assert measured["clipping_norm"] == pytest.approx(norm)
    assert measured["process"] == {
        "clipping_norm": measured["clipping_norm"],
        "clipped_count": 3,
    }


@pytest.mark.parametrize(("order", "ord_"), [("inf", np.inf), ("1", 1)])
def test_zeroing_by_hand(dataset, order, ord_):
    sizes = np.linalg.norm(UPDATES, ord_, axis=1)
    largest, second = np.sort(sizes[TAKING_PART])[:-3:-1]
    norm = float((largest + second) / 2)
    model, measured = run(dataset, "zeroing", {"zeroing_norm": norm, "norm_order": order})

    kept = [u * (size <= norm) for u, size in zip(UPDATES, sizes, strict=True)]
    check_update(model, weighted_mean(kept))
    assert measured["zeroed_clients"] == 1


def test_robust_is_zeroing_then_clipping_with_the_first_estimates(dataset):
    model, measured = run(dataset, "robust")

    check_update(model, weighted_mean(clipped(1.0)))
    assert (measured["zeroing_norm"], measured["clipping_norm"]) == (21.0, 1.0)
    assert measured["clipped_clients"] == int(np.sum(NORMS[TAKING_PART] > 1))


def test_norms_adapt_over_the_rounds_before(dataset):
    """Andrew et al.: C ← C exp(−rate (share of norms at most C − quantile)), once for round 0."""
    parameters = {"clipping_norm": 1.0, "adaptive": "yes", "learning_rate": 0.5}
    model, measured = run(dataset, "clipping", parameters, rounds=2)

    share = np.mean(NORMS[TAKING_PART] <= 1.0)
    norm = math.exp(-0.5 * (share - 0.8))
    assert measured["clipping_norm"] == pytest.approx(norm, rel=1e-6)
    assert measured["rounds_run"] == 2
    check_update(model, weighted_mean(clipped(norm)))


def test_dp_without_noise_is_the_clipped_sum_over_the_expected_clients(dataset):
    parameters = {
        "noise_multiplier": 0.0,
        "adaptive": "no",
        "clipping_norm": 1.0,
        "clients_per_round": 8,
        "zeroing": "no",
    }
    model, measured = run(dataset, "dp", parameters)

    check_update(model, np.sum([clipped(1.0)[i] for i in TAKING_PART], axis=0) / 8)
    assert measured["privacy"]["epsilon"] is None
    assert measured["privacy"]["notes"] == ["The sum is divided by 8 clients, and 4 took part."]


def test_dp_noise_has_the_standard_deviation_that_was_asked_for(dataset):
    """1,231 values: a tenth off is five standard errors of a standard deviation."""
    parameters = {"noise_multiplier": 20.0, "adaptive": "no", "clipping_norm": 1.0}
    model, measured = run(dataset, "dp", parameters)
    again, _ = run(dataset, "dp", parameters)

    mean = np.sum([clipped(1.0)[i] for i in TAKING_PART], axis=0) / 4
    noise = flat(model) - START - mean
    assert noise.std() == pytest.approx(20.0 / 4, rel=0.1)
    assert abs(noise.mean()) < 5 * 5.0 / math.sqrt(noise.size)
    assert np.abs(flat(model) - flat(again)).max() > 1
    assert measured["privacy"]["epsilon"] == pytest.approx(0.17, abs=0.02)
    assert "without noise" in measured["privacy"]["notes"][0]


def test_dp_with_too_much_noise_for_so_few_clients_is_refused(dataset):
    with pytest.raises(InvalidArgumentError, match=r"dp: TFF refuses this: .*clipped_count_stddev"):
        run(dataset, "dp", {"noise_multiplier": 5.0})


def test_compression_errs_by_a_step_at_most(dataset):
    parameters = {"quantization_bits": 6, "threshold": 100, "zeroing": "no", "clipping": "no"}
    model, measured = run(dataset, "compression", parameters)

    kernels = [WEIGHTS[i] * UPDATES[i][:1200] for i in TAKING_PART]
    bound = sum(np.ptp(k) / (2**6 - 1) for k in kernels) / WEIGHTS.sum()
    error = np.abs(flat(model) - START - weighted_mean(UPDATES))
    assert bound / 20 < error[:1200].max() <= bound + 1e-6
    assert error[1200:].max() <= 1e-6
    assert measured["bits_per_client_before"] == 32 * 1231
    # 1,200 values of 6 bits, 28 of them in an int32, and the extremes; 31 values as they are.
    assert measured["bits_per_client_after"] == 258 * 32 + 64 + 31 * 32
    assert measured["relative_distance_from_mean"] == pytest.approx(
        np.linalg.norm(error) / np.linalg.norm(weighted_mean(UPDATES)), rel=1e-3
    )


def test_secure_is_the_mean_within_its_steps(dataset):
    """Weighted values are cut to ±100 and divided into 2^32 steps; float32 does the rest."""
    model, measured = run(dataset, "secure", {"zeroing": "no", "clipping": "no"})

    check_update(model, weighted_mean(UPDATES), 1e-5)
    assert measured["simulated"] == SIMULATED_IN_THE_CLEAR
    assert measured["process"]["mean_value.secure_upper_clipped_count"] == 0
    assert not np.array_equal(flat(model), flat(run(dataset, "tff-mean")[0]))


def test_ddp_secure_without_noise_is_the_clipped_mean(dataset):
    parameters = {"noise_multiplier": 0.0, "zeroing": "no"}
    model, measured = run(dataset, "ddp-secure", parameters)

    check_update(model, np.mean([clipped(0.1)[i] for i in TAKING_PART], axis=0), 1e-4)
    assert measured["simulated"] == SIMULATED_IN_THE_CLEAR
    assert measured["process"]["mean_value.actual_num_clients"] == 4


def test_composition_of_zeroing_clipping_and_a_secure_sum(dataset):
    sizes = np.abs(UPDATES).max(axis=1)
    zeroing = float(np.sort(sizes[TAKING_PART])[-2:].mean())
    parameters = {"zeroing_norm": zeroing, "clipping_norm": 1.0, "sum": "secure"}
    model, measured = run(dataset, "composition", parameters)

    kept = [u * (size <= zeroing) for u, size in zip(clipped(1.0), sizes, strict=True)]
    check_update(model, weighted_mean(kept), 1e-5)
    assert (measured["zeroed_clients"], measured["simulated"]) == (1, SIMULATED_IN_THE_CLEAR)


def test_composition_with_privacy_over_a_secure_sum(dataset):
    parameters = {"noise_multiplier": 0.0, "clipping_norm": 1.0, "sum": "secure"}
    model, measured = run(dataset, "dp-composition", parameters)

    check_update(model, np.mean([clipped(1.0)[i] for i in TAKING_PART], axis=0), 1e-5)
    assert measured["privacy"]["notes"] == []


@pytest.mark.parametrize("name", ["tff-mean", "compression"])
def test_every_float_dtype_and_an_empty_tensor(tmp_path, name):
    clients, server = random_clients(3), random_clients(4, seed=0)[3]
    path = write_round(tmp_path / "c.h5", clients, server=server)
    with WeightDataset.open(path) as opened:
        parameters = {} if name == "tff-mean" else {"zeroing": "no", "clipping": "no"}
        model, measured = run(opened, name, parameters, weights=np.ones(3))

    assert list(model) == list(server)
    for tensor, found in model.items():
        arrays = [client[tensor] for client in clients]
        assert (found.dtype, found.shape) == (arrays[0].dtype, arrays[0].shape)
        resolution = {"float16": 4e-3, "bfloat16": 3e-2, "float64": 1e-6}.get(
            found.dtype.name, 1e-6
        )
        if found.size:
            expected = numpy_mean(arrays, [1, 1, 1])
            np.testing.assert_allclose(found.astype(np.float64), expected, atol=resolution)
    narrowed = {"half/kernel", "brain/kernel"}
    if name == "compression":
        narrowed.add("double/kernel")
    assert set(measured["tensors_as_float32"]) == narrowed
    if name == "tff-mean":
        exact = numpy_mean([c["double/kernel"] for c in clients], [1, 1, 1])
        np.testing.assert_allclose(model["double/kernel"], exact, rtol=1e-14)


def test_a_server_model_of_ones_own(dataset):
    """It is copied to a file for the worker, and taken away afterwards."""
    other = {name: value + 1 for name, value in SERVER.items()}
    item = RoundInput(dataset.round(), WEIGHTS, other)
    folder = Path(tempfile.gettempdir())
    before = set(folder.iterdir())
    model, _ = aggregate_with_process(
        [item], list(dataset.signature), TFF_AGGREGATORS["clipping"], {"clipping_norm": 1e-3}
    )

    assert np.abs(flat(model) - flat(other)).max() < 1e-3
    left = {path.name for path in set(folder.iterdir()) - before}
    assert not [n for n in left if n.startswith("fedviz-") and "worker" not in n]


def test_agrees_with_the_process_of_tff_learning_fed_with_lists(dataset):
    """The whole of it by another way: values through Python, TFF's own factory."""
    value_type = tff.to_type(tuple(tff.TensorType(np.float32, s) for s in SHAPES.values()))
    process = tff.learning.robust_aggregator().create(value_type, tff.TensorType(np.float32))
    values = [
        tuple(np.asarray(CLIENTS[i][n] - SERVER[n], np.float32) for n in SHAPES)
        for i in TAKING_PART
    ]
    output = context.run(
        process.next,
        context.run(process.initialize),
        values,
        list(WEIGHTS[TAKING_PART].astype(np.float32)),
    )
    model, _ = run(dataset, "robust")

    expected = np.concatenate([np.ravel(value) for value in output.result])
    check_update(model, expected, 3e-7)


def test_measurements_go_through_json(dataset):
    for name in ("robust", "compression"):
        _, measured = run(dataset, name)
        assert json.loads(json.dumps(measured, allow_nan=False)) == measured


def test_a_huge_client_is_zeroed(tmp_path):
    clients = [{"a": f32(1, 2)}, {"a": f32(3, 4)}, {"a": f32(np.inf, 1e30)}]
    path = write_round(tmp_path / "c.h5", clients, server={"a": f32(0, 0)})
    with WeightDataset.open(path) as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        model, measured = run(opened, "zeroing", weights=np.ones(3))

    np.testing.assert_allclose(model["a"], f32(4 / 3, 2))
    assert measured["zeroed_clients"] == 1


def test_too_large_for_this_machine_or_one_message():
    robust, secure = TFF_AGGREGATORS["robust"], TFF_AGGREGATORS["secure"]

    assert _size_problem(robust, 100, 4 << 20, 2 << 30) == ""
    assert _size_problem(robust, 100, 4 << 20, 1 << 30) == (
        "robust keeps every client's update in memory: about 2,000 MB for 100 clients, found "
        "1,024 MB free; use the aggregator mean"
    )
    assert "about 3,200 MB" in _size_problem(secure, 100, 4 << 20, 2 << 30)
    assert "in one message, found 2,147,483,648" in _size_problem(robust, 1, 2 << 30, 1 << 40)


def test_a_file_that_was_replaced(tmp_path):
    path = write_round(tmp_path / "c.h5", [{"a": f32(1, 2)}])
    with WeightDataset.open(path) as opened:
        round_ = opened.round()
        specs = list(opened.signature)
        path.unlink()
        with pytest.raises(StorageError, match=r"cannot read c\.h5"):
            aggregate_with_process(
                [RoundInput(round_, np.ones(1))], specs, TFF_AGGREGATORS["tff-mean"]
            )
