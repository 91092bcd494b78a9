"""Pages on datasets that are empty, damaged, huge, nasty or only strange."""

from __future__ import annotations

import numpy as np
import pytest

from fedviz.dashboard import folders
from fedviz.dataset import WeightDataset
from fedviz.signature import Signature, TensorSpec
from tests.conftest import SIGNATURE
from tests.dashboard.datasets import NASTY, NASTY_FILE, ZOO, write
from tests.dashboard.opened import PAGES, labels, live_markdown, unescaped

LOOKING = [name for name in PAGES if name != "generate"]
SAMPLE = folders.SAMPLES / "digits-mlp.h5"


@pytest.fixture
def no_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "SAMPLES", tmp_path / "absent")


class TestNothingToShow:
    @pytest.mark.usefixtures("no_samples")
    @pytest.mark.parametrize("name", LOOKING)
    def test_an_empty_folder_says_what_to_do(self, open_page, name):
        page = open_page(name)
        assert page.app.title[0].value == "No dataset is open yet"
        *_, tour = page.app.get("page_link")
        assert (tour.proto.label, tour.proto.disabled) == ("Tour", True)
        assert "first_upload" in [upload.key for upload in page.app.file_uploader]
        assert page.errors == []

    @pytest.mark.usefixtures("no_samples")
    def test_generating_needs_no_dataset(self, open_page):
        assert open_page("generate").answer == "10 clients train for 5 rounds, dirichlet:0.3."

    @pytest.mark.parametrize("name", LOOKING)
    def test_no_rounds(self, data_dir, open_page, name):
        write(data_dir / "new.h5", rounds=0)
        page = open_page(name, dataset="new.h5")
        assert page.app.selectbox(key="dataset").value == "new.h5"
        assert page.app.title[0].value == "This dataset has no rounds yet"
        *_, tour = page.app.get("page_link")
        assert (tour.proto.disabled, tour.proto.query_string) == (False, f"dataset={SAMPLE.name}")
        page.choose(dataset=SAMPLE.name)
        assert page.answer

    def test_a_round_without_clients(self, data_dir, open_page):
        write(data_dir / "nobody.h5", clients=[])
        page = open_page(dataset="nobody.h5")
        assert page.answer == "This round has no clients: there is nothing to average."
        page.go_to("heatmaps")
        assert page.answer == "This round has no clients: there is nothing to look at."
        page.go_to("signatures")
        assert "no clients" in page.answer
        page.go_to("averaging")
        assert page.errors == []


class TestUnreadable:
    @pytest.mark.parametrize("keep", [0, 100, 50_000, -1])
    def test_a_truncated_file_is_told_and_the_rest_stays(self, data_dir, open_page, keep):
        (data_dir / "cut.h5").write_bytes(SAMPLE.read_bytes()[:keep])
        page = open_page(dataset="cut.h5")
        assert page.answer == ":red[This dataset cannot be opened.]"
        (error,) = page.errors
        assert "cut.h5" in error
        page.choose(dataset=SAMPLE.name)
        assert (page.errors, page.answer[:11]) == ([], "Ten clients")

    def test_damage_that_shows_only_when_it_is_read(self, data_dir, open_page):
        import h5py

        path = write(data_dir / "damaged.h5", rounds=2)
        with h5py.File(path, "r+") as file:
            group = file["rounds/000001/weights"]
            del group["000"]
            group["000"] = np.zeros((1, 1), "f4")
        page = open_page(dataset="damaged.h5")
        (error,) = page.errors
        assert "damaged.h5" in error
        assert "/rounds/000001/" in error
        page.go_to("signatures")
        assert len(page.errors) == 1
        page.choose(round=0)
        assert page.errors == []
        page.go_to("heatmaps")
        assert (page.errors, len(page.charts())) == ([], 3)


