"""The whole way in a real browser: train, look, average, save, take along, come back."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from fedviz.dataset import WeightDataset
from tests.browser import driver

pytestmark = [pytest.mark.browser, pytest.mark.tff]

NAME = "journey"
# TensorFlow loads in the background meanwhile, on a machine that does other things too.
JOB_MILLISECONDS = 150_000


@pytest.mark.timeout(400)
def test_from_training_to_a_saved_average(page, dashboard, open_page, tmp_path):
    driver.open_address(page, dashboard.url)
    expect(answer(page)).to_have_text("Ten clients, one signature, 5 rounds: fit to be averaged.")
    downloaded = train(page, open_page, tmp_path)
    numbers = look(page, open_page)
    average_and_save(page, dashboard, open_page)
    reopen(page, dashboard, open_page, downloaded, numbers)


def train(page, open_page, folder):
    """Ten clients on digits; the aggregate does better than they do alone."""
    open_page("Generate")
    fill(page, "Rounds", "2")
    fill(page, "Name of the dataset", NAME)
    expect(answer(page)).to_contain_text("10 clients train for 2 rounds")
    driver.wait_for_app(page)
    page.get_by_role("button", name="Train and save").click()
    expect(page.get_by_test_id("stProgress")).to_be_visible()
    done = page.get_by_test_id("stAlert").filter(has_text="The aggregate's accuracy is")
    expect(done).to_be_visible(timeout=JOB_MILLISECONDS)
    aggregate, alone = map(float, re.findall(r"\b0\.\d{3}\b", done.inner_text()))
    assert aggregate > alone
    driver.wait_for_app(page)
    with page.expect_download() as download:
        page.get_by_test_id("stDownloadButton").get_by_role("button").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == f"{NAME}.h5"
    return path


def look(page, open_page):
    """What was made, on three pages; returns the overview's numbers."""
    page.get_by_role("button", name="Look at it").click()
    expect(answer(page)).to_have_text("Ten clients, one signature, 2 rounds: fit to be averaged.")
    driver.wait_for_app(page)
    assert selected(page, "dataset") == f"{NAME}.h5"
    numbers = page.get_by_test_id("stMetric").all_inner_texts()
    open_page("Signatures")
    expect(answer(page)).to_contain_text("All 10 clients agree with the server model")
    driver.wait_for_heatmaps(page)
    open_page("Heatmaps")
    expect(answer(page)).to_contain_text("Averaging moved this tensor by")
    driver.wait_for_heatmaps(page)
    expect(page.locator(".heatmaplayer image")).to_have_count(6)
    return numbers


def average_and_save(page, dashboard, open_page):
    open_page("Averaging")
    page.get_by_test_id("stButtonGroup").get_by_text("uniform", exact=True).click()
    driver.wait_for_app(page)
    page.get_by_role("button", name="Average round 1").click()
    save = page.get_by_role("button", name="Save into the dataset")
    expect(save).to_be_visible(timeout=JOB_MILLISECONDS)
    driver.wait_for_app(page)
    expect(answer(page)).to_contain_text("The mean-uniform reaches")
    # Each client's distance by tensor, and how far the aggregate moved.
    expect(page.locator(".js-plotly-plot")).to_have_count(3)
    expect(page.locator(".js-plotly-plot .points path").first).to_be_visible()
    expect(page.locator(".js-plotly-plot .bars path").first).to_be_visible()
    with WeightDataset(dashboard.data_dir / f"{NAME}.h5") as dataset:
        assert list(dataset.round().aggregates) == ["mean"]
    save.click()
    expect(save).to_be_hidden()
    driver.wait_for_app(page)
    page.reload(wait_until="domcontentloaded")
    driver.wait_for_app(page)
    row = page.get_by_role("row").filter(has_text="mean-uniform")
    expect(row).to_contain_text("saved")
    with WeightDataset(dashboard.data_dir / f"{NAME}.h5") as dataset:
        assert list(dataset.round().aggregates) == ["mean", "mean-uniform"]


def reopen(page, dashboard, open_page, downloaded, numbers):
    """The file from before, by upload: its name is taken, its numbers are the same."""
    open_page("Overview")
    page.get_by_role("button", name="Open a file").click()
    page.locator("input[type=file]").first.set_input_files(downloaded)
    expect(page.locator(".st-key-dataset input")).to_have_value(f"{NAME}-2.h5")
    driver.wait_for_app(page)
    assert page.get_by_test_id("stMetric").all_inner_texts() == numbers
    assert (dashboard.data_dir / f"{NAME}-2.h5").read_bytes() == downloaded.read_bytes()


@pytest.mark.timeout(300)
def test_a_long_training_is_cancelled_and_leaves_nothing(page, dashboard):
    before = set(dashboard.data_dir.iterdir())
    driver.open_address(page, f"{dashboard.url}/generate")
    fill(page, "Rounds", "1000")
    expect(answer(page)).to_contain_text("train for 1,000 rounds")
    driver.wait_for_app(page)
    page.get_by_role("button", name="Train and save").click()
    progress = page.get_by_test_id("stProgress")
    expect(progress).to_contain_text(re.compile(r"round \d"), timeout=JOB_MILLISECONDS)
    page.get_by_role("button", name="Cancel").click()
    told = page.get_by_test_id("stAlert").filter(has_text="Cancelled; nothing was written.")
    expect(told).to_be_visible()
    expect(page.get_by_role("button", name="Train and save")).to_be_enabled()
    assert set(dashboard.data_dir.iterdir()) == before


def answer(page):
    return page.locator("h2").first


def fill(page, label, value):
    """Type into a field and leave it, as Streamlit waits for."""
    field = page.get_by_label(label, exact=True)
    field.fill(value)
    field.press("Tab")
    driver.wait_for_app(page)


def selected(page, level):
    return page.locator(f".st-key-{level} input").input_value()
