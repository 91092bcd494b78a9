"""Clients: who is alike, who drifts, and who does not fit in."""

from __future__ import annotations

import numpy as np
import pytest

from fedviz.dashboard import cache, client_cache, folders
from fedviz.signature import Signature
from tests.conftest import SIGNATURE
from tests.dashboard.datasets import write
from tests.dashboard.opened import unescaped

MLP = folders.SAMPLES / "digits-mlp.h5"
FAULTS = folders.SAMPLES / "digits-faults.h5"


def texts(page):
    return [unescaped(element.value) for element in page.app.markdown]


def drawn_order(page):
    """The clients of the similarity matrix, as they are drawn."""
    ticks = page.charts()[0]["layout"]["yaxis"]["ticktext"]
    return [tick.replace("<b>", "").replace("</b>", "") for tick in ticks]


class TestSamples:
    def test_everybody_fits_in(self, open_page):
        page = open_page("clients", dataset=MLP.name)
        assert page.answer == ("Ten clients fit in: the most unusual is c09, with a score of 3.2.")
        assert page.chips["no outlier"] == "gray"
        assert page.chips["mean cosine 0.27"] == "gray"
        assert sorted(drawn_order(page)) == [f"c{i:02d}" for i in range(10)]
        frame = page.frame("outliers")
        assert frame["client"][0] == "c09"
        assert (frame["score"].diff().dropna() <= 0).all()
        assert frame["reason"][0] == "85% of its labels are 0 or 2"
        titles = [unescaped(s.value) for s in page.app.subheader]
        assert "Which detector to believe" not in titles

    def test_the_round_in_which_one_does_not(self, open_page):
        page = open_page("clients", dataset=MLP.name, round="3")
        found = "c07 does not fit in: cosine to the common direction only 0.44"
        assert page.answer.startswith(found)
        assert page.chips["1 outlier"] == "orange"

    def test_injected_faults_are_found_and_the_detectors_judged(self, open_page):
        page = open_page("clients", dataset=FAULTS.name)
        assert page.answer == (
            ":red[c07 and c08 have values that are not finite.] c09, c10 and c12 do not fit in. "
            "c09: its update has 6.5 × the median length."
        )
        assert page.chips["5 clients of another signature, not compared"] == "red"
        rows = dict(page.frame("outliers")[["client", "reason"]].to_numpy().tolist())
        assert rows["c07"] == "values that are not finite"
        assert rows["c10"].startswith("it points the other way, cosine −0.85")
        assert rows["c12"] == "cosine to the common direction only 0.34"
        assert rows["c13"] == "nothing unusual"
        assert rows["c05"] == "another signature: not compared"
        (table,) = [t for t in page.tables() if "AUC" in t.columns]
        combined = table[table["Detector"] == "combined"].iloc[0]
        assert combined.tolist() == ["combined", "100%", "83%", "0 of 8", "0.96"]
        (sentence,) = [t for t in texts(page) if "ranks best" in t]
        assert "names 5 of 6 faulty and no honest one" in sentence
        assert "This is one dataset" in sentence


class TestSelection:
    def test_the_pair_of_the_breadcrumb_is_compared_and_outlined(self, open_page):
        page = open_page("clients", dataset=MLP.name, client="c00", other="c03")
        (line,) = [t for t in texts(page) if t.startswith(":small[c00 and c03")]
        assert line.startswith(":small[c00 and c03: cosine 0.73, distance ")
        order = drawn_order(page)
        boxes = [s for s in page.charts()[0]["layout"]["shapes"] if s["type"] == "rect"]
        places = {(box["x0"] + 0.5, box["y0"] + 0.5) for box in boxes}
        one, other = order.index("c00"), order.index("c03")
        assert places == {(one, other), (other, one)}

    def test_one_tensor_and_distances(self, open_page):
        page = open_page("clients", dataset=MLP.name)
        whole = np.asarray(page.charts()[0]["data"][0]["z"])
        page.app.selectbox(key="similarity_of").set_value("dense/bias")
        page.run()
        one = page.charts()[0]["data"][0]
        assert (one["zmin"], one["zmax"]) == (-1, 1)
        assert np.nanmax(np.abs(np.sort(np.asarray(one["z"])) - np.sort(whole))) > 0.05
        page.app.segmented_control(key="similarity_measure").set_value("distance")
        page.run()
        distances = page.charts()[0]["data"][0]
        assert (distances["zmin"], distances["zmax"] > 0.05) == (0, True)


class TestFew:
    def test_one_client_only(self, data_dir, open_page):
        write(data_dir / "one.h5", clients=["alone"])
        page = open_page("clients", dataset="one.h5")
        assert page.answer == "One client only: similarity needs two."
        assert (page.charts(), page.errors) == ([], [])

    def test_one_client_and_others_that_differ(self, data_dir, open_page):
        own = {c: Signature(SIGNATURE.tensors[:-1]) for c in ("b", "c")}
        write(data_dir / "odd.h5", clients=["a", "b", "c"], own_signatures=own)
        page = open_page("clients", dataset="odd.h5")
        assert page.answer == (
            "One client has the signature of the dataset, 2 others differ: similarity needs two."
        )

    def test_two_clients_are_compared_and_nobody_is_unusual(self, data_dir, open_page):
        write(data_dir / "two.h5", clients=["a", "b"])
        page = open_page("clients", dataset="two.h5")
        assert page.answer.startswith("a and b have a cosine of ")
        assert page.frame("outliers")["score"].tolist() == [0, 0]

    def test_without_a_server_model_and_an_aggregate(self, data_dir, open_page):
        write(data_dir / "bare.h5", server=False, aggregate=False)
        page = open_page("clients", dataset="bare.h5")
        assert page.chips["no server model: differences to the clients' mean"] == "orange"
        assert any("Distance to the clients' mean" in text for text in texts(page))
        assert (len(page.charts()), page.errors) == (5, [])


class TestLarge:
    """A dataset that is compared by a job and kept on the disk."""

    @pytest.fixture
    def asked(self, data_dir, open_page, monkeypatch):
        monkeypatch.setattr(client_cache, "_QUICK_BYTES", 0)
        write(data_dir / "large.h5", clients=[f"c{i:02d}" for i in range(70)], rounds=2)
        return open_page("clients", dataset="large.h5")

    def test_it_is_offered_done_once_and_kept_in_the_data_folder(self, asked, data_dir, open_page):
        page = asked
        assert page.answer == (
            "70 clients have to be compared pair by pair, which reads 68.9 kB once."
        )
        assert page.charts() == []
        page.press("Compare the clients")
        job = next(j for j in reversed(cache.light_engine().jobs.values()) if j.kind == "gram_job")
        assert job.future.exception(timeout=120) is None
        page.run()
        assert "fit in" in page.answer
        cells = np.asarray(page.charts()[0]["data"][0]["z"])
        assert cells.shape == (60, 60)
        assert np.asarray(page.charts()[1]["data"][0]["z"]).shape == (20, 4)
        assert len(page.frame("outliers")) == 70
        files = sorted((data_dir / "cache" / "gram").iterdir())
        assert len(files) == 2
        assert not list(folders.SAMPLES.glob("**/*.npz"))

        for file in files:
            file.write_bytes(b"PK not any more")
        client_cache.st.cache_resource.clear()
        again = open_page("clients", dataset="large.h5")
        assert again.answer.startswith("70 clients have to be compared")
        assert again.errors == []