class TestUnknownNamesInTheAddress:
    @pytest.mark.parametrize("level", ["dataset", "round", "client", "other", "tensor"])
    def test_the_first_is_shown_and_said(self, open_page, level):
        page = open_page("heatmaps", **{level: NASTY})
        assert page.answer.startswith("Averaging moved this tensor by")
        (toast,) = page.app.toast
        shown = str(page.app.selectbox(key=level).value)
        assert unescaped(toast.value) == f"There is no {level} {NASTY} here; showing {shown}."
        assert "b>" not in live_markdown(toast.value)

    def test_a_known_selection_is_shown(self, open_page):
        page = open_page(
            "heatmaps", dataset="digits-cnn.h5", round="2", client="c03", tensor="dense/bias"
        )
        boxes = {box.key: box.value for box in page.app.selectbox}
        assert boxes["dataset"] == "digits-cnn.h5"
        assert (boxes["round"], boxes["client"], boxes["tensor"]) == (2, "c03", "dense/bias")
        assert page.app.toast == []

    def test_the_selection_goes_along_to_other_pages(self, open_page):
        page = open_page("heatmaps", dataset=SAMPLE.name)
        page.choose(client="c04", tensor="dense_1/bias", round=2)
        page.go_to("averaging")
        assert page.app.selectbox(key="round").value == 2
        page.go_to("heatmaps")
        assert page.app.selectbox(key="client").value == "c04"
        assert page.app.selectbox(key="tensor").value == "dense_1/bias"


NASTY_SIGNATURE = Signature(
    (TensorSpec(NASTY, (4, 3), "float32"), TensorSpec(f"2{NASTY}", (3,), "float32"))
)
OTHER_SIGNATURE = Signature((TensorSpec(f"3{NASTY}", (4, 3), "float32"),))


class TestNames:
    """Names come from files: they are shown as they are, and mean nothing."""

    @pytest.fixture
    def nasty(self, data_dir):
        return write(
            data_dir / NASTY_FILE,
            clients=[NASTY, f"2{NASTY}", f"3{NASTY}"],
            signature=NASTY_SIGNATURE,
            own_signatures={f"3{NASTY}": OTHER_SIGNATURE},
        )

    @pytest.mark.parametrize("name", LOOKING)
    def test_nothing_in_a_name_is_markup(self, open_page, nasty, name):
        page = open_page(name, dataset=nasty.name)
        for text in page.markdown():
            live = live_markdown(text)
            for markup in ("**bold", "<b>", "](http", ":red[y", "$z", "`code"):
                assert markup not in live, text
        drawn = [text for figure in page.charts() for text in labels(figure)]
        assert not [text for text in drawn if "<b>x" in text]

    def test_they_are_shown_whole(self, open_page, nasty):
        page = open_page("heatmaps", dataset=nasty.name)
        assert NASTY in page.answer
        assert set(page.app.selectbox(key="tensor").options) == set(NASTY_SIGNATURE.names)
        page.go_to("overview")
        assert list(page.frame("tensors")["tensor"]) == list(NASTY_SIGNATURE.names)
        page.go_to("signatures")
        assert f"Client 3{NASTY}, {NASTY}" in [unescaped(s.value) for s in page.app.subheader]

    def test_the_error_of_such_a_file_too(self, data_dir, open_page):
        (data_dir / NASTY_FILE).write_bytes(b"")
        page = open_page(dataset=NASTY_FILE)
        (error,) = page.app.error
        assert NASTY_FILE in unescaped(error.value)
        assert "<b>" not in live_markdown(error.value)


class TestSizes:
    def test_three_hundred_clients_and_sixty_tensors(self, data_dir, open_page):
        specs = [TensorSpec(f"layer_{i}/kernel", (4, 4), "float32") for i in range(60)]
        other = Signature(tuple(specs[:-1]))
        clients = [f"c{i:03d}" for i in range(300)]
        path = write(
            data_dir / "many.h5",
            clients,
            signature=Signature(tuple(specs)),
            own_signatures={"c007": other},
        )
        page = open_page(dataset=path.name)
        assert len(page.frame("tensors")) == 60
        assert len(page.frame("clients")) == 300
        for name in ("signatures", "heatmaps", "averaging"):
            page.go_to(name)
            assert page.charts()
        page.go_to("signatures")
        rows = np.asarray(page.charts()[0]["data"][0]["z"]).shape[0]
        assert rows == 2  # the one that differs, and the 299 others

    def test_one_client(self, data_dir, open_page):
        write(data_dir / "one.h5", clients=["only"])
        page = open_page(dataset="one.h5")
        assert page.answer == "One client, one signature, 1 round: fit to be averaged."
        for name in ("signatures", "averaging", "heatmaps"):
            page.go_to(name)
        panels = [t for t in page.charts()[0]["data"] if t["type"] == "heatmap"]
        assert len(panels) == 5  # the same client twice is one panel


