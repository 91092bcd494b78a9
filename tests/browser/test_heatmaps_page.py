"""Heatmaps and rounds in a real browser: one cursor, clicks, boxes, the address, back, play."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from fedviz.dataset import WeightDataset
from tests.browser import driver
from tests.browser.server import ROOT

pytestmark = pytest.mark.browser

# Pages are drawn anew for each of these; the machine may do other things too.
MILLISECONDS = 60_000
SAMPLES = ROOT / "sample_data"

PLOT = ".st-key-wide_grid .js-plotly-plot"
PLACE = """([k, row, column]) => {
    const plot = document.querySelector('.st-key-wide_grid .js-plotly-plot');
    const axis = letter => plot._fullLayout[`${letter}axis${k === 1 ? '' : k}`];
    const {left, top} = plot.getBoundingClientRect();
    return [
        left + axis('x')._offset + axis('x').l2p(column),
        top + axis('y')._offset + axis('y').l2p(row),
    ];
}"""
POINT = """([chart, name, round]) => {
    const plot = document.querySelector(`.st-key-mid_${chart} .js-plotly-plot`);
    const line = plot._fullData.find(trace => trace.name === name);
    const {xaxis, yaxis} = plot._fullLayout, i = line.x.indexOf(round);
    const {left, top} = plot.getBoundingClientRect();
    return [
        left + xaxis._offset + xaxis.l2p(line.x[i]),
        top + yaxis._offset + yaxis.l2p(line.y[i]),
    ];
}"""
SHOWS = f"""window => {{
    const plot = document.querySelector('{PLOT}');
    if (!plot?._fullLayout) return false;
    const {{xaxis, yaxis}} = plot._fullLayout;
    const shown = [yaxis.range[1], yaxis.range[0], xaxis.range[0], xaxis.range[1]];
    return shown.every((end, i) => end + .5 === window[i])
        && [...plot.querySelectorAll('.heatmaplayer')].every(layer => layer.querySelector('image'));
}}"""


def place(page, panel, row, column):
    return page.evaluate(PLACE, [panel, row, column])


def point_at(page, panel, row, column):
    """Point at a cell, and wait until every panel frames it and the others say their values."""
    page.mouse.move(*place(page, panel, row, column))
    label = page.locator(f"{PLOT} .hoverlayer .hovertext")
    expect(label).to_contain_text(f"input {row}, unit {column}")
    expect(page.locator(".linked-cursor rect")).to_have_count(6)
    expect(page.locator(".linked-cursor text")).to_have_count(5)


def drag(page, panel, first, last):
    page.mouse.move(*place(page, panel, *first))
    page.mouse.down()
    page.mouse.move(*place(page, panel, *last), steps=4)
    page.mouse.up()


def wait_for_window(page, *window):
    """Wait until the heatmaps show these cells; their element may still hold the last ones."""
    page.wait_for_function(SHOWS, arg=window)


def travel(page, where):
    """What the browser's button does; the page loads what the address names."""
    with page.expect_event("domcontentloaded"):
        page.evaluate(f"history.{where}()")
    driver.wait_for_app(page)


def test_point_click_box_and_back(page, browser, dashboard):
    whole = f"{dashboard.url}/heatmaps?dataset=digits-mlp.h5&client=c03"
    driver.open_address(page, whole)
    driver.wait_for_heatmaps(page)
    point_at(page, 4, 10, 5)
    page.mouse.click(*place(page, 4, 10, 5))
    asked = page.get_by_role("heading", name="Which client moved cell [10, 5]")
    expect(asked).to_be_visible(timeout=MILLISECONDS)
    driver.wait_for_app(page)

    drag(page, 2, (19.6, 7.6), (30.4, 15.4))
    expect(page).to_have_url(re.compile(r"w=20%2C31%2C8%2C16"), timeout=MILLISECONDS)
    wait_for_window(page, 20, 31, 8, 16)
    driver.wait_for_app(page)
    expect(page.get_by_text("11 × 8 cells, all drawn")).to_be_visible()

    with driver.watched_page(browser, viewport={"width": 1280, "height": 900}) as other:
        driver.open_address(other, page.url)
        wait_for_window(other, 20, 31, 8, 16)
        expect(other.locator(".st-key-client input")).to_have_value("c03")

    travel(page, "back")
    expect(page.get_by_text("64 × 32 cells, all drawn")).to_be_visible(timeout=MILLISECONDS)
    travel(page, "forward")
    wait_for_window(page, 20, 31, 8, 16)
    page.get_by_role("button", name="Whole tensor").click()
    expect(page.get_by_text("64 × 32 cells, all drawn")).to_be_visible(timeout=MILLISECONDS)


def choose_tensor(page, name):
    page.locator(".st-key-tensor input").click()
    page.get_by_role("option", name=name, exact=True).click()


