"""The lower half of the signatures page in a browser: TFF asked, a dataset repaired, a paste."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from fedviz.analysis.check import check
from fedviz.dataset import WeightDataset
from tests.browser import driver

pytestmark = [pytest.mark.browser, pytest.mark.tff]

FAULTS = "digits-faults.h5"
JOB_MILLISECONDS = 150_000


@pytest.fixture
def signatures(page, dashboard):
    """The page, opened on the dataset with faults."""
    driver.open_address(page, f"{dashboard.url}/signatures?dataset={FAULTS}")
    return page


@pytest.mark.timeout(300)
def test_tff_is_asked_without_a_click_and_nothing_jumps(signatures):
    page = signatures
    heading = page.get_by_role("heading", name="Repair plan")
    top = heading.bounding_box()["y"]
    expect(page.get_by_role("heading", name="What each framework would do")).to_be_visible()
    table = page.locator(".st-key-mid_verdicts")
    row = table.get_by_role("row").filter(has_text="c01")
    expect(row).to_contain_text("refuses", timeout=JOB_MILLISECONDS)
    driver.wait_for_app(page)
    expect(page.locator("h2").first).to_contain_text("TFF refuses this round")
    expect(table.get_by_role("row").filter(has_text="c07")).to_contain_text("NaN in 2 tensors")
    assert abs(heading.bounding_box()["y"] - top) < 30  # one line at most
    page.get_by_text("What TFF says, word for word").click()
    expect(page.get_by_text("Failed to serialize a value with shape (32, 64)")).to_be_visible()


@pytest.mark.timeout(300)
def test_a_repair_is_chosen_written_and_opened(signatures, dashboard):
    page = signatures
    told = page.get_by_text(re.compile(r"^After this plan"))
    expect(told).to_contain_text("21 of 28 clients can be averaged")
    # The control of c03, whose bias is missing.
    row = page.locator(".st-key-repairs [data-testid=stHorizontalBlock]").filter(has_text="c03")
    row.get_by_role("radio", name="Use server's").click()
    expect(told).to_contain_text("23 of 28 clients can be averaged")
    assert not (dashboard.data_dir / "mended.h5").exists()
    field = page.get_by_label("Name of the repaired dataset")
    field.fill("mended")
    field.press("Tab")
    driver.wait_for_app(page)
    page.get_by_role("button", name="Write repaired dataset").click()
    opened = page.get_by_role("button", name="Open the repaired dataset")
    expect(opened).to_be_visible(timeout=JOB_MILLISECONDS)
    opened.click()
    expect(page.locator(".st-key-dataset input")).to_have_value("mended.h5")
    driver.wait_for_app(page)
    expect(page.locator("h2").first).to_contain_text("agree with the server model")
    with WeightDataset(dashboard.data_dir / "mended.h5") as dataset:
        assert check(dataset).consistent
        assert [len(each.records) for each in dataset.rounds] == [11, 12]


def test_a_pasted_error_is_laid_side_by_side(signatures):
    page = signatures
    page.get_by_role("button", name="Fill in an example").click()
    expect(page.get_by_text("1 of 4 leaves differs: 1 shape.")).to_be_visible()
    table = page.locator(".st-key-mid_pasted")
    expect(table.get_by_role("row")).to_have_count(2)
    page.get_by_text("Show all 4 leaves").click()
    expect(table.get_by_role("row")).to_have_count(5)
