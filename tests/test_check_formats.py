"""What ``fedviz check`` prints, in each format, and how it exits."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

from fedviz.analysis.check import check, group_by_pattern
from fedviz.cli import command
from fedviz.dataset import WeightDataset
from fedviz.describe import check_github, check_junit, check_text
from fedviz.errors import InvalidArgumentError, UnknownNameError
from fedviz.reference import resolve_reference
from fedviz.signature import Signature, TensorSpec
from fedviz.training.architectures import architecture
from tests.conftest import SIGNATURE, random_weights

RNG = np.random.default_rng(0)
GOOD = random_weights(SIGNATURE, RNG)
NAMED = dict(zip(SIGNATURE.names, GOOD, strict=True))
TRANSPOSED = {**NAMED, "dense/kernel": np.zeros((10, 5), "f4")}
NASTY = "a\x07<b>&\"c'%,:\né"


def run(*arguments):
    """The command's output and its exit status, 2 for an error of the user's."""
    result = CliRunner().invoke(command, ["check", *map(str, arguments)], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout, result.return_value


@pytest.fixture
def mixed(write_dataset):
    """Five clients: two fit, two have a kernel transposed, one has a name that is hard to print."""
    clients = {"c0": GOOD, "c1": TRANSPOSED, "c2": GOOD, "c3": TRANSPOSED}
    return write_dataset({**clients, NASTY: {**NAMED, NASTY: np.zeros((), "f4")}})


def test_clients_with_the_same_mismatches_are_one_group(mixed):
    groups = group_by_pattern(check(mixed))
    assert [(g.clients, len(g.mismatches), g.rounds) for g in groups] == [
        (("c1", "c3"), 1, (0,)),
        ((NASTY,), 1, (0,)),
    ]
    assert [str(g) for g in groups] == [
        "2 clients have the same 1 mismatch",
        "1 client has 1 mismatch",
    ]


def test_where_values_are_not_finite_does_not_divide_a_group(write_dataset):
    first, second = ([w.copy() for w in GOOD] for _ in range(2))
    first[0][1, 2], second[0][3:, 4] = np.nan, np.inf
    groups = group_by_pattern(check(write_dataset({"a": first, "b": second, "c": GOOD})))
    assert [g.clients for g in groups] == [("a", "b")]


def test_a_client_in_several_rounds_is_one_client(write_dataset):
    report = check(write_dataset({"c0": GOOD, "c1": TRANSPOSED}, rounds=3))
    (group,) = group_by_pattern(report)
    assert (group.clients, group.rounds) == (("c1",), (0, 1, 2))
    assert check_text(report).startswith("rounds 0, 1, 2, client c1, tensor dense/kernel: shape: ")


def test_text_says_alike_clients_once(mixed):
    lines = check_text(check(mixed)).splitlines()
    assert lines[0] == (
        "round 0, 2 clients (c1, c3), tensor dense/kernel: shape: expected float32[5,10], "
        "found float32[10,5]; transposed: stored as [out, in], as PyTorch does"
    )
    assert lines[1].startswith("round 0, client a\\x07<b>&")
    assert lines[-1] == ("3 of 5 clients differ from the reference (server): 2 shape, 1 extra.")
    assert len(lines) == 3


def test_text_mentions_observations(write_dataset):
    signature = Signature((TensorSpec("frozen", (2,), "float32", False),))
    path = write_dataset(
        {"c0": [np.ones(2, "f4")]}, signature=signature, server=[np.zeros(2, "f4")]
    )
    text, status = run(path)
    assert text.splitlines()[0].startswith("note: round 0, client c0, tensor frozen: frozen: ")
    assert text.splitlines()[-1] == "1 clients agree with the reference (server)."
    assert status == 0


def test_junit_has_a_test_case_for_each_client(mixed):
    suites = ElementTree.fromstring(check_junit(check(mixed), "clients.h5"))
    (suite,) = suites
    assert (suites.tag, suite.tag) == ("testsuites", "testsuite")
    assert (suite.get("tests"), suite.get("failures")) == ("5", "3")
    cases = {case.get("name"): case for case in suite}
    assert list(cases) == [
        "c0",
        "c1",
        "c2",
        "c3",
        NASTY.replace("\x07", "\\x07").replace("\n", "\\n"),
    ]
    assert [name for name, case in cases.items() if case.find("failure") is None] == ["c0", "c2"]
    failure = cases["c1"].find("failure")
    assert failure.get("type") == "shape"
    assert failure.text == failure.get("message")
    assert "expected float32[5,10], found float32[10,5]; transposed" in failure.text


def test_junit_of_several_mismatches_lists_them_all(write_dataset):
    report = check(write_dataset({"c0": TRANSPOSED}, rounds=2))
    failure = ElementTree.fromstring(check_junit(report, "a.h5")).find(".//failure")
    assert failure.get("message").endswith("(and 1 more)")
    assert [line[:7] for line in failure.text.splitlines()] == ["round 0", "round 1"]


def test_github_annotations_are_one_line_each_and_escaped(mixed):
    lines = check_github(check(mixed), "data:1,/clients%.h5").splitlines()
    assert lines[0] == (
        "::error file=data%3A1%2C/clients%25.h5,"
        "title=2 clients have the same 1 mismatch%2C against server::"
        "round 0, 2 clients (c1, c3), tensor dense/kernel: shape: expected float32[5,10], "
        "found float32[10,5]; transposed: stored as [out, in], as PyTorch does"
    )
    assert len(lines) == 2
    assert "a\\x07<b>&\"c'%25,:\\né" in lines[1]


def test_github_says_that_all_is_well(write_dataset):
    report = check(write_dataset({"c0": GOOD}))
    assert check_github(report, "a.h5") == (
        "::notice file=a.h5::1 clients agree with the reference (server)."
    )


@pytest.mark.parametrize("output", ["text", "json", "junit", "github"])
def test_the_command_prints_each_format_and_exits_with_1(mixed, output):
    text, status = run(mixed, "--format", output)
    assert status == 1
    report = check(mixed)
    printed = {
        "text": lambda: check_text(report),
        "json": lambda: json.dumps(report.to_json(), indent=2),
        "junit": lambda: check_junit(report, mixed),
        "github": lambda: check_github(report, mixed),
    }[output]()
    assert text == printed + "\n"


def test_json_two_ways_and_one_that_is_refused(mixed):
    assert run(mixed, "--json") == run(mixed, "--format", "json")
    with pytest.raises(InvalidArgumentError, match="--json and --format junit: choose one"):
        run(mixed, "--json", "--format", "junit")


def test_the_command_exits_with_0_where_all_agree(write_dataset):
    path = write_dataset({"c0": GOOD})
    assert run(path) == ("1 clients agree with the reference (server).\n", 0)
    assert ElementTree.fromstring(run(path, "--format", "junit")[0])[0].get("failures") == "0"


def test_signatures_only_reads_no_values(write_dataset):
    broken = [np.full_like(w, np.nan) for w in GOOD]
    path = write_dataset({"c0": broken})
    assert run(path)[1] == 1
    assert run(path, "--signatures-only")[1] == 0


def test_an_architecture_as_reference(write_dataset):
    known = architecture("digits-mlp").signature
    weights = random_weights(known, RNG)
    path = write_dataset({"c0": weights}, signature=known)
    assert run(path, "--reference", "digits-mlp") == (
        "1 clients agree with the reference (digits-mlp).\n",
        0,
    )
    text, status = run(path, "--reference", "mnist-mlp", "--json")
    assert (status, json.loads(text)["reference"]) == (1, "mnist-mlp")


def test_a_client_goes_before_an_architecture_of_that_name(write_dataset):
    with WeightDataset(write_dataset({"dense": GOOD})) as dataset:
        assert resolve_reference(dataset, "dense").signature.agrees_with(SIGNATURE)


def test_files_of_other_libraries_as_reference(write_dataset, tmp_path):
    from safetensors.numpy import save_file

    path = write_dataset({"c0": GOOD})
    np.savez(tmp_path / "model.npz", **NAMED)
    assert run(path, "--reference", tmp_path / "model.npz")[1] == 0
    save_file({"v": np.zeros(2, "f4")}, tmp_path / "model.safetensors")
    assert run(path, "--reference", tmp_path / "model.safetensors")[1] == 1


def test_an_unknown_reference_lists_what_there_is(write_dataset):
    path = write_dataset({"c0": GOOD})
    with pytest.raises(UnknownNameError, match=r"no reference x; expected .*\(dense, .*digits-mlp"):
        run(path, "--reference", "x")


def test_a_check_never_changes_the_file(mixed):
    before = mixed.read_bytes(), mixed.stat().st_mtime_ns
    for output in ("text", "junit"):
        run(mixed, "--format", output)
    assert (mixed.read_bytes(), mixed.stat().st_mtime_ns) == before
