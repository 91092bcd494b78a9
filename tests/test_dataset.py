from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedviz.dataset import WeightDataset
from fedviz.errors import (
    DatasetFormatError,
    InvalidArgumentError,
    SignatureError,
    UnknownNameError,
)
from fedviz.hdf5_format import ALIGNMENT
from fedviz.records import FaultKind, InjectedFault, Metric
from fedviz.signature import DTYPES, Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.conftest import SIGNATURE, random_weights

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
signatures = st.lists(
    st.builds(
        TensorSpec,
        names,
        st.lists(st.integers(0, 4), max_size=5).map(tuple),
        st.sampled_from(sorted(DTYPES)),
        st.sampled_from([True, False, None]),
    ),
    max_size=5,
    unique_by=lambda spec: spec.name,
).map(lambda specs: Signature(tuple(specs)))


def raw_bytes(arrays):
    return [np.ascontiguousarray(a).tobytes() for a in arrays]


def random_bits(signature, rng):
    """Every bit pattern, NaN payloads among them; bools stay bools."""
    return [
        np.frombuffer(rng.bytes(s.nbytes), s.numpy_dtype).reshape(s.shape)
        if s.dtype != "bool"
        else rng.integers(0, 2, s.shape).astype(bool)
        for s in signature
    ]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(signature=signatures, divergent=signatures, client=names, seed=st.integers(0, 2**32))
