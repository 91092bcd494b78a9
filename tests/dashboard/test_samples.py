"""The pages on the datasets that ship with fedviz, against numbers computed here from the files."""

from __future__ import annotations

import numpy as np
import pytest

from fedviz.dashboard import folders
from fedviz.dataset import WeightDataset
from tests.dashboard.opened import PAGES

MLP, CNN, FAULTS = (folders.SAMPLES / f"digits-{name}.h5" for name in ("mlp", "cnn", "faults"))
KERNEL = "dense/kernel"


@pytest.fixture(scope="module")
def mlp():
    with WeightDataset(MLP) as dataset:
        yield dataset


@pytest.fixture(scope="module")
def faults():
    with WeightDataset(FAULTS) as dataset:
        yield dataset


def norm(values) -> float:
    return float(np.linalg.norm(np.asarray(values, dtype="f8")))


def difference(a, b):
    return np.asarray(a, dtype="f8") - np.asarray(b, dtype="f8")


def whole(weights) -> np.ndarray:
    return np.concatenate([weights[name].astype("f8").ravel() for name in weights])


def of(round_, role, subject="", metric="accuracy") -> float:
    (value,) = [
        m.value for m in round_.metrics if (m.role, m.subject, m.name) == (role, subject, metric)
    ]
    return value


@pytest.mark.parametrize("sample", [MLP, CNN, FAULTS], ids=lambda path: path.stem)
def test_every_page_opens_on_every_sample(open_page, sample):
    page = open_page(dataset=sample.name)
    for name in PAGES:
        page.go_to(name)
        assert (page.app.title[0].value.lower(), page.errors) == (name, [])
        assert page.app.main.children
        assert page.answer


class TestOverview:
    def test_says_that_the_round_is_fit(self, open_page, mlp):
        page = open_page(dataset=MLP.name)
        assert page.answer == "Ten clients, one signature, 5 rounds: fit to be averaged."
        assert page.chips["10 of 10 signatures agree"] == "gray"
        assert page.chips["all values finite"] == "gray"
        last = mlp.round()
        assert page.metrics["Parameters, in 4 tensors"] == "2,410"
        assert page.metrics["Aggregate's accuracy"] == f"{of(last, 'aggregate', 'mean'):.3f}"
        examples = [record.num_examples for record in last.records]
        label = f"Examples, {min(examples)} to {max(examples)} each"
        assert page.metrics[label] == f"{sum(examples):,}"

    def test_says_what_stands_in_the_way(self, open_page):
        page = open_page(dataset=FAULTS.name)
        assert page.answer == (":red[7 of 14 clients] of round 1 cannot be averaged as they are.")
        assert page.chips["9 of 14 signatures agree"] == "red"
        assert page.chips["2 clients with NaN or infinite values"] == "red"
        assert page.chips["10 faults injected on purpose"] == "gray"

    def test_the_table_of_tensors_has_the_file_s_numbers(self, open_page, mlp):
        round_ = mlp.round()
        mean, server = round_.aggregates["mean"], round_.server
        table = open_page(dataset=MLP.name).frame("tensors").set_index("tensor")
        assert list(table.index) == list(mlp.signature.names)
        for name, row in table.iterrows():
            moved = norm(difference(mean[name], server[name])) / norm(server[name])
            assert row["moved"] == pytest.approx(100 * moved)
            updates = [norm(difference(c[name], server[name])) for c in round_.clients.values()]
            assert row["clients"] == pytest.approx(updates)
            stack = round_.read_stack(name).astype("f8")
            rms = np.sqrt(np.mean(mean[name].astype("f8") ** 2))
            assert row["spread"] == pytest.approx(100 * np.sqrt(stack.var(axis=0).mean()) / rms)
            courses = [
                norm(difference(r.aggregates["mean"][name], r.server[name])) for r in mlp.rounds
            ]
            assert row["rounds"] == pytest.approx(courses)
            assert sum(row["values"]) == mean[name].size
        assert table["share"].sum() == pytest.approx(100)
        assert table.loc[KERNEL, "share"] == pytest.approx(100 * 2048 / 2410)

    def test_the_table_of_clients_has_the_file_s_numbers(self, open_page, mlp):
        round_ = mlp.round()
        server, mean = whole(round_.server), whole(round_.aggregates["mean"])
        table = open_page(dataset=MLP.name).frame("clients").set_index("client")
        for position, (name, row) in enumerate(table.iterrows()):
            weights = whole(round_.clients[name])
            assert row["examples"] == round_.records[position].num_examples
            assert row["update"] == pytest.approx(norm(weights - server))
            assert row["distance"] == pytest.approx(norm(weights - mean))
            assert row["accuracy"] == pytest.approx(of(round_, "client", name))
            assert list(row["labels"]) == round_.label_counts[position].tolist()

    def test_a_client_that_differs_has_a_note_instead_of_numbers(self, open_page):
        table = open_page(dataset=FAULTS.name).frame("clients").set_index("client")
        assert table.loc["c01", "note"] == "other signature"
        assert np.isnan(table.loc["c01", "update"])
        assert table.loc["c07", "note"].endswith("not finite")
        assert np.isfinite(table.loc["c00", "distance"])

    def test_another_round_has_other_numbers(self, open_page, mlp):
        page = open_page(dataset=MLP.name)
        page.choose(round=0)
        first = mlp.round(0)
        mean, server = first.aggregates["mean"][KERNEL], first.server[KERNEL]
        table = page.frame("tensors").set_index("tensor")
        expected = 100 * norm(difference(mean, server)) / norm(server)
        assert table.loc[KERNEL, "moved"] == pytest.approx(expected)
        assert page.metrics["Aggregate's accuracy"] == f"{of(first, 'aggregate', 'mean'):.3f}"

    def test_the_courses_are_those_of_the_file(self, open_page, mlp):
        (figure,) = open_page(dataset=MLP.name).charts()
        traces = {trace.get("name"): trace for trace in figure["data"]}
        expected = [of(round_, "aggregate", "mean") for round_ in mlp.rounds]
        assert np.asarray(traces["aggregate"]["y"], "f8") == pytest.approx(expected)
        server = [of(round_, "server") for round_ in mlp.rounds]
        assert np.asarray(traces["server model"]["y"], "f8") == pytest.approx(server)

    def test_the_type_of_the_round_is_tff_s(self, open_page, mlp):
        (code,) = open_page(dataset=MLP.name).app.code
        assert code.value == f"{{<weights={mlp.signature},num_examples=int64>}}@CLIENTS"


