"""The report: its numbers, and that the file keeps to itself whatever a dataset holds."""

from __future__ import annotations

import json
import re
import shutil

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from fedviz import cli
from fedviz.dataset import WeightDataset
from fedviz.errors import DatasetFormatError, InvalidArgumentError, JobCancelledError
from fedviz.figures.theme import DARK, LIGHT
from fedviz.report import compare_rules, report_contents, write_report
from fedviz.report.wording import facts
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.conftest import SIGNATURE
from tests.dashboard.datasets import NASTY, write
from tests.dashboard.test_odd_datasets import NASTY_SIGNATURE, OTHER_SIGNATURE
from tests.report.html_page import ReportPage, decoded
from tests.test_house import ROOT

SAMPLES = ROOT / "sample_data"
OURS = {"html", "head", "meta", "link", "title", "style", "body", "main", "header", "h1", "h2"}
OURS |= {"h3", "p", "ul", "ol", "li", "dl", "div", "dt", "dd", "nav", "a", "section", "table"}
OURS |= {"caption", "thead", "tbody", "tr", "th", "td", "code", "span", "figure", "figcaption"}
OURS |= {"strong", "script", "pre"}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(SAMPLES / "digits-mlp.h5", out), out


@pytest.fixture(scope="module")
def sample_page(sample):
    return ReportPage(sample[1].read_text("utf-8"))


def test_the_file_asks_nobody_for_anything(sample, sample_page):
    html = sample[1].read_text("utf-8")
    assert 5e6 < len(html.encode()) < 10e6
    assert all(a.startswith(("#", "data:")) for a in sample_page.addresses), sample_page.addresses
    (policy,) = [a["content"] for _, a in sample_page.elements if "http-equiv" in a]
    assert policy.startswith("default-src 'none';")
    style = html[html.index("<style>") : html.index("</style>")]
    assert not re.search(r"@import|url\(", style)
    assert sample_page.tags <= OURS


def test_its_numbers_are_those_of_the_dataset(sample_page):
    with WeightDataset(SAMPLES / "digits-mlp.h5") as dataset:
        round_ = dataset.round()
        models = [
            np.concatenate([w[n].ravel().astype("f8") for n in dataset.signature.names])
            for w in (*round_.clients.values(), round_.aggregates["mean"])
        ]
        accuracy = round_.metric("aggregate", "accuracy", "mean")
    distances = [np.linalg.norm(model - models[-1]) for model in models[:-1]]
    assert sample_page.after("Mean distance to it") == f"{np.mean(distances):.3f}"
    assert sample_page.after("Aggregate's accuracy") == f"{accuracy:.3f}"
    assert sample_page.after("Parameters, in 4 tensors") == "2,410"
    furthest = f"c{int(np.argmax(distances)):02}"
    rows = sample_page.texts[sample_page.texts.index("Influence") :]
    assert next(text for text in rows if re.fullmatch(r"c\d\d", text)) == furthest
    assert "None: 10 clients agree with the server model" in sample_page.text


def test_a_heatmap_holds_the_weights_and_turns_dark(sample, sample_page):
    contents, _ = sample
    spec = sample_page.spec("tensor-0")
    view = contents.views[0]
    assert view.tensor == "dense/kernel"
    with WeightDataset(SAMPLES / "digits-mlp.h5") as dataset:
        server = dataset.round().server["dense/kernel"]
    heatmaps = [trace for trace in spec["figure"]["data"] if trace["type"] == "heatmap"]
    (furthest, nearest) = view.clients
    named = " ".join(each["text"] for each in spec["figure"]["layout"]["annotations"])
    assert all(f"client {client}" in named for client in (furthest, nearest))
    assert f"{furthest} − aggregate" in named
    np.testing.assert_array_equal(decoded(heatmaps[0]["z"]), server)
    colours = json.dumps(spec["dark"])
    assert DARK.ink in colours
    assert LIGHT.ink not in colours
    assert LIGHT.ink in json.dumps(spec["figure"])
    assert not any("z" in path for path, _ in spec["dark"])


def test_mismatches_come_with_their_causes(tmp_path):
    out = tmp_path / "faults.html"
    contents = write_report(SAMPLES / "digits-faults.h5", out)
    page = ReportPage(out.read_text("utf-8"))
    assert len(contents.check.clients_concerned) == 7
    assert "7 of 14 clients of round 1 cannot be averaged as they are." in page.texts
    for found in contents.check.mismatches:
        assert found.mismatch.cause in page.text
    assert "Injected on purpose" in page.texts
    assert page.spec("signatures")["figure"]["data"]


