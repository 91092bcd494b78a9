import json

import numpy as np
import pytest
from click.testing import CliRunner

from fedviz.cli import command
from fedviz.comparison import (
    DEFAULT_CANDIDATES,
    Candidate,
    compare,
    comparison_text,
    parse_candidate,
)
from fedviz.dashboard.compared import ranked
from fedviz.dataset import WeightDataset
from fedviz.errors import InvalidArgumentError, JobCancelledError, UnknownNameError
from tests.aggregation.helpers import f32, write_round

CLIENTS = [
    {"w": f32(1, 0), "b": f32(0)},
    {"w": f32(2, 0), "b": f32(0)},
    {"w": f32(9, 3), "b": f32(4)},
]
SERVER = {"w": f32(0, 0), "b": f32(0)}
MEAN, MEDIAN = f32(4, 1, 4 / 3), f32(2, 0, 0)


@pytest.fixture
def path(tmp_path):
    return write_round(tmp_path / "clients.h5", CLIENTS, server=SERVER)


@pytest.mark.tff
def test_side_by_side_by_hand(path):
    rules = [Candidate("mean"), Candidate("median"), Candidate("krum", {"f": 1})]
    with WeightDataset(path) as dataset:
        found = compare(dataset, rules)

    assert [each.name for each in found.contenders] == ["mean", "median", "krum-f=1"]
    assert [each.name for each in found.applied] == ["mean", "median"]
    assert "n ≥ 2f + 3" in found.contenders[2].error
    apart = np.linalg.norm(MEAN - MEDIAN)
    np.testing.assert_allclose(found.distances, [[0, apart], [apart, 0]], rtol=1e-6)
    np.testing.assert_allclose(found.by_tensor["b"], [[0, 4 / 3], [4 / 3, 0]], rtol=1e-6)
    from_server = [np.linalg.norm(MEAN), np.linalg.norm(MEDIAN)]
    np.testing.assert_allclose(found.server_distances, from_server, rtol=1e-6)
    flat = np.array([[*c["w"], *c["b"]] for c in CLIENTS], np.float64)
    without = [np.delete(flat, i, axis=0).mean(axis=0) for i in range(3)]
    np.testing.assert_allclose(
        found.influence, [np.linalg.norm(m - flat.mean(axis=0)) for m in without], rtol=1e-9
    )
    text = comparison_text(found)
    assert "krum-f=1: " in text
    assert f"{apart:.4g}" in text
    assert json.loads(json.dumps(found.to_json()))["influence"]["c02"] == found.influence[2]


def test_without_a_server_model_and_without_tff(tmp_path):
    with WeightDataset(write_round(tmp_path / "a.h5", CLIENTS)) as dataset:
        found = compare(dataset, [Candidate("median")])

    assert np.isnan(found.server_distances).all()
    assert found.to_json()["aggregators"][0]["distance_to_server"] is None
    assert found.contenders[0].result.engine == "NumPy"


def test_each_may_have_a_weighting_of_its_own(tmp_path):
    path = write_round(tmp_path / "a.h5", CLIENTS, num_examples=[6, 3, 1], server=SERVER)
    rules = [Candidate("geometric-median"), Candidate("geometric-median", weighting="uniform")]
    with WeightDataset(path) as dataset:
        found = compare(dataset, rules)

    assert [each.name for each in found.applied] == ["geometric-median", "geometric-median-uniform"]
    weighted, uniform = (each.result for each in found.applied)
    # More than half of the weight is in the first client, where the weighted median then lies.
    np.testing.assert_allclose(weighted.weights["w"], CLIENTS[0]["w"], atol=1e-4)
    assert uniform.weights["w"][0] > 1.2
    assert found.to_json()["aggregators"][1]["weighting"] == "uniform"
    assert str(rules[1]) == "geometric-median:weighting=uniform"
    assert found.without_models().contenders[0].result.weights == {}


def test_influence_without_a_server_model_does_not_drown(tmp_path):
    # Far from the origin and one apart: in float32 their squares are all the same.
    far = [{"w": f32(2**20 + i, 2**22)} for i in (0, 1, 5)]
    with WeightDataset(write_round(tmp_path / "a.h5", far)) as dataset:
        found = compare(dataset, [Candidate("median")])
    # Mean 2, without each: 3, 2.5 and 0.5.
    np.testing.assert_allclose(found.influence, [1.0, 0.5, 1.5], rtol=1e-12)


