"""Every cause has an example in docs/mismatches.md that gives it, and a near miss that does not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fedviz.analysis.check import check
from fedviz.importers.reading import open_weights
from fedviz.importing import import_clients
from fedviz.signature import CAUSE_RULES, Signature, TensorSpec, compare_signatures
from fedviz.tff_types import parse_type, signature_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "mismatches.md"


def rule_sections():
    """For each rule the lines of its example: ``expected``, ``found``, ``cause``, ``near miss``."""
    rules_part = PAGE.read_text(encoding="utf-8").split("\n# What would have happened")[0]
    sections = {}
    for section in rules_part.split("\n### ")[1:]:
        name, _, body = section.partition("\n")
        lines = re.findall(r"^    (expected|found|cause|near miss) +(.+)$", body, re.MULTILINE)
        sections[name] = dict(lines)
    return sections


SECTIONS = rule_sections()
BY_SIGNATURE = {name: lines for name, lines in SECTIONS.items() if "expected" in lines}


def signature(text):
    return signature_of(parse_type(text))


def test_every_rule_is_listed_in_the_order_in_which_it_is_asked():
    assert list(SECTIONS) == [rule.name for rule in CAUSE_RULES]
    assert set(SECTIONS) - set(BY_SIGNATURE) == {
        "permuted-values",
        "overflow",
        "all-nonfinite",
        "diverged",
        "frozen-moved",
    }


@pytest.mark.parametrize("name", BY_SIGNATURE)
def test_the_example_gives_the_cause(name):
    lines = BY_SIGNATURE[name]
    found = compare_signatures(signature(lines["expected"]), signature(lines["found"]))
    assert lines["cause"] in [m.cause for m in found if m.rule == name]


@pytest.mark.parametrize("name", BY_SIGNATURE)
def test_the_near_miss_does_not(name):
    lines = BY_SIGNATURE[name]
    found = compare_signatures(signature(lines["expected"]), signature(lines["near miss"]))
    causes = [m.cause for m in found if m.rule == name]
    assert [cause for cause in causes if cause] == []


def through_a_file(text, folder):
    """The signature that the importer finds in a file that NumPy or safetensors wrote."""
    spec = signature(text)
    arrays = {t.name: np.zeros(t.shape, t.numpy_dtype) for t in spec}
    if any(tensor.dtype == "bfloat16" for tensor in spec):
        path = folder / "w.safetensors"
        save_file(arrays, path)
    else:
        path = folder / "w.npz"
        np.savez(path, **arrays)
    with open_weights(path) as found:
        return found.signature


@pytest.mark.parametrize("name", BY_SIGNATURE)
def test_files_of_numpy_give_the_cause_and_the_near_miss_does_not(name, tmp_path):
    expected, found, near = (
        through_a_file(BY_SIGNATURE[name][line], tmp_path)
        for line in ("expected", "found", "near miss")
    )
    assert str(expected) == BY_SIGNATURE[name]["expected"]
    assert name in [m.rule for m in compare_signatures(expected, found) if m.cause]
    assert name not in [m.rule for m in compare_signatures(expected, near) if m.cause]


def layers(*names, first=0):
    """A stack of layers of growing width, so that no two are of one shape."""
    specs = []
    for i, name in enumerate(names, first):
        specs += [
            TensorSpec(f"{name}/kernel", (10 + i, 11 + i), "float32"),
            TensorSpec(f"{name}/bias", (11 + i,), "float32"),
        ]
    return tuple(specs)


def test_an_extra_layer_at_the_start_is_one_cause_and_not_fifty():
    names = ["dense", *(f"dense_{i}" for i in range(1, 26))]
    reference = Signature(layers(*names[:25]))
    extra = (
        TensorSpec("dense/kernel", (7, 10), "float32"),
        TensorSpec("dense/bias", (10,), "float32"),
    )
    found = compare_signatures(reference, Signature((*extra, *layers(*names[1:]))))
    assert [m.cause for m in found if m.cause] == [
        "2 tensors extra here, and the next 50 tensors are the same under shifted names"
    ]
    assert {m.kind.value for m in found} == {"name", "extra"}
    assert len(found) == 52


def test_a_missing_layer_in_the_middle_is_one_cause():
    reference = Signature(layers("dense", "dense_1", "dense_2", "dense_3"))
    specs = layers("dense", "gone", "dense_1", "dense_2")
    found = compare_signatures(reference, Signature((*specs[:2], *specs[4:])))
    assert [(m.tensor, m.cause) for m in found if m.cause] == [
        (
            "dense_1/kernel",
            "2 tensors missing here, and the next 4 tensors are the same under shifted names",
        )
    ]


def test_the_names_of_a_state_dict_are_matched_with_keras():
    keras = signature(
        "<conv/kernel=float32[3,3,1,8],conv/bias=float32[8],bn/gamma=float32[8],bn/beta=float32[8],"
        "bn/moving_mean=float32[8],bn/moving_variance=float32[8],fc/kernel=float32[8,2]>"
    )
    torch = signature(
        "<module.conv.weight=float32[8,1,3,3],module.conv.bias=float32[8],"
        "module.bn.weight=float32[8],module.bn.bias=float32[8],module.bn.running_mean=float32[8],"
        "module.bn.running_var=float32[8],module.bn.num_batches_tracked=int64,"
        "module.fc.weight=float32[2,8]>"
    )
    found = compare_signatures(keras, torch)
    assert [(m.tensor, m.kind.value, m.rule) for m in found if m.kind.value != "name"] == [
        ("conv/kernel", "shape", "channels"),
        ("fc/kernel", "shape", "transposed"),
        ("module.bn.num_batches_tracked", "extra", "counter"),
    ]
    assert {m.rule for m in found if m.kind.value == "name"} == {"pytorch-names"}


# --- models as Keras, NumPy and safetensors make them --------------------------------------------


def keras_model(*middle, classes=3, features=4, dtype="float32", **options):
    import tensorflow as tf

    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            tf.keras.Input((features,)),
            layers.Dense(5, name="dense", dtype=dtype, **options),
            *middle,
            layers.Dense(classes, name="head", dtype=dtype),
        ]
    )


def of_variables(variables, suffix=""):
    return Signature(
        tuple(
            TensorSpec(v.name.removesuffix(":0") + suffix, tuple(v.shape), v.dtype.name, None)
            for v in variables
        )
    )


def causes(reference, found):
    return [(m.tensor, m.rule) for m in compare_signatures(reference, found) if m.rule]


@pytest.mark.tff
def test_models_made_by_keras():
    import tensorflow as tf

    reference = of_variables(keras_model().weights)
    named = {
        "other classes": (keras_model(classes=2), {("head/kernel", "classes")}),
        "other features": (keras_model(features=9), {("dense/kernel", "input-width")}),
        "without a bias": (keras_model(use_bias=False), {("dense/bias", "bias")}),
        "half precision": (keras_model(dtype="float16"), {("dense/kernel", "precision")}),
        "float64": (keras_model(dtype="float64"), {("head/bias", "numpy-float64")}),
        "one more layer": (
            keras_model(tf.keras.layers.Dense(5, name="more")),
            {("more/kernel", "whole-layer")},
        ),
    }
    for name, (model, expected) in named.items():
        assert expected <= set(causes(reference, of_variables(model.weights))), name
    assert causes(reference, of_variables(keras_model().weights, ":0"))[0] == (
        "dense/kernel",
        "colon-zero",
    )


@pytest.mark.tff
def test_two_orders_of_keras_and_what_is_not_trainable():
    import tensorflow as tf

    model = keras_model(tf.keras.layers.BatchNormalization(name="bn"))
    layer_by_layer = [v for layer in model.layers for v in layer.weights]
    apart = of_variables(model.trainable_weights + model.non_trainable_weights)
    found = causes(of_variables(layer_by_layer), apart)
    assert {rule for _, rule in found} == {"trainable-apart"}
    assert causes(of_variables(model.weights), of_variables(model.trainable_weights)) == [
        ("bn/moving_mean", "batch-statistics"),
        ("bn/moving_variance", "batch-statistics"),
    ]
    without_gamma = keras_model(tf.keras.layers.BatchNormalization(name="bn", scale=False))
    assert causes(of_variables(model.weights), of_variables(without_gamma.weights)) == [
        ("bn/gamma", "part-of-layer")
    ]


@pytest.mark.tff
def test_a_layer_of_keras_between_two_that_are_wider():
    import tensorflow as tf

    def three(*widths):
        layers = [tf.keras.layers.Dense(w, name=f"d{i}") for i, w in enumerate(widths)]
        return of_variables(keras_model(*layers).weights)

    found = causes(three(8, 6, 4), three(9, 5, 4))
    assert ("d1/kernel", "another-width") in found
    assert "another-width" not in {rule for _, rule in causes(three(8, 6, 4), three(9, 6, 4))}


@pytest.mark.tff
def test_what_an_optimizer_of_keras_adds():
    import tensorflow as tf

    model = keras_model()
    optimizer = tf.keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    step, *slots = (v for v in optimizer.variables if "learning_rate" not in v.name)
    assert step.dtype.name == "int64"
    everything = Signature(
        (
            *of_variables(model.weights),
            TensorSpec(step.name, (), "int64"),
            *of_variables(slots),
        )
    )
    found = causes(of_variables(model.weights), everything)
    assert found[0] == (step.name, "counter")
    assert [rule for _, rule in found[1:]] == ["optimizer-slot"] * 8


@pytest.mark.tff
def test_a_second_model_of_one_session_is_numbered_on():
    import tensorflow as tf

    tf.keras.backend.clear_session()
    models = [
        tf.keras.Sequential([tf.keras.layers.Dense(w, input_shape=(4,)) for w in (4, 4)])
        for _ in range(2)
    ]
    first, second = (of_variables(model.weights) for model in models)
    assert second.names[0] == "dense_2/kernel"
    assert {rule for _, rule in causes(first, second)} == {"numbered"}


def unnamed_model(*widths, kernel=3, filters=2):
    """A model of a cleared session, as a client's own process makes it."""
    import tensorflow as tf

    tf.keras.backend.clear_session()
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Conv2D(filters, kernel, input_shape=(6, 6, 3)),
            layers.GlobalAveragePooling2D(),
            *(layers.Dense(width) for width in widths),
        ]
    )