def test_every_tensor_is_drawn_in_the_same_element(page, dashboard):
    driver.open_address(page, f"{dashboard.url}/heatmaps?dataset=digits-mlp.h5")
    wait_for_window(page, 0, 64, 0, 32)
    page.evaluate(f"document.querySelector('{PLOT}').isTheFirst = true")
    point_at(page, 4, 10, 5)
    choose_tensor(page, "dense_1/kernel")
    wait_for_window(page, 0, 32, 0, 10)
    driver.wait_for_app(page)
    expect(page.locator(".st-key-wide_grid .js-plotly-plot")).to_have_count(1)
    assert page.evaluate(f"document.querySelector('{PLOT}').isTheFirst")
    expect(page.locator(f"{PLOT} .heatmaplayer image")).to_have_count(6)
    expect(page.locator(".linked-cursor")).to_have_count(0)
    choose_tensor(page, "dense_1/bias")
    wait_for_window(page, 0, 1, 0, 10)
    driver.wait_for_app(page)
    expect(page.locator(f"{PLOT} .heatmaplayer image")).to_have_count(6)
    loaded = "performance.getEntriesByType('resource').map(entry => entry.name)"
    names = [name for name in page.evaluate(loaded) if "plotly" in name.lower()]
    assert len(names) == 1


def test_hovering_tells_the_exact_value(page, dashboard):
    driver.open_address(page, f"{dashboard.url}/heatmaps?dataset=digits-mlp.h5")
    wait_for_window(page, 0, 64, 0, 32)
    with WeightDataset(SAMPLES / "digits-mlp.h5") as dataset:
        value = dataset.rounds[-1].server["dense/kernel"][10, 5]
    point_at(page, 1, 10, 5)
    told = page.locator(f"{PLOT} .hoverlayer .hovertext")
    expect(told).to_contain_text(f"input 10, unit 5{value:.4g}")


def test_a_box_that_asks_who_moved_its_cells_leaves_nothing_behind(page, dashboard):
    address = f"{dashboard.url}/heatmaps?dataset=digits-mlp.h5&box=a+box+asks+who+moved+it"
    driver.open_address(page, address)
    wait_for_window(page, 0, 64, 0, 32)
    drag(page, 2, (19.6, 7.6), (30.4, 15.4))
    asked = page.get_by_role("heading", name="Which client moved these 88 cells")
    expect(asked).to_be_visible(timeout=MILLISECONDS)
    driver.wait_for_app(page)
    expect(page.locator(f"{PLOT} .select-outline")).to_have_count(0)
    wait_for_window(page, 0, 64, 0, 32)


def test_a_box_on_a_histogram_is_no_window(page, dashboard):
    driver.open_address(page, f"{dashboard.url}/heatmaps?dataset=digits-mlp.h5")
    wait_for_window(page, 0, 64, 0, 32)
    drag(page, 7, (0.2, 0.03), (0.8, 0.12))
    drag(page, 2, (19.6, 7.6), (30.4, 15.4))
    wait_for_window(page, 20, 31, 8, 16)
    expect(page.get_by_role("button", name="rows 0", exact=False)).to_have_count(0)


def test_heatmaps_hear_clicks_after_another_format_and_width(page, dashboard):
    driver.open_address(page, f"{dashboard.url}/heatmaps?dataset=digits-mlp.h5")
    wait_for_window(page, 0, 64, 0, 32)
    export = page.locator(".st-key-export_grid").get_by_role("button", name="Export")
    export.click()
    page.get_by_role("radio", name="SVG").click()
    format_ = f"document.querySelector('{PLOT}')._context.toImageButtonOptions.format"
    page.wait_for_function(f"{format_} === 'svg'")
    driver.wait_for_app(page)
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 1000, "height": 900})
    page.wait_for_function(
        f"(plot => plot._fullLayout.width < 1000 && plot._fullLayout.width === plot.clientWidth)"
        f"(document.querySelector('{PLOT}'))"
    )
    point_at(page, 4, 10, 5)
    page.mouse.click(*place(page, 4, 10, 5))
    asked = page.get_by_role("heading", name="Which client moved cell [10, 5]")
    expect(asked).to_be_visible(timeout=MILLISECONDS)
    with page.expect_download() as download:
        page.locator(f"{PLOT} .modebar-btn").click()
    assert download.value.suggested_filename == "fedviz-grid.svg"


def test_play_walks_to_the_last_round(page, dashboard):
    driver.open_address(page, f"{dashboard.url}/rounds?dataset=digits-mlp.h5&round=2")
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible(timeout=MILLISECONDS)
    expect(page.locator(".st-key-round input")).to_have_value("4", timeout=MILLISECONDS)
    expect(page.get_by_role("button", name="Play")).to_be_visible(timeout=MILLISECONDS)


@pytest.mark.parametrize(
    ("chart", "name", "level"),
    [("drift_course", "dense_1/kernel", "tensor"), ("update_course", "c03", "client")],
)
def test_a_click_on_a_point_selects_its_round_everywhere(page, dashboard, chart, name, level):
    driver.open_address(page, f"{dashboard.url}/rounds?dataset=digits-mlp.h5")
    page.locator(f".st-key-mid_{chart}").scroll_into_view_if_needed()
    page.mouse.click(*page.evaluate(POINT, [chart, name, 2]))
    expect(page.locator(".st-key-round input")).to_have_value("2", timeout=MILLISECONDS)
    expect(page.locator(f".st-key-{level} input")).to_have_value(name)
    driver.wait_for_app(page)
    driver.open_page(page, "Heatmaps")
    expect(page.locator(".st-key-round input")).to_have_value("2")
    expect(page.locator(f".st-key-{level} input")).to_have_value(name)
