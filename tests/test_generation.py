"""Generated datasets: perturbed ones, with faults, and really trained ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedviz.analysis.check import check
from fedviz.dataset import WeightDataset
from fedviz.errors import FedvizError, InvalidArgumentError, JobCancelledError, UnknownNameError
from fedviz.exporters import export_weights
from fedviz.generation import GenerateRequest, client_ids, generate, shares_of_clients, synthesize
from fedviz.records import FaultKind
from fedviz.signature import Signature
from fedviz.writer import WeightDatasetWriter
from tests.aggregation.helpers import numpy_mean, rounding_bound, ulps

MODEL = {
    "kernel": np.linspace(-1, 1, 60, dtype=np.float32).reshape(6, 10),
    "bias": np.zeros(10, np.float32),
    "count": np.array(7),
}


def digests(dataset):
    return [[record.digest for record in each.records] for each in dataset.rounds]


def values(dataset, client, number=-1):
    return dict(dataset.round(number).clients[client])


# --- perturbed --------------------------------------------------------------------------------


def test_the_seed_decides_every_bit(tmp_path):
    one, same, other = (
        synthesize(tmp_path / f"{i}.h5", MODEL, 4, 0.1, seed, rounds=2)
        for i, seed in enumerate((5, 5, 6))
    )
    assert digests(one) == digests(same)
    assert [r.num_examples for r in one.round().records] == [
        r.num_examples for r in same.round().records
    ]
    together = [d for dataset in (one, other) for each in digests(dataset) for d in each]
    assert len(set(together)) == 16


def test_the_first_clients_do_not_depend_on_how_many_there_are(tmp_path):
    few = synthesize(tmp_path / "few.h5", MODEL, 3, 0.1, 5)
    many = synthesize(tmp_path / "many.h5", MODEL, 12, 0.1, 5)
    assert digests(many)[0][:3] == digests(few)[0]
    assert many.round().records[:3] == few.round().records


def test_noise_has_the_deviation_that_is_asked_for(tmp_path):
    with synthesize(tmp_path / "a.h5", MODEL, 200, 0.25, 1) as dataset:
        noise = dataset.round().read_stack("kernel") - MODEL["kernel"]
        assert np.std(noise) == pytest.approx(0.25, rel=0.02)
        assert abs(np.mean(noise)) < 0.01
        assert (dataset.round().read_stack("count") == 7).all()
        examples = [record.num_examples for record in dataset.round().records]
        assert min(examples) >= 50
        assert max(examples) <= 200
        np.testing.assert_array_equal(dataset.round().server["kernel"], MODEL["kernel"])


def test_without_deviation_every_client_is_the_server_model(tmp_path):
    with synthesize(tmp_path / "a.h5", MODEL, 2, 0.0) as dataset:
        for client in ("c00", "c01"):
            for name, array in values(dataset, client).items():
                np.testing.assert_array_equal(array, MODEL[name])


def test_relative_noise_follows_each_tensors_rms(tmp_path):
    with synthesize(tmp_path / "a.h5", MODEL, 200, 0.5, relative=True) as dataset:
        noise = dataset.round().read_stack("kernel") - MODEL["kernel"]
        rms = np.sqrt(np.mean(MODEL["kernel"].astype("f8") ** 2))
        assert np.std(noise) == pytest.approx(0.5 * rms, rel=0.02)
        assert not dataset.round().read_stack("bias").any()


def test_ids_sort(tmp_path):
    assert client_ids(1) == ["c00"]
    assert client_ids(101)[::50] == ["c000", "c050", "c100"]
    with synthesize(tmp_path / "a.h5", MODEL, 101, rounds=2) as dataset:
        assert list(dataset.client_ids) == sorted(client_ids(101))
        assert [r.number for r in dataset.rounds] == [0, 1]


def test_the_recipe_says_how(tmp_path):
    with synthesize(tmp_path / "a.h5", MODEL, 2, 0.5, 3, faults=["c01:nan"]) as dataset:
        assert dataset.recipe == {
            "architecture": "",
            "clients": 2,
            "rounds": 1,
            "mode": "perturb",
            "stddev": 0.5,
            "relative": False,
            "faults": ["c01:nan"],
            "seed": 3,
        }


def test_progress_and_cancelling(tmp_path):
    seen = []

    def cancel(progress):
        seen.append(progress.message)
        if progress.message == "perturbing c01":
            raise JobCancelledError("cancelled")

    export_weights(tmp_path / "model.npz", MODEL)
    request = GenerateRequest(str(tmp_path / "model.npz"), clients=3)
    with pytest.raises(JobCancelledError):
        generate(request, tmp_path / "a.h5", cancel)
    assert seen == ["building the server model", "perturbing c00", "perturbing c01"]
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


# --- faults -----------------------------------------------------------------------------------

STRUCTURAL = ["transpose", "dtype", "missing", "extra", "order"]
FAULTS = [f"c{i:02}:{kind}" for i, kind in enumerate([*STRUCTURAL, "nan", "inf:0.5", "scale:3"])]


@pytest.fixture
def faulty(tmp_path):
    with synthesize(tmp_path / "a.h5", MODEL, 10, 0.1, rounds=2, faults=FAULTS) as dataset:
        yield dataset


def test_structural_faults_make_divergent_clients(faulty):
    for each in faulty.rounds:
        assert [r.id for r in each.divergent] == client_ids(10)[:5]
    found = {m.client: m.mismatch.kind.value for m in check(faulty).mismatches}
    assert found == {
        "c00": "shape",
        "c01": "dtype",
        "c02": "missing",
        "c03": "extra",
        "c04": "order",
        "c05": "nonfinite",
        "c06": "nonfinite",
    }


def test_the_ground_truth_lists_every_fault(faulty):
    truth = faulty.ground_truth
    assert [f"{f.client}:{f.kind.value}" for f in truth] == [
        ":".join(text.split(":")[:2]) for text in FAULTS
    ]
    arguments = {f.kind: f.argument for f in truth}
    assert (arguments[FaultKind.INF], arguments[FaultKind.SCALE]) == ("0.5", "3")
    assert truth[0].tensors == ("kernel",)
    assert truth[2].tensors == ("bias",)


def test_the_same_cells_are_hit_in_every_round(faulty):
    for client, hit in (("c05", np.isnan), ("c06", np.isinf)):
        first, second = (
            np.concatenate([hit(values(faulty, client, n)[t]).ravel() for t in ("kernel", "bias")])
            for n in (0, 1)
        )
        assert first.sum() == {"c05": 5, "c06": 35}[client]
        np.testing.assert_array_equal(first, second)


def test_values_come_from_the_same_noise_with_and_without_faults(tmp_path, faulty):
    with synthesize(tmp_path / "b.h5", MODEL, 10, 0.1, rounds=2) as honest:
        assert digests(honest)[1][8:] == digests(faulty)[1][8:]
        update = values(honest, "c07")["kernel"].astype("f8") - MODEL["kernel"]
        np.testing.assert_allclose(
            values(faulty, "c07")["kernel"], MODEL["kernel"] + 3 * update, rtol=1e-6, atol=1e-6
        )
        np.testing.assert_array_equal(
            values(faulty, "c00")["kernel"], values(honest, "c00")["kernel"].T
        )


def test_two_faults_of_one_client(tmp_path):
    faults = ["c01:transpose", "c01:nan", "c01:missing:bias"]
    with synthesize(tmp_path / "a.h5", MODEL, 2, faults=faults) as dataset:
        weights = values(dataset, "c01")
        assert {n: a.shape for n, a in weights.items()} == {"kernel": (10, 6), "count": ()}
        assert np.isnan(weights["kernel"]).sum() >= 1
        assert [f.kind.value for f in dataset.ground_truth] == ["transpose", "nan", "missing"]


# --- requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"clients": 0}, InvalidArgumentError, "clients is 0; expected 1 or more."),
        ({"rounds": -1}, InvalidArgumentError, "rounds is -1; expected 1 or more."),
        ({"local_epochs": 0}, InvalidArgumentError, "local_epochs is 0; expected 1 or more."),
        ({"batch_size": 0}, InvalidArgumentError, "batch_size is 0; expected 1 or more."),
        (
            {"learning_rate": np.nan},
            InvalidArgumentError,
            "learning_rate is nan; expected a number above 0.",
        ),
        ({"seed": -1}, InvalidArgumentError, "seed is -1; expected 0 or more."),
        ({"stddev": -0.5}, InvalidArgumentError, "stddev is -0.5; expected 0 or more."),
        ({"stddev": np.inf}, InvalidArgumentError, "stddev is inf; expected 0 or more."),
        ({"mode": "x"}, UnknownNameError, "there is no mode x; there are perturb, train."),
        ({"partition": "x"}, UnknownNameError, "there is no partition 'x'"),
        ({"faults": ("c10:nan",)}, UnknownNameError, "there is no client c10; there are c00 to"),
        ({"faults": ("c01:x",)}, UnknownNameError, "there is no kind 'x'"),
        (
            {"faults": ("c01:label-flip",)},
            InvalidArgumentError,
            "labels are flipped before training; choose the mode train",
        ),
    ],
)
def test_a_request_that_cannot_be_met_says_why(changes, kind, message):
    with pytest.raises(kind) as caught:
        GenerateRequest(**changes)
    assert message in str(caught.value)


def test_unknown_architectures_and_files(tmp_path):
    for name, message in {
        "resnet-9000": "there is no architecture 'resnet-9000'; there are dense, ",
        "absent.npz": "cannot read absent.npz: there is no",
        "model.pkl": "cannot read model.pkl: there is no",
    }.items():
        with pytest.raises(FedvizError) as caught:
            generate(GenerateRequest(name), tmp_path / "a.h5")
        assert message in str(caught.value)
    with pytest.raises(InvalidArgumentError, match="holds weights, not an architecture"):
        generate(GenerateRequest("a.npz", mode="train"), tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


# --- where the model comes from ---------------------------------------------------------------


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".h5"])
def test_a_weights_file_as_template(tmp_path, ending):
    template = tmp_path / f"model{ending}"
    if ending == ".h5":
        writer = WeightDatasetWriter(template, Signature.of(MODEL))
        with writer, writer.round([], MODEL):
            pass
    else:
        export_weights(template, MODEL)
    path = generate(GenerateRequest(str(template), clients=2), tmp_path / "a.h5")
    with WeightDataset(path) as dataset:
        # The safetensors library sorts tensors by dtype and name.
        assert {t.name: t for t in dataset.signature} == {t.name: t for t in Signature.of(MODEL)}
        for name, array in MODEL.items():
            np.testing.assert_array_equal(dataset.round().server[name], array)
        # A path says where the user keeps files: the recipe has only its name.
        assert dataset.recipe["architecture"] == template.name


@pytest.mark.tff
def test_a_keras_model_and_its_json_have_the_same_tensors(tmp_path):
    import tensorflow as tf

    layers = [tf.keras.Input((3,)), tf.keras.layers.Dense(2, name="d")]
    model = tf.keras.Sequential([*layers, tf.keras.layers.BatchNormalization(name="n")])
    (tmp_path / "model.json").write_text(model.to_json())
    request = GenerateRequest(str(tmp_path / "model.json"), clients=2, seed=4)
    first, second = generate(request, tmp_path / "a.h5"), generate(request, tmp_path / "b.h5")
    with (
        WeightDataset(first) as one,
        WeightDataset(second) as same,
        synthesize(tmp_path / "c.h5", model, 2, 0.0) as ours,
    ):
        assert one.signature == ours.signature
        assert [(t.name, t.trainable) for t in one.signature] == [
            ("d/kernel", True),
            ("d/bias", True),
            ("n/gamma", True),
            ("n/beta", True),
            ("n/moving_mean", False),
            ("n/moving_variance", False),
        ]
        assert digests(one) == digests(same)
        kernel = model.get_layer("d").kernel.numpy()
        np.testing.assert_array_equal(values(ours, "c01")["d/kernel"], kernel)


@pytest.mark.tff
def test_a_registered_architecture_has_its_signature(tmp_path):
    from fedviz.training.architectures import ARCHITECTURES

    with synthesize(tmp_path / "a.h5", "dense", 2) as dataset:
        assert dataset.signature == ARCHITECTURES["dense"].signature
        assert dataset.recipe["architecture"] == "dense"


# --- trained ----------------------------------------------------------------------------------

TRAINED = GenerateRequest(
    clients=3,
    rounds=2,
    mode="train",
    partition="dirichlet:1",
    local_epochs=1,
    faults=("c01:transpose", "c02:label-flip"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    with WeightDataset(generate(TRAINED, folder / "a.h5")) as dataset:
        yield dataset


@pytest.mark.tff
def test_clients_hold_the_examples_of_their_parts(trained):
    parts, data = shares_of_clients(TRAINED)
    for each in trained.rounds:
        assert [r.num_examples for r in each.records] == [len(part) for part in parts]
        expected = [np.bincount(data.y_train[part], minlength=10) for part in parts]
        np.testing.assert_array_equal(each.label_counts, expected)
    assert sum(len(part) for part in parts) == 1437


@pytest.mark.tff
def test_the_aggregate_is_the_weighted_mean_of_the_conforming_clients(trained):
    for each in trained.rounds:
        assert [r.id for r in each.divergent] == ["c01"]
        aggregate = each.aggregates["mean"]
        assert (aggregate.aggregator, aggregate.weighting) == ("mean", "num_examples")
        assert aggregate.measurements == {"left_out": ["c01"]}
        weights = [record.num_examples for record in each.conforming]
        for name in trained.signature.names:
            clients = list(each.read_stack(name))
            expected = numpy_mean(clients, weights)
            assert ulps(aggregate[name], expected, clients) <= rounding_bound(expected.dtype)


@pytest.mark.tff
def test_the_next_round_starts_from_the_aggregate(trained):
    first, second = trained.rounds
    for name in trained.signature.names:
        np.testing.assert_array_equal(second.server[name], first.aggregates["mean"][name])


@pytest.mark.tff
def test_every_model_is_measured(trained):
    for each in trained.rounds:
        measured = {(m.role, m.subject, m.name): m.value for m in each.metrics}
        models = [("server", ""), ("aggregate", "mean"), ("client", "c00"), ("client", "c02")]
        for role, subject in models:
            assert 0 <= measured[role, subject, "accuracy"] <= 1
            assert measured[role, subject, "loss"] > 0
    before = trained.round(0).metric("server", "accuracy")
    assert trained.round(1).metric("aggregate", "accuracy", "mean") > before


@pytest.mark.tff
def test_the_ground_truth_and_the_recipe_of_training(trained):
    assert [(f.client, f.kind) for f in trained.ground_truth] == [
        ("c01", FaultKind.TRANSPOSE),
        ("c02", FaultKind.LABEL_FLIP),
    ]
    assert "stddev" not in trained.recipe
    assert trained.recipe["partition"] == "dirichlet:1"
    json.dumps(trained.recipe, allow_nan=False)


@pytest.mark.tff
def test_training_that_is_cancelled_leaves_nothing(tmp_path):
    def cancel(progress):
        if progress.done:
            raise JobCancelledError("cancelled")

    with pytest.raises(JobCancelledError):
        generate(TRAINED, tmp_path / "a.h5", cancel)
    assert list(tmp_path.iterdir()) == []
