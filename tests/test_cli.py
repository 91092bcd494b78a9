"""The command's contract: exit statuses, one line on stderr, and what is in the JSON."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest

from fedviz import __version__, cli
from fedviz.dataset import WeightDataset
from fedviz.exporters import export_weights
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import WeightDatasetWriter
from tests.aggregation.helpers import numpy_mean, rounding_bound, ulps
from tests.conftest import SIGNATURE, random_weights

ROOT = Path(__file__).parents[1]


@pytest.fixture
def fedviz(monkeypatch, capsys):
    """Run the command in this process; returns its exit status, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fedviz", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(fedviz):
    """Run the command, which must refuse with one line on stderr; returns the line."""

    def run(*arguments: object) -> str:
        status, out, err = fedviz(*arguments)
        assert (status, out) == (2, "")
        assert re.fullmatch(r"fedviz: [^\n]+\n", err)
        assert "should not happen" not in err
        return err.removeprefix("fedviz: ").rstrip("\n")

    return run


def started(code: str, *arguments: object, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def good(write_dataset) -> Path:
    rng = np.random.default_rng(0)
    clients = {f"c{i}": random_weights(SIGNATURE, rng) for i in range(3)}
    server = random_weights(SIGNATURE, rng)
    examples = {"c0": 10, "c1": 30, "c2": None}
    return write_dataset(clients, server=server, num_examples=examples, rounds=2)


@pytest.fixture
def bad(write_dataset) -> Path:
    """Of three clients c1 lacks a tensor, and c2 holds a NaN."""
    rng = np.random.default_rng(0)
    clients = {f"c{i}": random_weights(SIGNATURE, rng) for i in range(3)}
    clients["c1"] = dict(zip(SIGNATURE.names[:3], clients["c1"][:3], strict=True))
    clients["c2"][1][4] = np.nan
    return write_dataset(clients, name="bad.h5")


@pytest.fixture
def template(tmp_path) -> Path:
    export_weights(tmp_path / "model.npz", {"w": np.ones((3, 2), "f4"), "b": np.zeros(2, "f4")})
    return tmp_path / "model.npz"


# --- info -------------------------------------------------------------------------------------


def test_info_json_has_what_the_contract_promises(fedviz, good):
    status, out, err = fedviz("info", good, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["format_version"] == 1
    assert found["rounds"] == [0, 1]
    assert found["clients"] == [
        {"id": "c0", "num_examples": 10},
        {"id": "c1", "num_examples": 30},
        {"id": "c2", "num_examples": None},
    ]
    assert found["tensors"][0] == {
        "name": "dense/kernel",
        "shape": [5, 10],
        "dtype": "float32",
        "trainable": True,
    }
    assert found["num_parameters"] == 82
    assert found["bytes"] == good.stat().st_size
    assert found["tff_type"] == f"{{<weights={SIGNATURE},num_examples=int64>}}@CLIENTS"


def test_info_text(fedviz, good):
    status, out, err = fedviz("info", good)
    assert (status, err) == (0, "")
    assert out.startswith("clients.h5: 2 rounds, 3 clients, 82 parameters in 4 tensors, ")


@pytest.mark.parametrize("folder", ["with spaces", "Gewichte – 重み"])
def test_names_with_spaces_and_unicode(fedviz, refused, good, tmp_path, folder):
    path = tmp_path / folder / f"{folder}.h5"
    path.parent.mkdir()
    good.rename(path)
    status, out, _ = fedviz("info", path, "--json")
    assert status == 0
    assert json.loads(out)["file"] == str(path)
    assert refused("info", path.with_suffix(".no")).startswith(f"cannot read {folder}.no: ")


def test_a_tensor_whose_name_the_terminal_cannot_show(tmp_path):
    signature = Signature((TensorSpec("층", (1,), "float32"),))
    with WeightDatasetWriter(tmp_path / "a.h5", signature):
        pass
    command = [sys.executable, "-m", "fedviz.cli", "info", str(tmp_path / "a.h5")]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == r"\uce35       float32[1]"


# --- check ------------------------------------------------------------------------------------


def test_check_of_a_good_dataset(fedviz, good):
    assert fedviz("check", good) == (0, "3 clients agree with the reference (server).\n", "")
    status, out, _ = fedviz("check", good, "--json", "--reference", "majority")
    assert status == 0
    assert json.loads(out) == {
        "consistent": True,
        "reference": "majority",
        "clients": 3,
        "mismatches": [],
    }


def test_check_that_finds_mismatches_exits_with_one(fedviz, bad):
    status, out, err = fedviz("check", bad, "--json")
    assert (status, err) == (1, "")
    found = json.loads(out)
    assert (found["consistent"], found["reference"], found["clients"]) == (False, "server", 3)
    contract = ("round", "client", "tensor", "kind", "expected", "actual", "cause")
    assert [{key: each[key] for key in contract} for each in found["mismatches"]] == [
        {
            "round": 0,
            "client": "c1",
            "tensor": "dense_1/bias",
            "kind": "missing",
            "expected": "float32[2]",
            "actual": "nothing",
            "cause": "a layer built with use_bias=False",
        },
        {
            "round": 0,
            "client": "c2",
            "tensor": "dense/bias",
            "kind": "nonfinite",
            "expected": "finite values",
            "actual": "1 NaN of 10, the first at [4]",
            "cause": "training diverged, or a value was divided by zero",
        },
    ]
    status, out, err = fedviz("check", bad)
    assert (status, err) == (1, "")
    assert out.splitlines()[-1] == (
        "2 of 3 clients differ from the reference (server): 1 missing, 1 nonfinite."
    )


def test_check_against_a_client_and_a_file(fedviz, refused, good, bad):
    assert fedviz("check", bad, "--reference", "c1")[0] == 1
    assert fedviz("check", good, "--reference", bad)[0] == 0
    assert refused("check", good, "--reference", "c9").startswith(
        "clients.h5: there is no reference c9; expected server, majority, the id of a client"
    )


# --- generate ---------------------------------------------------------------------------------


def test_generate_from_a_template(fedviz, template, tmp_path):
    out_path = tmp_path / "a.h5"
    arguments = ("generate", out_path, "--architecture", template, "--clients", 3, "--seed", 4)
    status, out, err = fedviz(*arguments, "--fault", "c01:nan", "--fault", "c02:missing")
    assert (status, err) == (0, "")
    assert out.startswith("a.h5: 1 round, 3 clients, 8 parameters in 2 tensors, ")
    assert fedviz("check", out_path)[0] == 1

    status, _, _ = fedviz(*arguments, "--rounds", 2)
    assert status == 0
    with WeightDataset(out_path) as dataset:
        assert len(dataset.rounds) == 2
        assert dataset.ground_truth == ()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "model.npz"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--clients", "0"], "clients is 0; expected 1 or more."),
        (["--clients", "x"], "Invalid value for '--clients': 'x' is not a valid integer."),
        (["--rounds", "0"], "rounds is 0; expected 1 or more."),
        (["--stddev", "-0.1"], "stddev is -0.1; expected 0 or more."),
        (["--stddev", "nan"], "stddev is nan; expected 0 or more."),
        (["--seed", "-1"], "seed is -1; expected 0 or more."),
        (["--mode", "guess"], "there is no mode guess; there are perturb, train."),
        (["--partition", "dirichlet"], "partition dirichlet: expected one of"),
        (["--partition", "dirichlet:-1"], "partition dirichlet: alpha must be between"),
        (["--partition", "shards:x"], "expected a number after the colon, found 'x'"),
        (["--architecture", "vgg"], "there is no architecture 'vgg'; there are dense, "),
        (["--fault", "c00"], "fault 'c00': expected CLIENT:KIND[:ARG]"),
        (["--fault", "c00:melt"], "fault 'c00:melt': there is no kind 'melt'; there are"),
        (["--fault", "c99:nan"], "fault c99:nan: there is no client c99; there are c00 to c09."),
        (["--fault", "c00:nan:2"], "expected a share of cells above 0 and at most 1, found 2"),
        (["--learning-rate", "0"], "learning_rate is 0.0; expected a number above 0."),
        (["--speed", "9"], "No such option"),
    ],
)
def test_generate_refuses(refused, tmp_path, options, message):
    assert message in refused("generate", tmp_path / "a.h5", *options)
    assert list(tmp_path.iterdir()) == []