@pytest.mark.tff
def test_files_of_keras_that_differ(tmp_path):
    """Each cause by real files, through the importer; and its near miss."""
    for name, model in {
        "reference": unnamed_model(4, 5, 6),
        "kernel": unnamed_model(4, 5, 6, kernel=5),
        "filters": unnamed_model(4, 5, 6, kernel=5, filters=3),
        "one_more": unnamed_model(2, 4, 5, 6),
        "one_less": unnamed_model(4, 6),
        "as_ours": unnamed_model(4, 5, 6),
    }.items():
        model.save(tmp_path / f"{name}.h5", save_format="h5")
    found = causes_of_files(tmp_path, "reference.h5")
    assert found["as_ours"] == set()
    assert ("conv2d/kernel", "kernel-size") in found["kernel"]
    assert "kernel-size" not in {rule for _, rule in found["filters"]}
    assert ("conv2d/bias", "units") in found["filters"]
    assert ("dense/kernel", "shifted-layers") in found["one_more"]
    assert "shifted-layers" not in {rule for _, rule in found["one_less"]}


def causes_of_files(folder, reference):
    """What check says of each client of a folder of files, compared with one of them."""
    out = folder / "imported" / "out.h5"
    out.parent.mkdir(exist_ok=True)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    report = import_clients(files, out, reference=folder / reference)
    found = {client.id: set() for client in report.clients}
    for each in check(out).mismatches:
        found[each.client].add((each.mismatch.tensor, each.mismatch.rule))
    return found


