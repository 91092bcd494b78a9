"""Repair plans: what is proposed, what it costs, and the new dataset."""

from __future__ import annotations

import contextlib
import hashlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedviz.analysis.check import check
from fedviz.dataset import WeightDataset
from fedviz.errors import InvalidArgumentError, UnknownNameError
from fedviz.records import FaultKind, InjectedFault, Metric
from fedviz.repair import RepairKind, apply_repairs, preview, repair_plan
from fedviz.signature import Signature, TensorSpec
from fedviz.synthesis.faults import apply_fault, parse_fault
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.conftest import SIGNATURE, random_weights

SERVER = random_weights(SIGNATURE, np.random.default_rng(0))


def client(seed=1):
    """The server model, each tensor moved a little."""
    rng = np.random.default_rng(seed)
    return {
        spec.name: w + np.float32(0.01) * rng.standard_normal(w.shape).astype("f4")
        for spec, w in zip(SIGNATURE, SERVER, strict=True)
    }


def changed(**changes):
    weights = {**client(), **{name.replace("__", "/"): value for name, value in changes.items()}}
    return {name: array for name, array in weights.items() if array is not None}


KERNEL = client()["dense/kernel"]


def planned(write_dataset, odd, **options):
    path = write_dataset({"good": client(2), "odd": odd}, server=SERVER, **options)
    with WeightDataset(path) as dataset:
        return repair_plan(dataset)


def repaired(path, out, **choices):
    """Apply the plan of a dataset, with other options for some of its repairs; open the result."""
    with WeightDataset(path) as dataset:
        plan = repair_plan(dataset)
        for index, kind in choices.items():
            plan = plan.choose(int(index.removeprefix("r")), kind)
        apply_repairs(plan, dataset, out)
    return WeightDataset(out)


@pytest.mark.parametrize(
    ("odd", "kinds", "lossless"),
    [
        (changed(dense__kernel=KERNEL.T), ["transpose", "drop-client", "use-server"], True),
        (changed(dense__kernel=KERNEL[None]), ["reshape", "drop-client", "use-server"], True),
        (changed(dense__kernel=KERNEL.astype("f2")), ["cast", "drop-client", "use-server"], True),
        (
            changed(dense__kernel=KERNEL.astype("f8") + 1e-12),
            ["cast", "drop-client", "use-server"],
            False,
        ),
        (changed(dense_1__bias=None), ["drop-client", "use-server"], False),
        (changed(scale=np.float32(1)), ["drop-tensor", "drop-client"], False),
        (dict(reversed(client().items())), ["reorder", "drop-client"], True),
        (
            {("first" if n == "dense/kernel" else n): w for n, w in client().items()},
            ["rename", "drop-client", "use-server"],
            True,
        ),
        (changed(dense__kernel=np.ones((5, 9), "f4")), ["drop-client", "use-server"], False),
    ],
    ids=[
        *("transpose", "reshape", "widen", "narrow", "missing", "extra"),
        *("reorder", "rename", "units"),
    ],
)
def test_what_is_proposed_for_each_mismatch(write_dataset, odd, kinds, lossless):
    (repair,) = planned(write_dataset, odd).repairs
    assert [option.kind.value for option in repair.options] == kinds
    assert repair.choice is repair.options[0]
    assert repair.alternatives == repair.options[1:]
    assert repair.choice.lossless == lossless


def test_the_distance_is_that_to_the_mean_of_the_conforming_clients(write_dataset):
    (repair,) = planned(write_dataset, changed(dense__kernel=KERNEL.T)).repairs
    mean = client(2)["dense/kernel"].astype("f8")
    expected = np.linalg.norm(KERNEL - mean) / np.linalg.norm(mean)
    assert repair.choice.distance == pytest.approx(expected, rel=1e-12)
    assert repair.choice.axes == (1, 0)
    server = np.linalg.norm(SERVER[0] - mean) / np.linalg.norm(mean)
    assert repair.options[2].distance == pytest.approx(server, rel=1e-6)


