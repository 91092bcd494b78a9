"""The signatures page: references, filters, groups of clients, and what is behind one cell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from fedviz.dashboard import cache, folders
from fedviz.dataset import WeightDataset
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.conftest import SIGNATURE, random_weights
from tests.dashboard.datasets import write
from tests.dashboard.opened import OpenedPage, unescaped

FAULTS = folders.SAMPLES / "digits-faults.h5"
KERNEL, BIAS = "dense/kernel", "dense/bias"


def write_weights(
    path: Path, server: Mapping[str, np.ndarray], clients: Mapping[str, Mapping[str, np.ndarray]]
) -> Path:
    """One round of clients with the server model's signature."""
    signature = Signature(tuple(TensorSpec.of(name, array) for name, array in server.items()))
    with (
        WeightDatasetWriter(path, signature) as writer,
        writer.round([ClientEntry(c, 10) for c in clients], list(server.values())) as round_,
    ):
        for client, weights in clients.items():
            round_.write_client(client, weights)
    return path


def table(page: OpenedPage, *columns: str) -> list[dict[str, str]]:
    """The rows of the one table that has these columns."""
    (found,) = [t for t in page.tables() if set(columns) <= set(t)]
    return found.to_dict("records")


def mismatches(page: OpenedPage) -> list[tuple[str, str, str]]:
    rows = table(page, "Client", "Tensor", "Kind", "Likely cause")
    return [(row["Client"], row["Kind"].split()[-1], row["Tensor"]) for row in rows]


def drawn_rows(page: OpenedPage) -> list[str]:
    return list(page.charts()[0]["layout"]["yaxis"]["ticktext"])


def texts(page: OpenedPage) -> list[str]:
    return [unescaped(element.value) for element in page.app.markdown]


class TestReference:
    def test_an_architecture(self, open_page):
        page = open_page("signatures", dataset="digits-mlp.h5")
        page.choose(reference="architecture digits-mlp")
        assert page.answer == (
            "All 10 clients agree with architecture digits-mlp; every value is finite."
        )
        page.choose(reference="architecture mnist-mlp")
        assert page.answer.startswith(":red[10 of 10 clients differ] from architecture mnist-mlp.")
        assert "TFF refuses this round" not in page.chips

    def test_a_file_of_weights_and_another_dataset(self, open_page, data_dir):
        with WeightDataset(FAULTS) as dataset:
            weights = dict(dataset.round().clients["c02"])
        np.savez(data_dir / "c02.npz", **weights)
        page = open_page("signatures", dataset=FAULTS.name, reference="file c02.npz")
        assert page.answer.startswith(":red[13 of 14 clients differ] from file c02.npz.")
        page.choose(reference="file digits-mlp.h5")
        assert page.answer.startswith(":red[7 of 14 clients differ] from file digits-mlp.h5.")

    def test_a_file_without_weights_is_told_and_another_can_be_chosen(self, open_page, data_dir):
        (data_dir / "notes.npz").write_text("no weights at all")
        page = open_page("signatures", dataset=FAULTS.name, reference="file notes.npz")
        (error,) = page.errors
        assert "notes.npz" in error
        page.choose(reference="the server model")
        assert page.errors == []

    def test_no_file_outside_of_the_data_folder_can_be_named(self, open_page, tmp_path):
        write(tmp_path / "outside.h5")
        asked = f"file {tmp_path / 'outside.h5'}"
        page = open_page("signatures", dataset=FAULTS.name, reference=asked)
        assert page.app.selectbox(key="reference").value == "the server model"
        (toast,) = page.app.toast
        assert unescaped(toast.value) == (
            f"There is no reference {asked} here; showing the server model."
        )

    def test_a_client_called_server_is_that_client(self, open_page, data_dir):
        own = {"server": Signature(SIGNATURE.tensors[:-1])}
        write(data_dir / "odd.h5", clients=["server", "b", "c"], own_signatures=own)
        page = open_page("signatures", dataset="odd.h5")
        assert page.answer.startswith(":red[1 of 3 clients differs] from the server model.")
        page.choose(reference="client server")
        assert page.answer.startswith(":red[2 of 3 clients differ] from client server.")