def test_generate_refuses_another_ending_and_an_absent_folder(refused, template, tmp_path):
    assert refused("generate", tmp_path / "a.npz") == ("a.npz: expected a name that ends in .h5.")
    message = refused("generate", tmp_path / "no" / "a.h5", "--architecture", template)
    assert message == f"cannot write a.h5: there is no {tmp_path / 'no'}."
    (tmp_path / "b.h5").mkdir()
    message = refused("generate", tmp_path / "b.h5", "--architecture", template)
    assert message == "cannot write b.h5: it is a folder."


AS_NOBODY = """
    import os, sys
    import encodings.cp437, fedviz.describe, fedviz.generation, rich.progress
    from fedviz.cli import main
    folder, template = sys.argv[1:]
    os.chmod(folder, 0o555)
    if os.geteuid() == 0:
        os.setuid(65534)
    sys.argv = ["fedviz", "generate", folder + "/a.h5", "--architecture", template]
    main()
"""


def test_generate_into_a_folder_that_is_read_only(template, tmp_path):
    temporary = Path(tempfile.gettempdir())
    for folder in (tmp_path, *tmp_path.parents):
        if temporary in folder.parents:
            folder.chmod(0o755)
    (tmp_path / "sealed").mkdir()
    process = started(AS_NOBODY, tmp_path / "sealed", template, stdout=subprocess.PIPE)
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert re.fullmatch(r"fedviz: cannot write a\.h5: \S+ does not allow it \([^\n]+\n", err)
    assert list((tmp_path / "sealed").iterdir()) == []


