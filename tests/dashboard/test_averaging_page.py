"""The averaging page where a round is large, and where the server model is not known."""

from __future__ import annotations

import shutil

import h5py

from fedviz.dashboard import folders, round_values
from fedviz.dataset import Round

SAMPLE = "digits-mlp.h5"
OFFERED = "The aggregate is known."


def names_of_charts(page) -> set[str]:
    components = page.app.get("bidi_component")
    return {c.proto.id.rsplit("-", 1)[-1] for c in components}


def test_clients_of_a_large_round_are_read_on_demand(open_page, monkeypatch):
    monkeypatch.setattr(round_values, "_FEW_BYTES", 100)
    # Other tests may have looked at the same round.
    round_values._kept.clear()
    read = []
    original = Round.read_stack
    monkeypatch.setattr(Round, "read_stack", lambda *args: read.append(args[1]) or original(*args))
    page = open_page("averaging", dataset=SAMPLE, round="1")
    assert any(OFFERED in text for text in page.markdown())
    assert "moved" in names_of_charts(page)
    assert read == []

    page.press("Look at the values")
    assert {"distances", "moved"} <= names_of_charts(page)
    assert set(read) == {"dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"}


def test_without_a_server_model_nothing_moved(open_page, data_dir):
    path = data_dir / "no-server.h5"
    shutil.copyfile(folders.SAMPLES / SAMPLE, path)
    with h5py.File(path, "r+") as file:
        del file["rounds/000001/server"]
    page = open_page("averaging", dataset=path.name, round="1")
    assert any("began with is not in the dataset" in text for text in page.markdown())
    assert "distances" in names_of_charts(page)
    assert "moved" not in names_of_charts(page)