class TestFilter:
    def test_kinds(self, open_page):
        page = open_page("signatures", dataset=FAULTS.name)
        page.app.pills(key="kinds").set_value(["S shape", "M missing"])
        page.run()
        assert [row[:2] for row in mismatches(page)] == [("c01", "shape"), ("c03", "missing")]
        assert drawn_rows(page) == ["c01", "c03"]
        assert any(text.startswith(":small[:gray[Shown: 2 of 14 clients") for text in texts(page))

    def test_the_search_narrows_matrix_and_table_alike(self, open_page):
        page = open_page("signatures", dataset=FAULTS.name, find="DENSE_1/BIAS")
        assert {row[2] for row in mismatches(page)} == {"dense_1/bias"}
        assert {row[0] for row in mismatches(page)} == {"c02", "c03"}
        assert np.asarray(page.charts()[0]["data"][0]["z"]).shape == (9, 1)
        assert "Client c02, dense_1/bias" in [unescaped(s.value) for s in page.app.subheader]

    def test_nothing_found_says_so_and_how_to_undo_it(self, open_page):
        page = open_page("signatures", dataset=FAULTS.name, find="dense_.*")
        assert page.charts() == []
        assert "No client and no tensor has dense_.* in its name." in texts(page)
        page.press("Show everything")
        assert len(drawn_rows(page)) == 14

    def test_no_mismatch_of_a_kind_in_what_is_searched_for(self, open_page):
        page = open_page("signatures", dataset=FAULTS.name, find="c05")
        page.app.pills(key="kinds").set_value(["S shape"])
        page.run()
        assert (
            "There is no mismatch of the kind shape in a client or tensor with c05 in its name."
            in texts(page)
        )


class TestLargeCohort:
    """60 clients and 50 tensors; 7 clients share two mismatches, one has another."""

    @pytest.fixture
    def large(self, data_dir):
        specs = [TensorSpec(f"layer_{i}/kernel", (4, 3), "float32") for i in range(50)]
        turned = [TensorSpec(s.name, (3, 4), "float32") for s in specs[:2]]
        seven = {f"c{i:02d}": Signature((*turned, *specs[2:])) for i in range(10, 17)}
        one = {"c40": Signature(tuple(specs[:-1]))}
        return write(
            data_dir / "large.h5",
            [f"c{i:02d}" for i in range(60)],
            signature=Signature(tuple(specs)),
            own_signatures=seven | one,
        )

    def test_clients_with_the_same_mismatches_share_a_row(self, open_page, large):
        page = open_page("signatures", dataset=large.name)
        assert page.answer.startswith(":red[8 of 60 clients differ] from the server model.")
        assert drawn_rows(page) == ["c40", "7 clients", "52 clients"]
        assert [row[:2] for row in mismatches(page)] == [
            ("c40", "missing"),
            ("7 clients", "shape"),
        ]
        (line,) = [text for text in texts(page) if text.startswith("- ")]
        assert line == (
            "- 7 clients have the same 2 mismatches: :red-badge[S] layer_0/kernel, "
            ":red-badge[S] layer_1/kernel"
        )

    def test_the_fine_tensors_share_a_column_until_all_are_wanted(self, open_page, large):
        page = open_page("signatures", dataset=large.name)
        names = page.charts()[0]["layout"]["xaxis"]["ticktext"]
        assert names[-1].replace("<br>", "") == "<i>47 as expected</i>"
        assert np.asarray(page.charts()[0]["data"][0]["z"]).shape == (3, 4)
        page.app.toggle(key="all_tensors").set_value(True)
        page.run()
        assert np.asarray(page.charts()[0]["data"][0]["z"]).shape == (3, 50)

    def test_a_click_on_the_row_shows_its_first_client_and_the_group(self, open_page, large):
        page = open_page("signatures", dataset=large.name)
        squares = page.charts()[0]["data"][-1]["customdata"]
        assert ["c10", "layer_1/kernel"] in [list(square) for square in squares]
        page.app.session_state["mismatch_cell"] = ("c10", "layer_1/kernel")
        page.run()
        assert "Client c10, layer_1/kernel" in [unescaped(s.value) for s in page.app.subheader]
        members = page.frame("group_members")["Client"].tolist()
        assert members == [f"c{i}" for i in range(10, 17)]
        leaves = table(page, "Tensor", "Expected", "Found", "")
        assert [(leaf["Tensor"], leaf["Found"]) for leaf in leaves] == [
            ("layer_0/kernel", "float32[3,4]"),
            ("**layer_1/kernel**", "float32[3,4]"),
            (":gray[… 48 alike]", ""),
        ]

    def test_the_values_are_looked_at_when_asked(self, open_page, large, monkeypatch):
        monkeypatch.setattr(cache, "_SMALL_DATASET_BYTES", 0)
        page = open_page("signatures", dataset=large.name, reference="client c00")
        assert any("which were not looked at" in text for text in texts(page))
        page.press("Look at the values too")
        assert not any("which were not looked at" in text for text in texts(page))


