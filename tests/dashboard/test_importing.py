"""The import page: uploads become a dataset, or one line says why not."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from fedviz.dashboard import cache
from fedviz.dataset import WeightDataset


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def uploads(page: Any, key: str) -> Any:
    return page.app.file_uploader(key=key)


def imported(page: Any) -> None:
    """Press the button and wait for the engine's job."""
    page.press("Import")
    job = next(j for j in reversed(cache.light_engine().jobs.values()) if j.kind == "import_job")
    job.future.exception(timeout=120)
    page.run()


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(4, 3)), np.zeros(3)
    return {"dense/kernel": kernel.astype("f4"), "dense/bias": bias.astype("f4")}


def test_nothing_uploaded_says_what_is_understood(open_page):
    page = open_page("import")
    assert page.answer == "Keras, NumPy, safetensors: one file for each client."
    assert page.button("Import").disabled


def test_uploads_become_a_dataset_and_one_that_differs_is_kept(open_page, data_dir, weights):
    page = open_page("import")
    other = dict(weights, **{"dense/kernel": weights["dense/kernel"].T.copy()})
    uploads(page, "import_files").set_value(
        [
            ("client10_n7.npz", npz(**weights), "application/zip"),
            ("client2_n5.npz", npz(**weights), "application/zip"),
            ("../client3_n1.npz", npz(**other), "application/zip"),
        ]
    )
    page.run()
    imported(page)

    assert page.errors == []
    assert page.answer == ":red[1 of 3 clients] differs from the reference; kept as found."
    with WeightDataset(data_dir / "imported.h5") as dataset:
        records = dataset.round().records
        assert [(r.num_examples, r.conforming) for r in records] == [
            (5, True),
            (1, False),
            (7, True),
        ]
        first = dataset.round().clients[records[0].id]
        np.testing.assert_array_equal(first["dense/kernel"], weights["dense/kernel"])
    assert list((data_dir / "uploads").iterdir()) == []


def test_a_pickle_is_refused_in_one_line_and_nothing_is_kept(open_page, data_dir):
    page = open_page("import")
    uploads(page, "import_files").set_value(("model.pt", b"\x80\x04.", "application/octet-stream"))
    page.run()
    imported(page)

    (error,) = page.errors
    assert "pickle" in error
    assert "safetensors" in error
    assert not list(data_dir.glob("*.h5"))