class TestSignatures:
    def test_consistent_clients(self, open_page):
        page = open_page("signatures", dataset=MLP.name)
        assert page.answer == "All 10 clients agree with the server model; every value is finite."
        (figure,) = page.charts()
        cells = figure["data"][0]
        assert (cells["type"], np.asarray(cells["z"]).shape) == ("heatmap", (10, 4))
        assert not np.asarray(cells["z"]).any()

    def test_every_injected_fault_of_the_signature_is_found(self, open_page, faults):
        page = open_page("signatures", dataset=FAULTS.name)
        assert page.answer.startswith(":red[7 of 14 clients differ] from the server model.")
        assert page.answer.endswith("NumPy averaging raises an error.")
        table = next(t for t in page.tables() if {"Kind", "Likely cause"} <= set(t))
        truth = next(t for t in page.tables() if "Fault" in t)
        kinds = {(row["Client"], row["Kind"].split()[-1]) for _, row in table.iterrows()}
        assert kinds >= {
            ("c01", "shape"),
            ("c02", "dtype"),
            ("c03", "missing"),
            ("c04", "extra"),
            ("c05", "order"),
            ("c07", "non-finite"),
            ("c08", "non-finite"),
        }
        assert list(truth["Client"]) == [fault.client for fault in faults.ground_truth]
        causes = dict(zip(truth["Fault"], truth["Likely cause"], strict=True))
        unseen = "none: types and values are sound, only the update is odd"
        assert {fault: cause.partition("]")[0] for fault, cause in causes.items()} == {
            "transpose": "transposed: stored as [out, in",
            "dtype": "NumPy noise or arithmetic made float64 of it",
            "missing": "a layer built with use_bias=False",
            "extra": "the layer dense_1 has one tensor more, scale: built with other options",
            "order": "sorted by name",
            "nan": "training diverged, or a value was divided by zero",
            "inf": "training diverged, or a value was divided by zero",
            **dict.fromkeys(("scale", "sign-flip", "label-flip"), f":gray[{unseen}"),
        }

    def test_the_matrix_marks_the_cells(self, open_page):
        (figure,) = open_page("signatures", dataset=FAULTS.name).charts()
        cells, *others = figure["data"]
        z = np.asarray(cells["z"])
        assert z.shape == (14, 5)  # the reference's four tensors, and one that a client adds
        marked = [i for i in range(14) if np.nan_to_num(z[i]).any()]
        assert marked == [1, 2, 3, 4, 5]
        (hatching,) = [trace for trace in others if trace.get("name") == "non-finite"]
        assert set(np.asarray(hatching["y"]).tolist()) == {7, 8}
        targets = [tuple(point) for point in others[-1]["customdata"]]
        assert ("c01", KERNEL) in targets

    def test_another_reference_turns_the_question_round(self, open_page):
        page = open_page("signatures", dataset=FAULTS.name)
        page.choose(reference="client c02")
        assert page.answer.startswith(":red[13 of 14 clients differ] from client c02.")
        page.choose(reference="the majority")
        assert page.answer.startswith(":red[7 of 14 clients differ] from the majority.")

    def test_the_first_mismatch_is_shown_before_a_click(self, open_page):
        page = open_page("signatures", dataset=FAULTS.name)
        assert "Client c01, dense/kernel" in [s.value.replace("\\", "") for s in page.app.subheader]
        detail = page.tables()[0].iloc[:, 0].tolist()
        assert detail[1:3] == ["float32[64,32]", "float32[32,64]"]


