"""Five models as Keras saves them in a newcomer's loop: uploaded, checked, averaged and seen."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from fedviz.dataset import WeightDataset
from tests.browser import driver
from tests.importers.opened import opened

pytestmark = [pytest.mark.browser, pytest.mark.tff]

FOLDER = Path(__file__).parents[1] / "importers" / "files"
# One model of two Keras versions, each in a loop without clear_session().
FILES = [
    *(FOLDER / f"keras2.14_loop{i}.h5" for i in range(3)),
    *(FOLDER / f"keras3.15_loop{i}.h5" for i in range(2)),
]
JOB_MILLISECONDS = 150_000
CLIENT, EXAMPLES = 1, 2
ROW_HEIGHT = 34


@pytest.mark.timeout(400)
def test_five_keras_files_become_an_average(page, dashboard, open_page):
    driver.open_address(page, f"{dashboard.url}/import")
    import_files(page)
    page.get_by_role("button", name="Look at it").click()
    expect(answer(page)).to_contain_text("Five clients, one signature")
    open_page("Signatures")
    expect(page).to_have_url(re.compile(r"\?dataset=imported.*\.h5"))
    expect(answer(page)).to_contain_text("All 5 clients agree")
    average(page, dashboard, open_page)
    open_page("Heatmaps")
    driver.wait_for_heatmaps(page)


def import_files(page):
    page.locator("input[type=file]").first.set_input_files(FILES)
    expect(answer(page)).to_have_text(
        "5 clients to import; how many examples each has is not known."
    )
    correct(page, row=1, column=CLIENT, text=FILES[0].stem)
    expect(page.get_by_role("alert")).to_contain_text(
        f"the id {FILES[0].stem} is that of 2 clients"
    )
    expect(page.get_by_role("button", name="Import")).to_be_disabled()
    correct(page, row=1, column=CLIENT, text="north")
    correct(page, row=0, column=EXAMPLES, text="120")
    expect(answer(page)).to_have_text(
        "5 clients to import; of 4 it is not known how many examples they have."
    )
    page.get_by_test_id("stBaseButton-primary").filter(has_text="Import").click()
    expect(answer(page)).to_have_text("5 clients, one signature, 8 tensors.", timeout=60_000)
    told = page.get_by_text("layer numbers given by Keras were matched by position")
    # Two of the five happen to have the same numbers: they are the majority.
    expect(told).to_contain_text("3 clients")


def correct(page, row, column, text):
    """Type into a cell of the table of clients, which is a canvas."""
    shares = {CLIENT: 0.5, EXAMPLES: 0.9}
    table = page.get_by_test_id("stDataFrame")
    expect(table).to_be_visible(timeout=driver.WAIT_MILLISECONDS)
    driver.wait_for_app(page)
    box = table.bounding_box()
    page.mouse.dblclick(
        box["x"] + shares[column] * box["width"], box["y"] + (row + 1.5) * ROW_HEIGHT
    )
    editor = page.locator("#portal :is(input, textarea)")
    editor.fill(text)
    editor.press("Enter")
    # What screen readers are told of the cell.
    expect(page.locator(f"#glide-cell-{column}-{row}")).to_have_text(text)
    driver.wait_for_app(page)


def average(page, dashboard, open_page):
    """Nobody said how many examples there are, so each client counts once."""
    open_page("Averaging")
    expect(page.get_by_text("Each client counts once")).to_be_visible()
    page.get_by_role("button", name="Average round 0").click()
    save = page.get_by_role("button", name="Save into the dataset")
    expect(save).to_be_visible(timeout=JOB_MILLISECONDS)
    driver.wait_for_app(page)
    save.click()
    expect(save).to_be_hidden()
    driver.wait_for_app(page)
    with WeightDataset(dashboard.data_dir / "imported.h5") as dataset:
        records = [(record.id, record.num_examples) for record in dataset.round().records]
        assert records[:2] == [(FILES[0].stem, 120), ("north", None)]
        (aggregate,) = dataset.round().aggregates.values()
        clients = [list(opened(file).arrays.values()) for file in FILES]
        for i, name in enumerate(dataset.signature.names):
            mean = np.mean([arrays[i].astype(np.float64) for arrays in clients], axis=0)
            np.testing.assert_allclose(aggregate[name], mean, rtol=1e-5, atol=1e-7)


def answer(page):
    return page.locator("h2").first