def test_round_trip_keeps_every_bit(tmp_path, signature, divergent, client, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path / "a.h5"
    server, own = random_bits(signature, rng), random_bits(signature, rng)
    other = random_bits(divergent, rng)
    with WeightDatasetWriter(path, signature) as writer:
        entries = [ClientEntry(client, 3), ClientEntry(client + "'", None, divergent)]
        with writer.round(entries, server) as round_:
            round_.write_client(client, own)
            round_.write_client(client + "'", other)
            round_.write_aggregate("mean", own, aggregator="mean", weighting="uniform")
    with WeightDataset(path) as dataset:
        assert dataset.signature == signature
        last = dataset.round()
        assert [r.id for r in last.records] == [client, client + "'"]
        assert [r.num_examples for r in last.records] == [3, None]
        assert raw_bytes(last.server.values()) == raw_bytes(server)
        assert raw_bytes(last.clients[client].values()) == raw_bytes(own)
        assert raw_bytes(last.aggregates["mean"].values()) == raw_bytes(own)
        found = last.clients[client + "'"]
        assert found.signature.agrees_with(divergent)
        assert raw_bytes(found.values()) == raw_bytes(other)
        for name in signature.names:
            assert last.clients[client][name].dtype == signature[name].numpy_dtype


def test_huge_and_nested_names_stay_one_tensor(tmp_path):
    long = "층/" * 30_000
    signature = Signature((TensorSpec(long, (2,), "float32"), TensorSpec("../x", (), "int8")))
    with (
        WeightDatasetWriter(tmp_path / "a.h5", signature) as writer,
        writer.round([ClientEntry("a/../b")]) as round_,
    ):
        round_.write_client("a/../b", [np.float32([1, 2]), np.int8(3)])
    with WeightDataset(tmp_path / "a.h5") as dataset:
        assert dataset.signature.names == (long, "../x")
        weights = dataset.round().clients["a/../b"]
        np.testing.assert_array_equal(weights[long], np.float32([1, 2]))
        assert weights["../x"] == 3


def test_stacked_tensors_are_contiguous_and_aligned(write_dataset):
    rng = np.random.default_rng(0)
    clients = {f"c{i}": random_weights(SIGNATURE, rng) for i in range(3)}
    path = write_dataset(clients)
    with WeightDataset(path) as dataset:
        for position, spec in enumerate(SIGNATURE):
            stack = dataset.round().stack(spec.name)
            assert stack.shape == (3, *spec.shape)
            assert stack.contiguous
            assert stack.offset % ALIGNMENT == 0
            mapped = np.memmap(path, spec.numpy_dtype, "r", stack.offset, stack.shape)
            for row, weights in enumerate(clients.values()):
                np.testing.assert_array_equal(mapped[row], weights[position])
            np.testing.assert_array_equal(
                dataset.round().read_stack(spec.name, slice(1, 3)), mapped[1:3]
            )


def test_everything_beside_the_weights(tmp_path):
    rng = np.random.default_rng(0)
    fault = InjectedFault("c1", FaultKind.NAN, "0.1", ("dense/kernel", "dense/bias"))
    with WeightDatasetWriter(tmp_path / "a.h5", SIGNATURE, {"seed": 7}) as writer:
        with writer.round([ClientEntry("c0", 4), ClientEntry("c1", 0)]) as round_:
            for client in ("c0", "c1"):
                round_.write_client(client, random_weights(SIGNATURE, rng))
            round_.write_metrics([Metric("client", "c0", "loss", 0.5)])
            round_.write_label_counts(np.array([[1, 3], [0, 0]]))
            round_.write_aggregate(
                "trim-0.1",
                random_weights(SIGNATURE, rng),
                aggregator="trimmed-mean",
                weighting="num_examples",
                parameters={"trim": 0.1},
                measurements={"seconds": 2.5},
            )
        writer.write_ground_truth([fault])
    with WeightDataset(tmp_path / "a.h5") as dataset:
        last = dataset.round()
        assert dataset.recipe == {"seed": 7}
        assert dataset.ground_truth == (fault,)
        assert dataset.producer.startswith("fedviz ")
        assert last.server is None
        assert last.metric("client", "loss", "c0") == 0.5
        assert last.metric("client", "loss", "c1") is None
        np.testing.assert_array_equal(last.label_counts, [[1, 3], [0, 0]])
        aggregate = last.aggregates["trim-0.1"]
        assert (aggregate.aggregator, aggregate.weighting) == ("trimmed-mean", "num_examples")
        assert (aggregate.parameters, aggregate.measurements) == ({"trim": 0.1}, {"seconds": 2.5})


def test_what_is_not_there_is_named(write_dataset):
    rng = np.random.default_rng(0)
    path = write_dataset({"c0": random_weights(SIGNATURE, rng)}, rounds=2)
    with WeightDataset(path) as dataset:
        with pytest.raises(UnknownNameError, match="no round 7; the dataset has rounds 0 to 1"):
            dataset.round(7)
        with pytest.raises(UnknownNameError, match=r"clients.h5, round 1: there is no client c42"):
            dataset.round(1).clients["c42"]
        with pytest.raises(UnknownNameError, match="there is no tensor dense/krenel"):
            dataset.round(0).clients["c0"]["dense/krenel"]


def test_appending_keeps_what_is_there(write_dataset):
    rng = np.random.default_rng(0)
    path = write_dataset({"c0": random_weights(SIGNATURE, rng)})
    aggregate = random_weights(SIGNATURE, rng)
    reader = WeightDataset(path)
    before = raw_bytes(reader.round().clients["c0"].values())
    with WeightDatasetWriter.append(path) as writer:
        writer.write_aggregate(0, "mean", aggregate, aggregator="mean", weighting="uniform")
        with writer.round([ClientEntry("c0", 1)]) as round_:
            round_.write_client("c0", aggregate)
    assert raw_bytes(reader.round().clients["c0"].values()) == before
    assert not reader.round().aggregates
    reader.close()
    with WeightDataset(path) as dataset:
        assert [r.number for r in dataset.rounds] == [0, 1]
        assert raw_bytes(dataset.round(0).clients["c0"].values()) == before
        assert raw_bytes(dataset.round(0).aggregates["mean"].values()) == raw_bytes(aggregate)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([ClientEntry("a"), ClientEntry("a")], "two clients have the id a"),
        ([ClientEntry("a", -1)], "client a: num_examples is -1"),
        ([ClientEntry("a\0b")], "cannot be a client id"),
    ],
)
def test_refused_clients(tmp_path, entries, message):
    with (
        pytest.raises(InvalidArgumentError, match=message),
        WeightDatasetWriter(tmp_path / "a.h5", SIGNATURE) as writer,
        writer.round(entries),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_cast_or_padded(tmp_path):
    weights = random_weights(SIGNATURE, np.random.default_rng(0))
    weights[1] = weights[1].astype("f8")
    with (
        pytest.raises(
            SignatureError,
            match=r"a.h5, round 0: client c0, tensor dense/bias: expected float32\[10\], "
            r"found float64\[10\]",
        ),
        WeightDatasetWriter(tmp_path / "a.h5", SIGNATURE) as writer,
        writer.round([ClientEntry("c0")]) as round_,
    ):
        round_.write_client("c0", weights)
    assert list(tmp_path.iterdir()) == []


def test_an_announced_client_must_be_written(tmp_path):
    with (
        pytest.raises(SignatureError, match="client c0: announced, but"),
        WeightDatasetWriter(tmp_path / "a.h5", SIGNATURE) as writer,
        writer.round([ClientEntry("c0")]),
    ):
        pass


def test_a_closed_dataset_says_so(write_dataset):
    path = write_dataset({"c0": random_weights(SIGNATURE, np.random.default_rng(0))})
    dataset = WeightDataset(path)
    round_ = dataset.round()
    dataset.close()
    with pytest.raises(DatasetFormatError, match=r"clients.h5 is damaged: cannot read round 0"):
        round_.clients["c0"]["dense/bias"]


def test_records_are_sorted_once_and_by_row(tmp_path):
    rng = np.random.default_rng(0)
    other = Signature(SIGNATURE.tensors[:2])
    entries = [ClientEntry(f"c{i}", i, other if i in (1, 4) else None) for i in range(6)]
    written = {e.id: random_weights(e.signature or SIGNATURE, rng) for e in entries}
    with (
        WeightDatasetWriter(tmp_path / "a.h5", SIGNATURE) as writer,
        writer.round(entries) as round_,
    ):
        for client in reversed(written):
            round_.write_client(client, written[client])
    with WeightDataset(tmp_path / "a.h5") as dataset:
        last = dataset.round()
        assert [(r.id, r.row) for r in last.conforming] == [
            ("c0", 0),
            ("c2", 1),
            ("c3", 2),
            ("c5", 3),
        ]
        assert [r.id for r in last.divergent] == ["c1", "c4"]
        assert last.conforming is last.conforming
        assert last.divergent is last.divergent
        first, second = (last.client(record) for record in last.divergent)
        assert first.signature is second.signature
        for record in last.records:
            assert raw_bytes(last.client(record).values()) == raw_bytes(written[record.id])


def test_values_in_any_memory_layout_are_stored_row_by_row(tmp_path):
    signature = Signature((TensorSpec("w", (3, 4), "float32"), TensorSpec("b", (2,), "bool")))
    values = np.arange(48, dtype="f4").reshape(6, 8)
    layouts = {
        "fortran": np.asfortranarray(values[:3, :4]),
        "strided": values[::2, ::2],
        "backwards": values[2::-1, 3::-1],
    }
    flags = np.array([True, False, False])[::2]
    with (
        WeightDatasetWriter(tmp_path / "a.h5", signature) as writer,
        writer.round([ClientEntry(c) for c in layouts], [layouts["strided"], flags]) as round_,
    ):
        for client, array in layouts.items():
            round_.write_client(client, [array, flags])
        round_.write_label_counts(np.arange(6, dtype=">i4").reshape(3, 2))
    with WeightDataset(tmp_path / "a.h5") as dataset:
        last = dataset.round()
        for client, array in layouts.items():
            np.testing.assert_array_equal(last.clients[client]["w"], array)
            np.testing.assert_array_equal(last.clients[client]["b"], [True, False])
        np.testing.assert_array_equal(last.server["w"], values[::2, ::2])
        np.testing.assert_array_equal(last.label_counts, [[0, 1], [2, 3], [4, 5]])


def test_many_clients_whose_signatures_differ_in_one_letter_a_size_or_a_dtype(write_dataset):
    """Tables that are alike bit for bit are taken apart once; these are nearly alike."""
    kinds = [
        {"dense/kernel": np.zeros((3, 4), "f4"), "dense/bias": np.zeros(4, "f4")},
        {"dense/kernel": np.zeros((4, 3), "f4"), "dense/bias": np.zeros(4, "f4")},
        {"dense/kernel": np.zeros((3, 4), "i4"), "dense/bias": np.zeros(4, "f4")},
        {"dense/kernel": np.zeros((3, 4), "u4"), "dense/bias": np.zeros(4, "f4")},
        {"dense/kernel": np.zeros((3, 4), "f4"), "dense/bios": np.zeros(4, "f4")},
        {"dense/kerneld": np.zeros((3, 4), "f4"), "ense/bias": np.zeros(4, "f4")},
    ]
    clients = {f"c{i}": kinds[i % 6] for i in range(120)}
    for name in ("a.h5", "b.h5"):
        with WeightDataset(write_dataset(clients, name=name)) as dataset:
            found = {c: weights.signature for c, weights in dataset.round().clients.items()}
        assert found == {client: Signature.of(weights) for client, weights in clients.items()}
        assert len({id(signature) for signature in found.values()}) == 6


def test_a_part_of_a_tensor_is_read_alone(tmp_path):
    rng = np.random.default_rng(5)
    specs = (
        TensorSpec("cube", (4, 5, 6), "float32"),
        TensorSpec("half", (3, 7), "bfloat16"),
        TensorSpec("scale", (), "float64"),
    )
    clients = {c: random_weights(Signature(specs), rng) for c in ("a", "b", "c")}
    path = tmp_path / "parts.h5"
    with WeightDatasetWriter(path, Signature(specs)) as writer:
        entries = [ClientEntry(client) for client in clients]
        with writer.round(entries, clients["a"]) as round_:
            for client, weights in clients.items():
                round_.write_client(client, weights)
    region = (slice(1, 3), slice(0, 5), slice(4, 9))
    with WeightDataset(path) as dataset:
        round_ = dataset.round()
        part = round_.clients["b"].window("cube", region)
        np.testing.assert_array_equal(part, clients["b"][0][1:3, :, 4:])
        half = round_.server.window("half", (slice(2, 3), slice(1, 4)))
        assert half.dtype == clients["a"][1].dtype
        np.testing.assert_array_equal(half, clients["a"][1][2:3, 1:4])
        assert round_.clients["c"].window("scale", ()) == clients["c"][2]
        stack = round_.read_stack_window("cube", slice(1, 3), region)
        np.testing.assert_array_equal(stack[1], clients["c"][0][1:3, :, 4:])
        assert round_.server.window("cube", (slice(3, 3), slice(0, 5), slice(0, 1))).shape == (
            (0, 5, 1)
        )