class TestHeatmaps:
    def test_the_panels_are_the_tensor(self, open_page, mlp):
        page = open_page("heatmaps", dataset=MLP.name)
        round_ = mlp.round()
        c00, c09 = (round_.clients[c][KERNEL] for c in ("c00", "c09"))
        mean, server = round_.aggregates["mean"][KERNEL], round_.server[KERNEL]
        panels = [np.asarray(t["z"]) for t in page.charts()[0]["data"] if t["type"] == "heatmap"]
        expected = [server, c00, c09, mean, c00 - mean, mean - server]
        assert len(panels) == len(expected)
        for panel, values in zip(panels, expected, strict=True):
            np.testing.assert_allclose(panel, values, rtol=1e-6)
        moved = norm(difference(mean, server)) / norm(server)
        far = [norm(difference(c, mean)) / norm(mean) for c in (c00, c09)]
        assert page.answer == (
            f"Averaging moved this tensor by {moved:.1%}; c00 {far[0]:.1%} and c09 {far[1]:.1%} "
            "from the aggregate."
        )

    def test_the_cell_that_moved_most_is_told(self, open_page, mlp):
        page = open_page("heatmaps", dataset=MLP.name)
        round_ = mlp.round()
        mean, server = round_.aggregates["mean"][KERNEL], round_.server[KERNEL]
        moves = difference(mean, server)
        row, column = np.unravel_index(np.abs(moves).argmax(), moves.shape)
        titles = [s.value for s in page.app.subheader]
        assert f"Which client moved cell [{row}, {column}]" in titles
        table, counts = page.tables()
        limit = page.charts()[0]["layout"]["coloraxis"]["colorbar"]["tickvals"][-1]
        beyond = [str((np.abs(values) > limit).sum()) for values in (server, mean)]
        assert counts["beyond the scale"].iloc[[0, 3]].tolist() == beyond
        values = {m: float(v.replace("−", "-")) for m, v in table.itertuples(index=False)}
        assert values["server"] == pytest.approx(float(server[row, column]), rel=1e-4)
        assert values["aggregate"] == pytest.approx(float(mean[row, column]), rel=1e-4)
        examples = np.array([record.num_examples for record in round_.conforming])
        stack = round_.read_stack(KERNEL)[:, row, column].astype("f8")
        shares = examples / examples.sum() * (stack - server[row, column])
        bars = np.concatenate([np.asarray(t["x"], "f8") for t in page.charts()[1]["data"]])
        for share in shares:
            assert np.isclose(bars, share, rtol=1e-4).any()

    def test_another_tensor_and_client_are_shown(self, open_page, mlp):
        page = open_page("heatmaps", dataset=MLP.name)
        page.choose(tensor="dense_1/kernel", client="c03", round=1)
        round_ = mlp.round(1)
        panels = [np.asarray(t["z"]) for t in page.charts()[0]["data"] if t["type"] == "heatmap"]
        np.testing.assert_allclose(panels[1], round_.clients["c03"]["dense_1/kernel"], rtol=1e-6)

    def test_differences_as_they_are(self, open_page):
        page = open_page("heatmaps", dataset=MLP.name)
        magnified = page.charts()[0]["layout"]
        axes = [name for name in magnified if name.startswith("coloraxis")]
        assert len(axes) == 2
        page.app.button_group(key="differences").set_value("as they are")
        page.run()
        plain = page.charts()[0]["layout"]
        assert [name for name in plain if name.startswith("coloraxis")] == ["coloraxis"]

    def test_the_full_range_is_wider(self, open_page, mlp):
        page = open_page("heatmaps", dataset=MLP.name)
        before = page.charts()[0]["layout"]["coloraxis"]["cmax"]
        page.app.button_group(key="range").set_value("full range")
        page.run()
        after = page.charts()[0]["layout"]["coloraxis"]["cmax"]
        round_ = mlp.round()
        shown = [
            round_.server[KERNEL],
            round_.aggregates["mean"][KERNEL],
            *(round_.clients[c][KERNEL] for c in ("c00", "c09")),
        ]
        assert after >= max(float(np.abs(values).max()) for values in shown) > before

    def test_values_that_are_not_finite_are_told_and_hatched(self, open_page, faults):
        page = open_page("heatmaps", dataset=FAULTS.name, client="c07")
        count = int((~np.isfinite(faults.round().clients["c07"][KERNEL])).sum())
        assert page.answer.startswith(f":red[{count} cells] of c07 are not finite.")
        marks = next(t for t in page.charts()[0]["data"] if t.get("name") == "not finite")
        assert set(marks["hovertext"]) == {"NaN"}