def test_a_repair_that_lands_far_from_the_cohort_is_doubted(write_dataset):
    (repair,) = planned(write_dataset, changed(dense__kernel=-3 * KERNEL.T)).repairs
    assert [o.kind.value for o in repair.options] == ["drop-client", "transpose", "use-server"]


def test_of_several_ways_to_turn_the_axes_the_nearest_is_taken(write_dataset):
    signature = Signature((TensorSpec("conv/kernel", (3, 3, 2, 4), "float32"),))
    kernel = np.random.default_rng(0).standard_normal((3, 3, 2, 4)).astype("f4")
    first = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
    path = write_dataset(
        {"good": [kernel], "odd": {"conv/kernel": first}}, signature=signature, server=[kernel]
    )
    with WeightDataset(path) as dataset:
        (repair,) = repair_plan(dataset).repairs
    assert (repair.choice.axes, repair.choice.distance) == ((2, 3, 1, 0), 0.0)


def test_nonfinite_clients_are_left_out_unless_the_server_steps_in(write_dataset, tmp_path):
    broken = changed(dense__bias=np.full(10, np.nan, "f4"))
    path = write_dataset({"good": client(2), "odd": list(broken.values())}, server=SERVER)
    with repaired(path, tmp_path / "a.h5") as left:
        assert list(left.round().clients) == ["good"]
    with repaired(path, tmp_path / "b.h5", r0=RepairKind.USE_SERVER) as left:
        np.testing.assert_array_equal(left.round().clients["odd"]["dense/bias"], SERVER[1])
        assert check(left).consistent


def test_a_cast_that_would_overflow_is_not_offered(write_dataset):
    (repair,) = planned(write_dataset, changed(dense__kernel=KERNEL.astype("f8") + 1e300)).repairs
    assert [o.kind.value for o in repair.options] == ["drop-client", "use-server"]


def test_statistics_that_are_missing_are_the_servers(write_dataset):
    signature = Signature(
        (
            TensorSpec("bn/gamma", (9,), "float32", True),
            TensorSpec("bn/moving_mean", (9,), "float32", False),
        )
    )
    gamma, mean = np.ones(9, "f4"), np.full(9, 2, "f4")
    path = write_dataset(
        {"good": [gamma, mean], "odd": {"bn/gamma": gamma}},
        signature=signature,
        server=[gamma, mean],
    )
    with WeightDataset(path) as dataset:
        (repair,) = repair_plan(dataset).repairs
    assert [o.kind.value for o in repair.options] == ["use-server", "drop-client"]


def test_permuted_values_are_put_back(write_dataset, tmp_path):
    signature = Signature(tuple(TensorSpec(n, (4, 4), "float32") for n in "abc"))
    rng = np.random.default_rng(3)
    server = [rng.standard_normal((4, 4)).astype("f4") for _ in "abc"]
    a, b, c = (w + np.float32(0.01) for w in server)
    path = write_dataset({"good": [a, b, c], "odd": [b, c, a]}, signature=signature, server=server)
    with repaired(path, tmp_path / "out.h5") as dataset:
        odd = dataset.round().clients["odd"]
        for name, values in zip("abc", (a, b, c), strict=True):
            np.testing.assert_array_equal(odd[name], values)


def test_everything_at_once(write_dataset, tmp_path):
    """Another order, PyTorch's names and layout, float64 and a tensor too many."""
    weights = client()
    odd = {
        "module.dense_1.bias": weights["dense_1/bias"].astype("f8"),
        "module.dense_1.weight": np.ascontiguousarray(weights["dense_1/kernel"].T),
        "num_batches": np.int64(7),
        "module.dense.bias": weights["dense/bias"],
        "module.dense.weight": np.ascontiguousarray(weights["dense/kernel"].T).astype("f8"),
    }
    path = write_dataset({"good": client(2), "odd": odd}, server=SERVER)
    with repaired(path, tmp_path / "out.h5") as dataset:
        assert check(dataset).consistent
        assert dataset.round().divergent == ()
        for name, values in weights.items():
            np.testing.assert_array_equal(dataset.round().clients["odd"][name], values)