INTERRUPTED = """
    import signal, sys
    from fedviz import cli, generation
    signal.signal(signal.SIGINT, signal.default_int_handler)
    perturb = generation.perturb

    def perturb_and_wait(*arguments, **options):
        print("ready", flush=True)
        sys.stdin.read()
        return perturb(*arguments, **options)

    generation.perturb = perturb_and_wait
    sys.argv = ["fedviz", "generate", sys.argv[1], "--architecture", sys.argv[2]]
    cli.main()
"""


def test_ctrl_c_leaves_what_was_there(template, good):
    before, names = good.read_bytes(), sorted(p.name for p in good.parent.iterdir())
    process = started(INTERRUPTED, good, template, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    assert any(p.suffix == ".partial" for p in good.parent.iterdir())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.strip() == "fedviz: interrupted; nothing was written."
    assert good.read_bytes() == before
    assert sorted(p.name for p in good.parent.iterdir()) == names


# --- average ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--round", "9"], "there is no round 9; the dataset has rounds 0 to 1"),
        (["--aggregator", "guess"], "there is no aggregator guess; there are mean"),
        (["--weighting", "guess"], "there is no weighting guess; there are num_examples, uniform."),
        (["--param", "trim"], "--param trim: expected NAME=VALUE."),
        (["--param", "trim=1"], "the aggregator mean has no parameter trim; it has none."),
        ([], "clients.h5, round 1: num_examples is not known of 1 clients (c2); weight the"),
    ],
)
def test_average_refuses(refused, good, tmp_path, options, message):
    assert message in refused("average", good, "--out", tmp_path / "m.npz", *options)
    assert not (tmp_path / "m.npz").exists()


@pytest.mark.parametrize("name", ["m", "m.txt", "m.h5.gz"])
def test_average_refuses_another_ending(refused, good, tmp_path, name):
    assert refused("average", good, "--out", tmp_path / name) == (
        f"{name}: expected a name that ends in .h5, .npz, .safetensors, .weights.h5."
    )


def test_average_refuses_keras_for_an_unknown_model(refused, good, tmp_path):
    assert "does not say which model" in refused(
        "average", good, "--out", tmp_path / "m.weights.h5"
    )


def test_average_refuses_divergent_clients_and_no_clients(refused, bad, tmp_path):
    message = refused("average", bad, "--out", tmp_path / "m.npz")
    assert message.startswith(
        "bad.h5, round 0: 1 of 3 clients have another signature than the dataset (c1); TFF refuses"
    )
    assert "--leave-out-divergent" in message
    with WeightDatasetWriter(tmp_path / "none.h5", SIGNATURE) as writer, writer.round([]):
        pass
    assert refused("average", tmp_path / "none.h5", "--out", tmp_path / "m.npz") == (
        "none.h5, round 0: there are no clients to average"
    )
    with WeightDatasetWriter(tmp_path / "none.h5", SIGNATURE):
        pass
    assert "there is no round -1; the dataset has no rounds" in refused(
        "average", tmp_path / "none.h5", "--out", tmp_path / "m.npz"
    )


@pytest.mark.tff
def test_average_leaves_divergent_clients_out_and_says_so(fedviz, bad, tmp_path):
    out_path = tmp_path / "m.npz"
    status, out, err = fedviz(
        "average", bad, "--out", out_path, "--leave-out-divergent", "--weighting", "uniform"
    )
    assert (status, err) == (0, "")
    assert out.startswith(f"{out_path}: mean of 2 clients, 1 left out of round 0, weighted by uni")
    with np.load(out_path) as found, WeightDataset(bad) as dataset:
        clients = list(dataset.round().read_stack("dense/kernel"))
        assert ulps(found["dense/kernel"], numpy_mean(clients, [1, 1]), clients) <= 0.501
        assert np.flatnonzero(np.isnan(found["dense/bias"])).tolist() == [4]


