"""The overview where a dataset is large or damaged."""

from __future__ import annotations

import shutil

import h5py

from fedviz.dashboard import folders, round_values
from tests.dashboard.datasets import write

SAMPLE = folders.SAMPLES / "digits-mlp.h5"


def test_values_of_a_large_round_are_looked_at_on_demand(open_page, data_dir, monkeypatch):
    monkeypatch.setattr(round_values, "_FEW_BYTES", 100)
    path = write(data_dir / "large.h5")
    page = open_page(dataset=path.name)
    assert page.answer == "Three clients, one signature, 1 round: fit to be averaged, by the index."
    assert page.chips["values not looked at yet"] == "gray"
    assert list(page.frame("tensors").columns) == ["tensor", "shape", "share"]
    page.press("Look at the values")
    assert page.answer == "Three clients, one signature, 1 round: fit to be averaged."
    assert page.frame("tensors")["spread"].notna().all()
    assert page.frame("clients")["update"].notna().all()


def test_a_damaged_round_does_not_hide_the_others(open_page, data_dir):
    path = data_dir / "damaged.h5"
    shutil.copyfile(SAMPLE, path)
    with h5py.File(path, "r+") as file:
        del file["rounds/000001/clients"]
    page = open_page(dataset=path.name)
    assert page.answer == "Ten clients, one signature, 5 rounds: fit to be averaged."
    (warning,) = page.app.warning
    assert "rounds" in warning.value
    assert "000001" in warning.value
    assert page.charts()
    page.choose(round=1)
    assert page.answer == ":red[This round cannot be read.] Choose another above."
    assert "rounds/000001/clients" in page.errors[0]
    page.choose(round=2)
    assert page.answer


def test_a_long_list_is_searched(open_page, data_dir):
    path = write(data_dir / "many.h5", clients=[f"c{i:02}" for i in range(30)])
    page = open_page(dataset=path.name)
    page.app.text_input(key="find_client").set_value("C2")
    page.run()
    assert list(page.frame("clients")["client"]) == [f"c2{i}" for i in range(10)]


def test_the_tour_tells_the_dataset_s_own_numbers(open_page):
    page = open_page("tour", dataset=SAMPLE.name, step="1")
    assert page.app.title[0].value == "Ten participants, ten different views of the same digits."
    assert any(":green[**88%**]" in text for text in page.markdown())
    page.press("Next")
    assert page.app.title[0].value.startswith("Each trains the same model alone.")
    assert page.metrics["Examples that stay home"] == "1,437"