def test_an_extra_layer_that_takes_the_name_of_another(write_dataset, tmp_path):
    weights = client()
    odd = {
        "dense/kernel": weights["dense/kernel"],
        "dense/bias": weights["dense/bias"],
        "dense_1/kernel": np.ones((10, 10), "f4"),
        "dense_1/bias": np.ones(10, "f4"),
        "dense_2/kernel": weights["dense_1/kernel"],
        "dense_2/bias": weights["dense_1/bias"],
    }
    path = write_dataset({"good": client(2), "odd": odd}, server=SERVER)
    with repaired(path, tmp_path / "out.h5") as dataset:
        assert check(dataset).consistent
        found = dataset.round().clients["odd"]["dense_1/kernel"]
        np.testing.assert_array_equal(found, weights["dense_1/kernel"])


def test_preview_says_what_a_plan_leaves(write_dataset):
    path = write_dataset(
        {
            "good": client(2),
            "odd": changed(dense__kernel=KERNEL.T),
            "lost": changed(dense_1__bias=None),
        },
        server=SERVER,
        num_examples={"good": 30, "odd": 20, "lost": 50},
    )
    with WeightDataset(path) as dataset:
        plan = repair_plan(dataset)
        seen = preview(plan, dataset)
        assert (seen.clients_before, seen.conforming_before) == (3, 1)
        assert (seen.clients_after, seen.conforming_after, seen.agrees) == (2, 2, True)
        assert (seen.share_of_examples, seen.lossless) == (0.5, False)
        other = preview(plan.choose(1, RepairKind.USE_SERVER), dataset)
        assert (other.clients_after, other.conforming_after, other.share_of_examples) == (3, 3, 1)


def test_one_round_may_be_repaired_alone(write_dataset, tmp_path):
    path = write_dataset(
        {"good": client(2), "odd": changed(dense__kernel=KERNEL.T)}, server=SERVER, rounds=2
    )
    with WeightDataset(path) as dataset:
        plan = repair_plan(dataset, round=-1)
        assert not preview(plan, dataset).agrees
        apply_repairs(plan, dataset, tmp_path / "out.h5")
    with WeightDataset(tmp_path / "out.h5") as out:
        assert [m.round for m in check(out).mismatches] == [0]


def test_all_else_is_kept_and_the_recipe_notes_the_repair(tmp_path):
    path, out = tmp_path / "a.h5", tmp_path / "out.h5"
    entries = [ClientEntry("good", 3), ClientEntry("bad", None), ClientEntry("odd", 4)]
    fault = InjectedFault("odd", FaultKind.SCALE, "10")
    broken = [np.full_like(w, np.nan) for w in SERVER]
    with WeightDatasetWriter(path, SIGNATURE, {"seed": 5}) as writer:
        for _ in range(2):
            with writer.round(entries, SERVER) as round_:
                round_.write_client("good", client(2))
                round_.write_client("bad", broken)
                round_.write_client("odd", client(3))
                round_.write_aggregate(
                    "mean", SERVER, aggregator="mean", weighting="uniform", measurements={"a": 1}
                )
                round_.write_metrics(
                    [Metric("client", c, "loss", i) for i, c in enumerate(["good", "bad", "odd"])]
                    + [Metric("server", "", "loss", 9.0)]
                )
                round_.write_label_counts(np.arange(6).reshape(3, 2))
        writer.write_ground_truth([fault])
    with repaired(path, out) as dataset:
        assert dataset.recipe["seed"] == 5
        assert dataset.recipe["repair"]["file"] == "a.h5"
        assert dataset.recipe["repair"]["repairs"][0] == {
            "round": 0,
            "client": "bad",
            "tensor": "dense/kernel",
            "mismatch": "nonfinite",
            "repair": "drop-client",
            "lossless": False,
        }
        assert dataset.ground_truth == (fault,)
        assert [each.number for each in dataset.rounds] == [0, 1]
        for each in dataset.rounds:
            assert [(r.id, r.num_examples) for r in each.records] == [("good", 3), ("odd", 4)]
            assert each.aggregates["mean"].measurements == {"a": 1}
            assert {m.subject for m in each.metrics} == {"good", "odd", ""}
            assert each.label_counts.tolist() == [[0, 1], [4, 5]]
            for name, values in client(3).items():
                np.testing.assert_array_equal(each.clients["odd"][name], values)