class TestValues:
    @pytest.fixture
    def server(self):
        rng = np.random.default_rng(3)
        return dict(zip(SIGNATURE.names, random_weights(SIGNATURE, rng), strict=True))

    def test_that_they_are_finite_is_not_said_unseen(
        self, open_page, data_dir, server, monkeypatch
    ):
        bad = server | {BIAS: np.full(10, np.nan, "f4")}
        write_weights(data_dir / "unseen.h5", server, {"a": server, "b": bad})
        monkeypatch.setattr(cache, "_SMALL_DATASET_BYTES", 0)
        page = open_page("signatures", dataset="unseen.h5")
        assert page.answer == (
            "All 2 clients agree with the server model; values were not looked at."
        )
        page.press("Look at the values too")
        assert page.answer.startswith(":red[1 of 2 clients differs] from the server model.")

    def test_the_values_around_the_first_that_is_not_finite(self, open_page, data_dir, server):
        kernel = np.arange(50, dtype="f4").reshape(5, 10)
        kernel[3, 8], kernel[4, 9] = np.nan, -np.inf
        write_weights(data_dir / "nan.h5", server, {"a": server, "b": server | {KERNEL: kernel}})
        page = open_page("signatures", dataset="nan.h5")
        (window,) = [t for t in page.tables() if ":gray[9]" in t.columns]
        assert list(window.columns) == [f":gray[{i}]" for i in range(3, 10)]
        assert list(window.index) == [f":gray[{i}]" for i in range(5)]
        assert window.iloc[0].tolist() == ["3.00", "4.00", "5.00", "6.00", "7.00", "8.00", "9.00"]
        assert window.iloc[3, 5] == ":red-badge[NaN]"
        assert window.iloc[4, 6] == ":red-badge[−∞]"
        assert any("first that is not finite at [3, 8]" in text for text in texts(page))

    def test_which_tensor_exchanged_values_resemble(self, open_page, data_dir):
        rng = np.random.default_rng(4)
        server = {name: rng.standard_normal((8, 8)).astype("f4") for name in ("p", "q", "r")}
        swapped = {"p": server["q"], "q": server["p"], "r": server["r"]}
        write_weights(data_dir / "swap.h5", server, {"a": server, "b": swapped})
        page = open_page("signatures", dataset="swap.h5")
        assert "Client b, p" in [unescaped(s.value) for s in page.app.subheader]
        assert "Its values resemble those of q in the server model." in texts(page)

    def test_frozen_tensors_that_moved_are_seen(self, open_page, data_dir, server):
        signature = Signature(
            tuple(TensorSpec(t.name, t.shape, t.dtype, t.name != BIAS) for t in SIGNATURE)
        )
        with (
            WeightDatasetWriter(data_dir / "frozen.h5", signature) as writer,
            writer.round([ClientEntry("a", 1), ClientEntry("b", 1)], list(server.values())) as r,
        ):
            r.write_client("a", server)
            r.write_client("b", server | {BIAS: server[BIAS] + 1})
        page = open_page("signatures", dataset="frozen.h5")
        assert page.answer.startswith("All 2 clients agree with the server model")
        (seen,) = [
            row for row in table(page, "Client", "Expected", "Likely cause") if row["Client"] == "b"
        ]
        assert seen["Tensor"] == BIAS
        assert seen["Found"] == f"values at a distance of {np.sqrt(10):.3g}"