def test_files_of_numpy_and_safetensors_that_differ(tmp_path):
    rng = np.random.default_rng(1)
    kernel, dense = rng.normal(size=(3, 3, 2, 8)).astype("f4"), np.ones((8, 4), "f4")
    ours = {"conv/kernel": kernel, "conv/bias": np.ones(8, "f4"), "fc/kernel": dense}
    for name, changes in {
        "reference": {},
        "channels": {"conv/kernel": kernel.transpose(3, 2, 0, 1)},
        "permuted": {"conv/kernel": kernel.transpose(0, 2, 1, 3)},
        "integer": {"fc/kernel": dense.astype(np.int8)},
        "half": {"fc/kernel": dense.astype(np.float16)},
        "transposed": {"fc/kernel": dense.T},
        "narrow": {"fc/kernel": dense[:4].T},
        "one": {"conv/bias": np.ones(1, "f4")},
        "two": {"conv/bias": np.ones(2, "f4")},
    }.items():
        np.savez(tmp_path / f"{name}.npz", **{**ours, **changes})
    np.savez(tmp_path / "prefixed.npz", **{f"model/{name}": a for name, a in ours.items()})
    np.savez(tmp_path / "suffixed.npz", **{f"{name}_1": a for name, a in ours.items()})
    np.savez(tmp_path / "colon.npz", **{f"{name}:0": a for name, a in ours.items()})
    of_pytorch = {
        "module.conv.weight": np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)),
        "module.conv.bias": np.ones(8, "f4"),
        "module.fc.weight": np.ascontiguousarray(dense.T),
    }
    save_file(of_pytorch, tmp_path / "pytorch.safetensors")
    found = causes_of_files(tmp_path, "reference.npz")
    rules = {client: {rule for _, rule in causes} for client, causes in found.items()}
    assert rules["reference"] == set()
    assert found["channels"] == {("conv/kernel", "channels")}
    assert found["permuted"] == {("conv/kernel", "permuted-axes")}
    assert found["integer"] == {("fc/kernel", "integer")}
    assert found["half"] == {("fc/kernel", "precision")}
    assert found["transposed"] == {("fc/kernel", "transposed")}
    assert "transposed" not in rules["narrow"]
    assert found["one"] == {("conv/bias", "broadcastable")}
    assert "broadcastable" not in rules["two"]
    assert rules["prefixed"] == {"prefix"}
    assert rules["colon"] == {"colon-zero"}
    assert rules["suffixed"] <= {"suffix", "numbered"}
    assert rules["suffixed"]
    assert {"pytorch-names", "channels", "transposed"} <= rules["pytorch"]