def test_a_model_that_is_not_finite_has_no_distances(tmp_path):
    clients = [*CLIENTS, {"w": f32(np.nan, 1), "b": f32(np.inf)}]
    rules = [Candidate("trimmed-mean", {"trim": 0}), Candidate("median"), Candidate("krum")]
    path = write_round(tmp_path / "a.h5", [*clients, CLIENTS[0]], server=SERVER)
    with WeightDataset(path) as dataset:
        found = compare(dataset, rules)
        view = ranked(found, dataset.round())
    spoilt, median, _ = (each.result.measurements for each in found.contenders)
    assert (spoilt["nonfinite_values"], median["nonfinite_values"]) == (2, 0)
    assert median["nonfinite_client_values"] == 2
    assert np.isnan(found.distances[0]).all()
    assert np.isnan(found.distances[:, 0]).all()
    assert np.isfinite(found.distances[1:, 1:]).all()
    assert np.isnan(found.server_distances[0])
    assert found.to_json()["distances"][0] == [None, None, None]
    assert np.isnan(found.influence).all()
    assert (view.spoilt, view.reference) == (("trimmed-mean-trim=0",), "median")


def test_progress_reaches_into_each_aggregator_and_cancels(path):
    seen = []

    def cancel(progress):
        seen.append((progress.message, progress.fraction))
        if progress.message.startswith("geometric-median: "):
            raise JobCancelledError("cancelled")

    rules = [Candidate("median"), Candidate("geometric-median")]
    with WeightDataset(path) as dataset, pytest.raises(JobCancelledError):
        compare(dataset, rules, progress=cancel)
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert seen[0] == ("median", 0.0)
    assert ("geometric-median", 1 / 3) in [(m, pytest.approx(f, abs=1e-3)) for m, f in seen]


@pytest.mark.parametrize("rules", [[], [Candidate("median"), Candidate("median")]])
def test_each_once(path, rules):
    with WeightDataset(path) as dataset, pytest.raises(InvalidArgumentError, match="each once"):
        compare(dataset, rules)


def test_candidates_of_the_command():
    assert parse_candidate("krum:f=2") == Candidate("krum", {"f": 2})
    assert parse_candidate("multi-krum:f=1:m=n-f") == Candidate("multi-krum", {"f": 1, "m": "n-f"})
    uniform = Candidate("mean", weighting="uniform")
    assert parse_candidate("mean:weighting=uniform") == uniform
    assert all(parse_candidate(str(each)) == each for each in DEFAULT_CANDIDATES)
    with pytest.raises(UnknownNameError, match="no weighting half; there are num_examples, unif"):
        parse_candidate("mean:weighting=half")
    with pytest.raises(UnknownNameError, match="no aggregator best; there are mean, "):
        parse_candidate("best")
    with pytest.raises(UnknownNameError, match="krum has no parameter g; it has f"):
        parse_candidate("krum:g=2")
    with pytest.raises(InvalidArgumentError, match="f: expected an integer from 0, found '-1'"):
        parse_candidate("krum:f=-1")
    with pytest.raises(InvalidArgumentError, match="expected krum:PARAMETER=VALUE"):
        parse_candidate("krum:2")


def test_commands(path):
    run = CliRunner().invoke
    compared = run(
        command, ["compare", str(path), "--aggregators", "median,trimmed-mean", "--json"]
    )
    assert compared.exit_code == 0
    made = json.loads(compared.stdout)
    assert [each["name"] for each in made["aggregators"]] == ["median", "trimmed-mean"]
    assert set(made["influence"]) == {"c00", "c01", "c02"}

    none = run(command, ["compare", str(path), "--aggregators", "bulyan"])
    assert none.exit_code == 2
    assert "n ≥ 4f + 3" in none.stdout

    listed = json.loads(run(command, ["aggregators", "--json"]).stdout)["aggregators"]
    names = [each["name"] for each in listed]
    assert names[0] == "mean"
    assert {"robust", "dp", "median", "krum", "fedadam"} <= set(names)
    krum = listed[names.index("krum")]
    assert krum["parameters"] == [
        {
            "name": "f",
            "default": 1,
            "range": "an integer from 0",
            "help": krum["parameters"][0]["help"],
        }
    ]
    assert "krum: the one client" in run(command, ["aggregators"]).stdout