def test_names_from_a_file_are_only_text(tmp_path, sample_page):
    evil = '"></script><script>alert(1)</script><img src=http://x onerror=alert(1)>' + NASTY
    path = write(
        tmp_path / "<b>x.h5",
        clients=[NASTY, f"2{NASTY}", f"3{evil}"],
        signature=NASTY_SIGNATURE,
        own_signatures={f"3{evil}": OTHER_SIGNATURE},
    )
    out = tmp_path / "nasty.html"
    write_report(path, out)
    page = ReportPage(out.read_text("utf-8"))
    assert page.tags <= OURS
    assert all(a.startswith(("#", "data:")) for a in page.addresses)
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert any(evil in text for text in page.texts)
    assert any(NASTY in text for text in page.texts)
    assert programs(page) == programs(sample_page)


def programs(page):
    """The scripts that run: plotly's and ours, whatever the dataset."""
    return [text for name, text in page.scripts.items() if not name.startswith("spec-")]


def test_rules_by_hand(tmp_path):
    """Values 1, 2, 9 of one cell: their median is 2, their mean by examples 10, 20, 10 is 3.5."""
    kernel = SIGNATURE.tensors[1]
    signature = type(SIGNATURE)((kernel,))
    path = tmp_path / "three.h5"
    with WeightDatasetWriter(path, signature) as writer:
        entries = [ClientEntry(f"c{i}", n) for i, n in enumerate((10, 20, 10))]
        with writer.round(entries, [np.ones(10, "f4")]) as round_:
            for entry, value in zip(entries, (1, 2, 9), strict=True):
                round_.write_client(entry.id, [np.full(10, value, "f4")])
            round_.write_aggregate(
                "mean", [np.full(10, 3.5, "f4")], aggregator="mean", weighting="num_examples"
            )
    with WeightDataset(path) as dataset:
        found = compare_rules(dataset.round(), "mean")
    rows = {row.name: row for row in found.rows}
    assert (rows["mean"].origin, rows["mean"].from_server) == ("in the file", pytest.approx(2.5))
    assert rows["median"].from_server == pytest.approx(1)
    assert rows["median"].from_reference == pytest.approx(1.5 / 3.5)
    assert "n ≥ 2f + 3" in rows["krum"].error
    # Without c2 the mean is (10·1 + 20·2) / 30 = 5/3 in each of ten cells.
    assert found.influence["c2"] == pytest.approx((3.5 - 5 / 3) * np.sqrt(10))


@pytest.mark.parametrize("options", [{"clients": []}, {"server": False, "aggregate": False}])
def test_rounds_with_little_in_them(tmp_path, options):
    out = tmp_path / "little.html"
    contents = write_report(write(tmp_path / "little.h5", **options), out)
    page = ReportPage(out.read_text("utf-8"))
    clients = len(options.get("clients", "abc"))
    assert page.after("Clients in this round") == str(clients)
    assert len(contents.views) == (4 if clients else 0)


def test_a_damaged_round_does_not_keep_the_others_from_a_report(tmp_path):
    path = tmp_path / "damaged.h5"
    shutil.copyfile(SAMPLES / "digits-mlp.h5", path)
    with h5py.File(path, "r+") as file:
        del file["rounds/000001/clients"]
    with WeightDataset(path) as dataset:
        contents = report_contents(dataset)
        assert contents.courses.rounds == (0, 1, 2, 3, 4)
        assert np.flatnonzero(np.isnan(contents.courses.aggregate)).tolist() == [1]
        (problem,) = contents.unreadable
        assert "rounds/000001/clients" in problem
        assert ("1 other round cannot be read", "act") in facts(contents)
        with pytest.raises(DatasetFormatError):
            report_contents(dataset, 1)


def test_a_cancelled_report_leaves_the_old_one(tmp_path):
    out = tmp_path / "report.html"
    out.write_text("the old one")

    def cancel(progress):
        if progress.done == 4:
            raise JobCancelledError("cancelled")

    with pytest.raises(JobCancelledError):
        write_report(SAMPLES / "digits-mlp.h5", out, progress=cancel)
    assert out.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [out]


def test_only_html_is_written(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"ends in \.html"):
        write_report(SAMPLES / "digits-mlp.h5", tmp_path / "clients.h5")


def test_the_command(tmp_path):
    path, out = write(tmp_path / "small.h5", rounds=3), tmp_path / "r.html"
    arguments = ["report", str(path), "--out", str(out), "--round", "1"]
    done = CliRunner().invoke(cli.command, [*arguments, "--json"])
    found = json.loads(done.stdout)
    assert (done.exit_code, found["round"], found["bytes"]) == (0, 1, out.stat().st_size)
    assert (found["clients"], found["consistent"], found["aggregate"]) == (3, True, "mean")
    assert ReportPage(out.read_text("utf-8")).after("Clients in this round") == "3"