def test_what_numpy_and_safetensors_make(tmp_path):
    from safetensors.numpy import load_file

    kernel = np.arange(20, dtype="f4").reshape(4, 5)
    bias = np.zeros(5, "f4")
    reference = Signature.of({"kernel": kernel, "bias": bias})
    noisy = {"kernel": kernel + np.random.default_rng(0).normal(size=kernel.shape), "bias": bias}
    assert causes(reference, Signature.of(noisy)) == [("kernel", "numpy-float64")]
    save_file({"kernel": np.ascontiguousarray(kernel.T), "bias": bias}, tmp_path / "a.safetensors")
    # safetensors.numpy gives the tensors back sorted by name.
    found = causes(reference, Signature.of(load_file(tmp_path / "a.safetensors")))
    assert ("kernel", "transposed") in found
    assert ("kernel", "sorted-by-name") in found or ("bias", "sorted-by-name") in found
    keepdims = {"kernel": kernel, "bias": bias[np.newaxis]}
    assert causes(reference, Signature.of(keepdims)) == [("bias", "squeezed")]


# --- causes that the values show ----------------------------------------------------------------

KERNELS = Signature(
    (
        TensorSpec("a/kernel", (6, 6), "float32", True),
        TensorSpec("b/kernel", (6, 6), "float32", True),
        TensorSpec("c/kernel", (6, 6), "float32", True),
        TensorSpec("frozen", (4,), "float32", False),
        TensorSpec("bn/moving_mean", (4,), "float32", False),
    )
)


def server_weights():
    rng = np.random.default_rng(7)
    return [rng.standard_normal(spec.shape).astype("f4") for spec in KERNELS]


def trained(step=0.01):
    """A client: the server's trainable tensors, each moved a little."""
    weights = server_weights()
    return [w + np.float32(step) for w in weights[:3]] + weights[3:]


