"""Heatmaps and rounds without a browser: the address, windows, planes, a damaged round."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from fedviz.dashboard.widgets import literal
from fedviz.dataset import WeightDataset
from fedviz.signature import Signature
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.dashboard.datasets import ZOO, write
from tests.dashboard.opened import ROOT, unescaped

MLP = ROOT / "sample_data" / "digits-mlp.h5"
KERNEL = "dense/kernel"


def heatmaps(page):
    return [t for t in page.charts()[0]["data"] if t["type"] == "heatmap"]


def test_the_address_is_the_whole_selection(open_page):
    page = open_page(
        "heatmaps",
        dataset=MLP.name,
        round="2",
        w="20,31,8,16",
        cells="22,24,9,10",
        panels="aggregate",
        scale="logarithmic",
        range="by hand",
        limit="0.3",
    )
    (shown,) = heatmaps(page)
    with WeightDataset(MLP) as dataset:
        mean = dataset.round(2).aggregates["mean"][KERNEL]
    np.testing.assert_array_equal(shown["z"], mean[20:31, 8:16])
    layout = page.charts()[0]["layout"]
    assert layout["coloraxis"]["cmax"] == pytest.approx(1.06 * 0.3)
    assert layout["yaxis"]["range"] == [30.5, 19.5]
    titles = [each.value for each in page.app.subheader]
    assert "Which client moved these 2 cells, [22, 9] to [23, 9]" in titles
    assert "Where you are" in titles

    page.go_to("signatures")
    page.go_to("heatmaps")
    assert page.charts()[0]["layout"]["yaxis"]["range"] == [30.5, 19.5]
    page.press("Whole tensor")
    assert page.charts()[0]["layout"]["yaxis"]["range"] == [63.5, -0.5]
    page.choose(tensor="dense_1/kernel")
    assert page.charts()[0]["layout"]["yaxis"]["range"] == [31.5, -0.5]


def test_a_window_that_is_not_there_is_said(open_page):
    page = open_page("heatmaps", dataset=MLP.name, w="0,100,0,5")
    assert page.charts()[0]["layout"]["yaxis"]["range"] == [63.5, -0.5]
    problem = "There is no row 0:100 among 64: expected 0 to 63"
    assert [unescaped(toast.value) for toast in page.app.toast] == [problem]
    assert f":small[:red[{literal(problem)}]]" in page.markdown()


def test_cells_are_chosen_by_writing_them(open_page):
    page = open_page("heatmaps", dataset=MLP.name)
    page.app.text_input(key="cells").set_value("12, 30")
    page.run()
    assert "Which client moved cell [12, 30]" in [each.value for each in page.app.subheader]
    page.app.text_input(key="cells").set_value("10:20, 5:9")
    page.run()
    titles = [each.value for each in page.app.subheader]
    assert "Which client moved these 40 cells, [10, 5] to [19, 8]" in titles
    page.app.text_input(key="w").set_value("30:40, :")
    page.run()
    assert page.charts()[0]["layout"]["yaxis"]["range"] == [39.5, 29.5]
    told = [unescaped(text) for text in page.markdown()]
    problem = "rows 10–19, columns 5–8 are not in view, which is rows 30–39, columns 0–31"
    assert f":small[:red[{problem}]]" in told
    assert not page.app.toast


def test_two_axes_of_a_kernel(open_page, data_dir):
    zoo = write(data_dir / "zoo.h5", signature=ZOO)
    page = open_page(
        "heatmaps",
        dataset=zoo.name,
        tensor="conv",
        panels="server",
        axes="two axes",
        rows="3",
        columns="1",
        at0="2",
        at2="1",
    )
    with WeightDataset(zoo) as dataset:
        values = dataset.round().server["conv"]
    (shown,) = heatmaps(page)
    np.testing.assert_array_equal(shown["z"], values[2, :, 1, :].T)


def test_the_clients_lie_behind_the_histograms(open_page, data_dir):
    page = open_page("heatmaps", dataset=MLP.name, w="20,31,8,16")
    *_, overlaid = page.charts()
    behind, *named = overlaid["data"]
    assert (behind["name"], len(named)) == ("clients", 4)
    assert np.isnan(behind["x"]).sum() == 10
    assert ":small[:gray[Grey: 10 clients.]]" in page.markdown()
    crowd = write(data_dir / "crowd.h5", [f"c{i:02d}" for i in range(60)])
    page = open_page("heatmaps", dataset=crowd.name)
    *_, overlaid = page.charts()
    assert [each["fill"] for each in overlaid["data"][:2]] == ["toself", "toself"]
    assert any(text.startswith(":small[:gray[Grey: 60 clients, from") for text in page.markdown())


@pytest.mark.parametrize("side", [376, 512, 1128])
def test_a_panel_weighs_little_also_where_many_cells_are_not_finite(open_page, data_dir, side):
    path = data_dir / "nan.h5"
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.1, (side, side)).astype("f4")
    values[rng.random(values.shape) < 0.05] = np.nan
    with (
        WeightDatasetWriter(path, Signature.of({"w": values})) as writer,
        writer.round([ClientEntry("a", 1)], {"w": values}) as round_,
    ):
        round_.write_client("a", {"w": values})
    page = open_page("heatmaps", dataset=path.name, panels="server")
    assert len(heatmaps(page)) == 2
    assert 0.5e6 < len(page.packed("grid")) <= 1.1e6


def test_rounds_are_the_file_s_numbers(open_page):
    page = open_page("rounds", dataset=MLP.name)
    assert page.errors == []
    assert page.answer.startswith("Over 5 rounds dense_1/kernel moved furthest, by ")
    played, drift = page.charts()[:2]
    assert len([t for t in played["data"] if t["type"] == "heatmap"]) == 3
    course = next(t for t in drift["data"] if t["name"] == KERNEL)
    with WeightDataset(MLP) as dataset:
        start = dataset.round(0).server[KERNEL].astype("f8")
        ends = [each.aggregates["mean"][KERNEL] - start for each in dataset.rounds]
    expected = [np.linalg.norm(end) / np.linalg.norm(start) for end in ends]
    assert np.asarray(course["y"], "f8") == pytest.approx(expected)


def test_a_damaged_round_does_not_spoil_the_others(open_page, data_dir):
    path = write(data_dir / "damaged.h5", rounds=3)
    with h5py.File(path, "r+") as file:
        del file["rounds"][sorted(file["rounds"])[1]]["clients"]
    for name in ("rounds", "overview", "heatmaps"):
        page = open_page(name, dataset=path.name)
        assert page.answer
        if name == "rounds":
            assert len(page.errors) == 1
            assert "rounds/000001/clients is missing" in page.errors[0]
    page = open_page("heatmaps", dataset=path.name, round="1")
    assert page.answer == ":red[This round cannot be read.] Choose another above."
    page.choose(round=0)
    assert heatmaps(page)