class TestAveraging:
    def test_says_what_the_aggregate_gained(self, open_page, mlp):
        page = open_page("averaging", dataset=MLP.name)
        round_ = mlp.round()
        best = max(of(round_, "client", record.id) for record in round_.records)
        assert page.answer == (
            f"The mean reaches :green[**{of(round_, 'aggregate', 'mean'):.3f}**]. The best client "
            f"alone reaches {best:.3f}, the server model before the round "
            f"{of(round_, 'server'):.3f}."
        )

    def test_the_pictures_are_the_file_s_numbers(self, open_page, mlp):
        page = open_page("averaging", dataset=MLP.name)
        round_ = mlp.round()
        mean = round_.aggregates["mean"]
        _, distances, moved = page.charts()
        expected = sorted(
            norm(difference(weights[name], mean[name])) / norm(mean[name])
            for weights in round_.clients.values()
            for name in mean
        )
        dots = max(distances["data"], key=lambda trace: len(trace["x"]))
        assert sorted(np.asarray(dots["x"], "f8").tolist()) == pytest.approx(expected)
        bars = np.asarray(moved["data"][0]["x"], "f8").tolist()
        moves = [norm(difference(mean[n], round_.server[n])) / norm(round_.server[n]) for n in mean]
        assert sorted(bars) == pytest.approx(sorted(moves))
        table = page.tables()[0]
        assert table.loc[0, "Aggregate"] == "mean"

    def test_leaving_out_is_offered_where_clients_differ(self, open_page):
        page = open_page("averaging", dataset=FAULTS.name)
        assert [toggle.label for toggle in page.app.toggle] == ["Leave 5 divergent clients out"]
        assert not open_page("averaging", dataset=MLP.name).app.toggle


class TestGenerate:
    def test_the_answer_follows_the_form(self, open_page):
        page = open_page("generate")
        assert page.answer == "10 clients train for 5 rounds, dirichlet:0.3."
        page.app.number_input(key="num_clients").set_value(3)
        page.run()
        assert page.answer == "3 clients train for 5 rounds, dirichlet:0.3."
        page.app.button_group(key="mode").set_value("perturb")
        page.run()
        assert page.answer == "3 clients, 5 rounds, noise of deviation 0.01."
        assert page.button("Perturb and save").disabled is False

    def test_the_picture_holds_every_example(self, open_page):
        page = open_page("generate")
        page.app.number_input(key="num_clients").set_value(4)
        page.run()
        (figure,) = page.charts()
        counts = np.asarray(figure["data"][0]["z"])
        assert sorted(counts.shape) == [4, 10]
        assert np.nansum(counts) == 1437  # four fifths of the 1,797 digits

    def test_a_partition_that_cannot_be_is_an_error_in_place(self, open_page):
        page = open_page("generate")
        page.app.number_input(key="num_clients").set_value(5000)
        page.run()
        assert any("5,000" in error or "5000" in error for error in page.errors)
        assert page.button("Train and save")

    def test_layers_are_known_without_tensorflow(self, open_page):
        page = open_page("generate")
        page.choose(architecture="digits-cnn")
        (frame,) = [f.value for f in page.app.dataframe if "layer" in f.value]
        with WeightDataset(CNN) as dataset:
            assert frame["parameters"].sum() == dataset.num_parameters