def findings(write_dataset, weights, **options):
    path = write_dataset(
        {"good": trained(), "odd": weights}, signature=KERNELS, server=server_weights()
    )
    return check(path, **options)


def test_permuted_values(write_dataset):
    a, b, c, *rest = server_weights()
    report = findings(write_dataset, [b + 0.04 * (a - b), a + 0.04 * (b - a), c, *rest])
    found = [each.mismatch for each in report.mismatches]
    assert [(m.tensor, m.kind.value, m.expected, m.actual) for m in found] == [
        ("a/kernel", "order", "values of a/kernel", "values of b/kernel"),
        ("b/kernel", "order", "values of b/kernel", "values of a/kernel"),
    ]
    # |x - a| = 0.96 |a - b| and |x - b| = 0.04 |a - b|: 24 times.
    assert found[0].cause == SECTIONS["permuted-values"]["cause"].replace("25 times", "24 times")
    assert {m.rule for m in found} == {"permuted-values"}


def test_three_tensors_in_a_ring_are_permuted(write_dataset):
    a, b, c, *rest = server_weights()
    report = findings(write_dataset, [b, c, a, *rest])
    assert [each.mismatch.values_of for each in report.mismatches] == [
        "b/kernel",
        "c/kernel",
        "a/kernel",
    ]
    assert "far nearer" in report.mismatches[0].mismatch.cause


def test_a_copy_of_another_tensor_is_no_permutation(write_dataset):
    _, b, c, *rest = server_weights()
    assert findings(write_dataset, [b, b, c, *rest]).consistent


def test_an_update_scaled_beyond_all_tensors_is_no_permutation(write_dataset):
    assert findings(write_dataset, trained(step=100)).consistent


def test_values_are_compared_with_the_server_only_when_asked(write_dataset):
    a, b, *rest = server_weights()
    assert findings(write_dataset, [b, a, *rest], look_at="finiteness").consistent


def test_a_frozen_tensor_that_moved_is_observed_and_no_mismatch(write_dataset):
    weights = trained()
    weights[3] = weights[3] + np.float32([3, 0, 0, 4])
    weights[4] = weights[4] + np.float32(1)
    report = findings(write_dataset, weights)
    assert report.consistent
    (seen,) = report.observations
    assert (seen.client, seen.tensor, seen.kind) == ("odd", "frozen", "frozen")
    assert seen.actual == "values at a distance of 5"
    assert seen.cause == SECTIONS["frozen-moved"]["cause"]
    assert report.to_json()["observations"] == [seen.to_json()]


def nonfinite_findings(write_dataset, dtype, values):
    signature = Signature((TensorSpec("v", (2, 3), dtype),))
    path = write_dataset({"c0": [np.array(values, dtype).reshape(2, 3)]}, signature=signature)
    (found,) = check(path).mismatches
    return found.mismatch


def test_nonfinite_values_are_counted_and_located(write_dataset):
    inf = np.inf
    found = nonfinite_findings(write_dataset, "float32", [1, 2, -inf, np.nan, inf, inf])
    assert (found.rule, found.cause) == ("diverged", SECTIONS["diverged"]["cause"])
    count = found.nonfinite
    assert (count.num_nan, count.num_positive_infinite, count.num_negative_infinite) == (1, 2, 1)
    assert (count.size, count.first_index) == (6, (0, 2))


def test_overflow_is_float16s_alone(write_dataset):
    found = nonfinite_findings(write_dataset, "float16", [1, 2, 3, np.inf, 5, -np.inf])
    assert (found.rule, found.cause) == ("overflow", SECTIONS["overflow"]["cause"])
    near_miss = nonfinite_findings(write_dataset, "float32", [1, 2, 3, np.inf, 5, 6])
    assert near_miss.rule == "diverged"


def test_a_tensor_that_is_nan_throughout(write_dataset):
    found = nonfinite_findings(write_dataset, "float32", [np.nan] * 6)
    assert (found.rule, found.cause) == ("all-nonfinite", SECTIONS["all-nonfinite"]["cause"])
    assert nonfinite_findings(write_dataset, "float32", [np.nan] * 5 + [0]).rule == "diverged"
