"""The import page: uploads become a dataset, or one line says why not."""

from __future__ import annotations

import gc
import io
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedviz.dashboard import cache
from fedviz.dashboard.uploads import KeptUploads
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
        ids = [record.id for record in records]
        assert [(r.num_examples, r.conforming) for r in records] == [
            (5, True),
            (1, False),
            (7, True),
        ]
        first = dataset.round().clients[records[0].id]
        np.testing.assert_array_equal(first["dense/kernel"], weights["dense/kernel"])
    assert list((data_dir / "uploads").iterdir()) == []

    page.press("Correct ids or numbers")
    assert table(page)["Client"].tolist() == ["client2", "client3", "client10"]
    imported(page)
    with WeightDataset(data_dir / "imported-2.h5") as dataset:
        assert [record.id for record in dataset.round().records] == ids


def table(page: Any) -> Any:
    (frame,) = [f.value for f in page.app.dataframe if str(f.key).startswith("import_table")]
    return frame


def test_clients_are_listed_before_the_import_with_what_names_and_a_csv_say(open_page, weights):
    page = open_page("import")
    files = [("client10_n7.npz", npz(**weights), "application/zip")]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("site/client2.npz", npz(**weights))
        packed.writestr("site/README.md", "hello")
    files.append(("sites.zip", archive.getvalue(), "application/zip"))
    uploads(page, "import_files").set_value(files)
    page.run()
    assert page.answer == "2 clients to import; of 1 it is not known how many examples they have."
    shown = table(page)
    assert shown["File"].tolist() == ["site/client2.npz", "client10_n7.npz"]
    assert shown["Client"].tolist() == ["client2", "client10"]
    assert shown["Examples"].tolist() == [pd.NA, 7]
    assert not page.button("Import").disabled

    uploads(page, "import_examples").set_value(
        ("n.csv", b"file,client\nclient2.npz,x\n", "text/csv")
    )
    page.run()
    assert table(page)["Client"].tolist() == ["x", "client10"]

    uploads(page, "import_examples").set_value(("n.csv", b"client3,5\n", "text/csv"))
    page.run()
    (error,) = page.errors
    assert "there is no client client3; there are client2, client10" in error
    assert page.button("Import").disabled


def test_what_cannot_be_is_said_in_place_and_not_imported(open_page, weights):
    page = open_page("import")
    uploads(page, "import_files").set_value(
        [(f"c{i}.npz", npz(**weights), "application/zip") for i in range(2)]
    )
    same = b"file,client\nc0.npz,north\nc1.npz,north\n"
    uploads(page, "import_examples").set_value(("n.csv", same, "text/csv"))
    page.run()
    assert page.errors == [
        "c0.npz: the id north is that of 2 clients; ids are unique.  \n"
        "c1.npz: the id north is that of 2 clients; ids are unique."
    ]
    assert page.button("Import").disabled


def test_uploads_go_with_the_session_or_with_other_uploads(open_page, data_dir, weights):
    page = open_page("import")
    kept = data_dir / "uploads"
    uploads(page, "import_files").set_value(("c0.npz", npz(**weights), "application/zip"))
    page.run()
    (first,) = kept.iterdir()
    page.run()
    assert [path.name for path in first.rglob("*.npz")] == ["c0.npz"]
    uploads(page, "import_files").set_value(("c1.npz", npz(**weights), "application/zip"))
    page.run()
    (second,) = kept.iterdir()
    assert second != first
    del page
    gc.collect()
    assert list(kept.iterdir()) == []


def test_a_folder_keeps_its_folders_and_nothing_leads_out_of_it(data_dir):
    names = ["in/north/m.h5", "in/south/m.h5", "in/.DS_Store", "../../in/x.h5", "in\\y z.h5"]
    kept = KeptUploads([Uploaded(name, name.encode()) for name in names])
    assert kept.folder.parent == data_dir / "uploads"
    assert kept.files == (kept.folder / "uploaded" / "in",)
    found = {str(p.relative_to(kept.files[0])): p.read_bytes() for p in kept.files[0].rglob("*.h5")}
    assert found == {
        "north/m.h5": b"in/north/m.h5",
        "south/m.h5": b"in/south/m.h5",
        "x.h5": b"../../in/x.h5",
        "y-z.h5": b"in\\y z.h5",
    }
    same = KeptUploads([Uploaded("a.h5", b"1"), Uploaded("a.h5", b"2"), Uploaded("/", b"3")])
    assert sorted(path.read_bytes() for path in same.files) == [b"1", b"2", b"3"]
    kept.remove()
    assert not kept.folder.exists()
    same.release()
    folder = same.folder
    del same
    assert folder.exists()


@dataclass(frozen=True)
class Uploaded:
    name: str
    content: bytes

    def getbuffer(self) -> memoryview:
        return memoryview(self.content)


def test_a_pickle_is_refused_in_one_line_and_nothing_is_kept(open_page, data_dir):
    page = open_page("import")
    uploads(page, "import_files").set_value(("model.pt", b"\x80\x04.", "application/octet-stream"))
    page.run()

    (error,) = page.errors
    assert "pickle" in error
    assert "safetensors" in error
    assert page.button("Import").disabled
    assert not list(data_dir.glob("*.h5"))
