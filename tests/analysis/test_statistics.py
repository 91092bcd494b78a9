"""Statistics of a round, by hand and against plain NumPy in float64."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fedviz.analysis import blocks
from fedviz.analysis.statistics import (
    movement_by_round,
    relative_distance,
    rms,
    summarise_round,
    summarise_tensor,
)
from fedviz.dataset import WeightDataset
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter

NAN, INF = np.nan, np.inf


def f32(*values):
    return np.array(values, np.float32)


@pytest.fixture
def round_of(tmp_path):
    """Opens a round of given clients; an aggregate is called ``mean``."""
    opened = []

    def build(clients, *, server=None, aggregate=None):
        reference = server or aggregate or clients[0]
        signature = Signature.of(reference)
        path = tmp_path / f"{len(opened)}.h5"
        entries = [ClientEntry(f"c{i}", i + 1) for i in range(len(clients))]
        with (
            WeightDatasetWriter(path, signature) as writer,
            writer.round(entries, server) as round_,
        ):
            for entry, weights in zip(entries, clients, strict=True):
                round_.write_client(entry.id, weights)
            if aggregate is not None:
                round_.write_aggregate("mean", aggregate, aggregator="mean", weighting="uniform")
        opened.append(WeightDataset(path))
        return opened[-1].round()

    yield build
    for dataset in opened:
        dataset.close()


@pytest.fixture
def random_round(round_of):
    rng = np.random.default_rng(5)
    shapes = {"kernel": (7, 3), "bias": (3,), "scale": ()}

    def model(spread):
        return {
            name: np.asarray(5 + spread * rng.standard_normal(shape), np.float32)
            for name, shape in shapes.items()
        }

    return round_of([model(0.1) for _ in range(6)], server=model(0.01), aggregate=model(0.01))


def test_two_clients_by_hand(round_of):
    round_ = round_of(
        [{"w": f32(4, 4)}, {"w": f32(0, 8)}], server={"w": f32(1, 0)}, aggregate={"w": f32(1, 4)}
    )
    found = summarise_tensor(round_, "w", round_.aggregates["mean"])
    assert found.name == "w"
    assert found.updates.tolist() == [5.0, np.sqrt(1 + 64)]
    assert found.distances.tolist() == [3.0, np.sqrt(1 + 16)]
    # The cells vary by 2 around their mean each; the aggregate's rms is √(17/2).
    assert found.spread == pytest.approx(2 / np.sqrt(8.5), rel=1e-15)
    assert found.moved == 4.0
    assert found.aggregate_norm == pytest.approx(np.sqrt(17), rel=1e-15)
    assert found.nonfinite.tolist() == [0, 0]
    assert found.relative_distances[0] == pytest.approx(3 / np.sqrt(17), rel=1e-15)


def test_agrees_with_numpy(random_round):
    aggregate, server = random_round.aggregates["mean"], random_round.server
    for name in ("kernel", "bias", "scale"):
        found = summarise_tensor(random_round, name, aggregate)
        stack = random_round.read_stack(name).astype("f8").reshape(6, -1)
        start, mean = server[name].astype("f8").ravel(), aggregate[name].astype("f8").ravel()
        np.testing.assert_allclose(found.updates, np.linalg.norm(stack - start, axis=1), 1e-14)
        np.testing.assert_allclose(found.distances, np.linalg.norm(stack - mean, axis=1), 1e-14)
        spread = np.sqrt(stack.var(axis=0).mean()) / np.sqrt(np.mean(mean**2))
        assert found.spread == pytest.approx(spread, rel=1e-12)
        moved = np.linalg.norm(mean - start) / np.linalg.norm(start)
        assert found.moved == pytest.approx(moved, rel=1e-14)


def test_the_whole_model_is_the_root_of_the_tensors_squares(random_round):
    summary = summarise_round(random_round, random_round.aggregates["mean"])
    models = [
        np.concatenate([a.astype("f8").ravel() for a in client.values()])
        for client in random_round.clients.values()
    ]
    start = np.concatenate([a.astype("f8").ravel() for a in random_round.server.values()])
    np.testing.assert_allclose(
        summary.updates, [np.linalg.norm(m - start) for m in models], rtol=1e-14
    )
    assert summary.nonfinite.tolist() == [0] * 6
    assert [t.name for t in summary.tensors] == ["kernel", "bias", "scale"]


@pytest.mark.parametrize("clients_in_block", [1, 2, 4, 5])
def test_blocks_change_nothing(random_round, monkeypatch, clients_in_block):
    whole = summarise_tensor(random_round, "kernel", random_round.aggregates["mean"])
    monkeypatch.setattr(blocks, "BLOCK_BYTES", clients_in_block * 7 * 3 * 4)
    rows = [rows for rows, _ in blocks.client_blocks(random_round, "kernel")]
    assert len(rows) == -(-6 // clients_in_block)
    found = summarise_tensor(random_round, "kernel", random_round.aggregates["mean"])
    np.testing.assert_array_equal(found.updates, whole.updates)
    np.testing.assert_array_equal(found.distances, whole.distances)
    assert found.spread == pytest.approx(whole.spread, rel=1e-13)


def test_a_small_spread_of_large_weights_does_not_drown(round_of):
    clients = [{"w": np.array([1e8 + d], "f8")} for d in (-1e-4, 1e-4)]
    round_ = round_of(clients, server={"w": np.array([1e8])})
    assert summarise_tensor(round_, "w", None).spread == pytest.approx(1e-12, rel=1e-3)


def test_nonfinite_values_are_counted_and_spoil_only_their_client(round_of):
    round_ = round_of(
        [{"w": f32(3, 4)}, {"w": f32(NAN, INF)}, {"w": f32(0, -INF)}],
        server={"w": f32(0, 0)},
        aggregate={"w": f32(3, 0)},
    )
    summary = summarise_round(round_, round_.aggregates["mean"])
    (found,) = summary.tensors
    assert found.nonfinite.tolist() == summary.nonfinite.tolist() == [0, 2, 1]
    assert found.updates[0] == summary.updates[0] == 5.0
    assert found.distances[0] == 4.0
    assert not np.isfinite(found.updates[1:]).any()
    assert np.isnan(found.moved)


def test_without_server_and_aggregate(round_of):
    round_ = round_of([{"w": f32(1, 3)}, {"w": f32(3, 5)}])
    found = summarise_tensor(round_, "w", None)
    assert np.isnan(found.updates).all()
    assert np.isnan(found.distances).all()
    assert np.isnan([found.moved, found.aggregate_norm]).all()
    # Both cells vary by 1; the clients' mean is (2, 4), its rms √10.
    assert found.spread == pytest.approx(1 / np.sqrt(10), rel=1e-15)


def test_bfloat16_and_integers(round_of):
    round_ = round_of(
        [{"w": np.array([v], ml_dtypes.bfloat16), "n": np.int32(v)} for v in (2, 4)],
        server={"w": np.array([1], ml_dtypes.bfloat16), "n": np.int32(0)},
    )
    summary = summarise_round(round_, None)
    assert [t.name for t in summary.tensors] == ["w"]
    assert summary.updates.tolist() == [1.0, 3.0]


def test_no_clients_and_no_values(tmp_path):
    signature = Signature((TensorSpec("w", (2, 0), "float32"),))
    with WeightDatasetWriter(tmp_path / "a.h5", signature) as writer, writer.round([]):
        pass
    with WeightDataset(tmp_path / "a.h5") as dataset:
        summary = summarise_round(dataset.round(), None)
        assert summary.updates.shape == (0,)
        assert np.isnan(summary.tensors[0].spread)
        assert summary.tensors[0].aggregate_norm == 0.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3, -4], np.sqrt(12.5)), ([3, NAN, INF], 3.0), ([NAN], NAN), ([], NAN), ([0], 0.0)],
)
def test_rms_of_the_finite_values(values, expected):
    np.testing.assert_equal(rms(np.array(values)), expected)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([4, 6], [4, 3], 0.6),
        ([1, 9], [0, 0], NAN),
        ([NAN, 6], [1, 3], 1.0),
        ([2, 6], [1, INF], 1.0),
        ([], [], NAN),
    ],
)
def test_relative_distance(a, b, expected):
    np.testing.assert_equal(relative_distance(np.array(a), np.array(b)), expected)


def test_movement_by_round(tmp_path):
    signature = Signature((TensorSpec("w", (2,), "float32"),))
    with WeightDatasetWriter(tmp_path / "a.h5", signature) as writer:
        for server, aggregate in ((f32(0, 0), f32(3, 4)), (None, f32(1, 1)), (f32(1, 1), None)):
            with writer.round([], None if server is None else [server]) as round_:
                if aggregate is not None:
                    round_.write_aggregate(
                        "mean", [aggregate], aggregator="mean", weighting="uniform"
                    )
    with WeightDataset(tmp_path / "a.h5") as dataset:
        found = movement_by_round(dataset.rounds, "w", "mean")
    np.testing.assert_equal(found, [5.0, NAN, NAN])