def test_the_original_is_not_touched(write_dataset, tmp_path):
    path = write_dataset({"good": client(2), "odd": changed(dense__kernel=KERNEL.T)}, server=SERVER)
    before = path.read_bytes(), path.stat().st_mtime_ns
    repaired(path, tmp_path / "out.h5").close()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    refused = pytest.raises(InvalidArgumentError, match="a repair is written into a new file")
    with WeightDataset(path) as dataset, refused:
        apply_repairs(repair_plan(dataset), dataset, path)
    assert path.read_bytes() == before[0]


def test_what_cannot_be_chosen(write_dataset):
    plan = planned(write_dataset, changed(dense_1__bias=None))
    with pytest.raises(InvalidArgumentError, match=r"client odd, tensor dense_1/bias: cast is no"):
        plan.choose(0, RepairKind.CAST)
    with pytest.raises(InvalidArgumentError, match="repair 1: expected 0 to 0"):
        plan.choose(1, RepairKind.DROP_CLIENT)


def test_a_plan_needs_a_check_against_the_server_model(write_dataset):
    path = write_dataset({"good": client(2), "odd": changed(dense_1__bias=None)}, server=SERVER)
    with WeightDataset(path) as dataset:
        report = check(dataset, "odd")
        with pytest.raises(InvalidArgumentError, match="this one is against odd"):
            repair_plan(dataset, report)


FAULTS = ["transpose", "dtype", "dtype:float16", "dtype:int8", "missing", "extra", "order"]
FAULTS += ["nan", "inf:0.3", "scale", "sign-flip"]


def faulty(name, weights, kinds):
    """Weights with one fault after another; those that can no longer be injected are left out."""
    server = dict(zip(SIGNATURE.names, SERVER, strict=True))
    rng = np.random.default_rng(0)
    for kind in kinds:
        with contextlib.suppress(InvalidArgumentError, UnknownNameError, KeyError, ValueError):
            weights = apply_fault(parse_fault(f"{name}:{kind}"), weights, server, rng)[0]
    return weights


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.sampled_from(FAULTS), max_size=3), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 3),
)
def test_a_repaired_dataset_has_no_mismatches_left(tmp_path, faults, with_server, option):
    """Any faults on any clients, any of the options."""
    clients = {f"c{i}": faulty(f"c{i}", client(i), kinds) for i, kinds in enumerate(faults)}
    path, out = tmp_path / "a.h5", tmp_path / "out.h5"
    entries = [ClientEntry(c, 5, Signature.of(w)) for c, w in clients.items()]
    server = SERVER if with_server else None
    with WeightDatasetWriter(path, SIGNATURE) as writer, writer.round(entries, server) as round_:
        for name, weights in clients.items():
            round_.write_client(name, weights)
    before = hashlib.sha256(path.read_bytes()).digest()
    with WeightDataset(path) as dataset:
        plan = repair_plan(dataset)
        for i, repair in enumerate(plan.repairs):
            plan = plan.choose(i, repair.options[min(option, len(repair.options) - 1)].kind)
        seen = preview(plan, dataset)
        apply_repairs(plan, dataset, out)
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert seen.agrees
    with WeightDataset(out) as dataset:
        assert [str(m) for m in check(dataset).mismatches] == []
        assert len(dataset.round().conforming) == seen.clients_after