class TestAbsentParts:
    def test_no_server_model(self, data_dir, open_page):
        path = write(data_dir / "no-server.h5", server=False)
        page = open_page("heatmaps", dataset=path.name)
        panels = [np.asarray(t["z"]) for t in page.charts()[0]["data"] if t["type"] == "heatmap"]
        with WeightDataset(path) as dataset:
            round_, name = dataset.round(), SIGNATURE.names[0]
            mean = round_.aggregates["mean"][name]
            c0, c2 = round_.clients["c0"][name], round_.clients["c2"][name]
            for panel, values in zip(panels, [c0, c2, mean, c0 - mean], strict=True):
                np.testing.assert_allclose(panel, values, rtol=1e-6)
        assert "nan" not in page.answer.lower()
        assert page.answer.startswith("The server model is not known; c0 ")
        for other in ("overview", "signatures", "averaging"):
            page.go_to(other)
            assert "nan" not in page.answer.lower()

    def test_no_aggregate(self, data_dir, open_page):
        path = write(data_dir / "no-mean.h5", aggregate=False)
        page = open_page("averaging", dataset=path.name)
        assert page.answer == "This round has no aggregate yet. Average it."
        page.go_to("heatmaps")
        panels = [np.asarray(t["z"]) for t in page.charts()[0]["data"] if t["type"] == "heatmap"]
        with WeightDataset(path) as dataset:
            round_, name = dataset.round(), SIGNATURE.names[0]
            update = round_.clients["c0"][name] - round_.server[name]
        np.testing.assert_allclose(panels[-1], update, rtol=1e-6)
        page.go_to("overview")
        assert "spread" in page.frame("tensors")
        assert "moved" not in page.frame("tensors")

    def test_neither(self, data_dir, open_page):
        path = write(data_dir / "clients-only.h5", server=False, aggregate=False)
        page = open_page(dataset=path.name)
        for name in ("signatures", "averaging", "heatmaps"):
            page.go_to(name)
            assert page.answer


class TestTensors:
    @pytest.fixture
    def zoo(self, data_dir):
        return write(data_dir / "zoo.h5", signature=ZOO)

    @pytest.mark.parametrize("tensor", ZOO.names)
    def test_every_kind_has_its_heatmaps(self, open_page, zoo, tensor):
        page = open_page("heatmaps", dataset=zoo.name, tensor=tensor)
        assert page.app.selectbox(key="tensor").value == tensor
        assert "nan" not in page.answer.lower()
        if ZOO[tensor].size:
            assert len([t for t in page.charts()[0]["data"] if t["type"] == "heatmap"]) == 6

    def test_every_value_of_a_kernel_is_in_its_tiles(self, open_page, zoo):
        page = open_page("heatmaps", dataset=zoo.name, tensor="conv")
        panel = np.asarray(page.charts()[0]["data"][0]["z"], "f8")
        with WeightDataset(zoo) as dataset:
            values = dataset.round().server["conv"].ravel()
        np.testing.assert_allclose(np.sort(panel[np.isfinite(panel)]), np.sort(values), rtol=1e-6)

    def test_large_tensors_keep_their_extremes(self, open_page, zoo):
        page = open_page("heatmaps", dataset=zoo.name, tensor="large")
        panel = np.asarray(page.charts()[0]["data"][0]["z"], "f8")
        with WeightDataset(zoo) as dataset:
            values = dataset.round().server["large"]
        assert panel.shape < values.shape
        assert np.abs(panel).max() == pytest.approx(np.abs(values).max())

    def test_only_floats_are_summarised(self, open_page, zoo):
        page = open_page(dataset=zoo.name)
        floats = [spec.name for spec in ZOO if spec.is_float]
        rows = page.frame("tensors").set_index("tensor")
        assert list(rows.index) == list(ZOO.names)
        assert list(rows.index[rows["norm"].notna()]) == floats
        for name in ("signatures", "averaging"):
            page.go_to(name)