@pytest.mark.tff
def test_average_json_has_what_the_contract_promises(fedviz, good, tmp_path):
    out_path = tmp_path / "m.safetensors"
    out_path.write_bytes(b"replaced")
    status, out, err = fedviz(
        *("average", good, "--out", out_path, "--round", 0, "--weighting", "uniform", "--json")
    )
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert (found["aggregator"], found["weighting"]) == ("mean", "uniform")
    assert (found["round"], found["clients"]) == (0, 3)
    assert found["engine"].startswith("tff worker")
    assert found["seconds"] > 0
    assert found["bytes_read"] == 3 * 82 * 4
    assert found["out"] == str(out_path)
    assert found["measurements"]["total_weight"] == 3.0
    from safetensors.numpy import load_file

    values = np.concatenate([a.ravel() for a in load_file(out_path).values()]).astype("f8")
    assert found["l2_norm"] == pytest.approx(np.linalg.norm(values), rel=1e-12)


@pytest.mark.tff
def test_average_into_the_file_itself_adds_the_aggregate(fedviz, good):
    status, _, err = fedviz(
        "average", good, "--out", good, "--weighting", "uniform", "--round", "0"
    )
    assert (status, err) == (0, "")
    with WeightDataset(good) as dataset:
        assert [list(each.aggregates) for each in dataset.rounds] == [["mean-uniform"], []]
        assert dataset.round(0).aggregates["mean-uniform"].weighting == "uniform"


@pytest.mark.tff
def test_generate_check_and_average_as_one_does(fedviz, tmp_path):
    """Real federated training on digits: the aggregate does better than the average client."""
    path, out_path = tmp_path / "clients.h5", tmp_path / "mean.h5"
    options = ("--mode", "train", "--clients", 5, "--rounds", 2, "--partition", "dirichlet:0.3")
    status, out, err = fedviz("generate", path, "--architecture", "digits-mlp", *options)
    assert (status, err) == (0, "")
    assert "held-out accuracy in round 1: mean 0." in out
    assert fedviz("check", path)[0] == 0

    status, out, err = fedviz("average", path, "--out", out_path, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert (found["round"], found["clients"]) == (1, 5)
    assert found["measurements"]["total_weight"] == 1437

    from fedviz.training.architectures import ARCHITECTURES
    from fedviz.training.evaluation import evaluator

    with WeightDataset(path) as dataset, WeightDataset(out_path) as averaged:
        last, mean = dataset.round(), averaged.round().aggregates["mean"]
        for name, array in mean.items():
            clients = list(last.read_stack(name))
            expected = numpy_mean(clients, [r.num_examples for r in last.records])
            assert ulps(array, expected, clients) <= rounding_bound(array.dtype)
        scores = [last.metric("client", "accuracy", c) for c in dataset.client_ids]
        accuracy = evaluator(ARCHITECTURES["digits-mlp"], "digits")(mean).accuracy
        assert accuracy == last.metric("aggregate", "accuracy", "mean")
        assert accuracy > np.mean(scores) + 0.05


@pytest.mark.tff
def test_an_error_after_tensorflow_was_loaded_is_one_line_too(tmp_path):
    """TFF frees its own context when Python ends, and must not complain then."""
    layers = [
        {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 7], "name": "i"}},
        {"class_name": "Dense", "config": {"name": "d", "units": 3}},
    ]
    model = {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}
    (tmp_path / "model.json").write_text(json.dumps(model))
    command = [sys.executable, "-m", "fedviz.cli", "generate", "a.h5", "--mode", "train"]
    # What TFF brings sets it in the process that imports it, which here is pytest's.
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [*command, "--architecture", "model.json"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "fedviz: digits: the model takes inputs of shape [7], and the data's features have shape "
        "[8, 8]; choose a model or data that fits\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["model.json"]


# --- the command as a whole -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing command. Try 'fedviz --help'."),
        (["guess"], "No such command 'guess'. Try 'fedviz --help'."),
        (["info"], "Missing argument 'FILE'. Try 'fedviz --help'."),
        (["average", "a.h5"], "Missing option '--out'. Try 'fedviz --help'."),
    ],
)
def test_wrong_usage_is_one_line(refused, arguments, message):
    assert refused(*arguments) == message


def test_help_and_version(fedviz):
    status, out, err = fedviz("--help")
    assert (status, err) == (0, "")
    for name in ("average", "check", "generate", "info", "serve"):
        assert re.search(rf"^  {name} ", out, re.MULTILINE)
    assert fedviz("--version")[:2] == (0, f"fedviz, version {__version__}\n")


@pytest.mark.parametrize(("arguments", "status"), [(["info"], 0), (["check"], 1)])
def test_a_reader_that_has_seen_enough(bad, arguments, status):
    """As in `fedviz check FILE | head -1`: no complaint, and the status still says what is so."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "fedviz.cli", *arguments, str(bad)]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (status, "")
