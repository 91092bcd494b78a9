"""Heatmaps and rounds in a real browser: one cursor, clicks, boxes, the address, back, play."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser import driver

pytestmark = pytest.mark.browser

# Pages are drawn anew for each of these; the machine may do other things too.
MILLISECONDS = 60_000

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
RANGES = f"""() => {{
    const {{xaxis, yaxis}} = document.querySelector('{PLOT}')._fullLayout;
    return [yaxis.range[1] + .5, yaxis.range[0] + .5, xaxis.range[0] + .5, xaxis.range[1] + .5];
}}"""


def place(page, panel, row, column):
    return page.evaluate(PLACE, [panel, row, column])


def drag(page, panel, first, last):
    page.mouse.move(*place(page, panel, *first))
    page.mouse.down()
    page.mouse.move(*place(page, panel, *last), steps=4)
    page.mouse.up()


def travel(page, where):
    """What the browser's button does; the page loads what the address names."""
    with page.expect_event("domcontentloaded"):
        page.evaluate(f"history.{where}()")
    driver.wait_for_app(page)


def test_point_click_box_and_back(page, browser, dashboard):
    whole = f"{dashboard.url}/heatmaps?dataset=digits-mlp.h5&client=c03"
    driver.open_address(page, whole)
    driver.wait_for_heatmaps(page)
    page.mouse.move(*place(page, 4, 8, 9))
    page.mouse.move(*place(page, 4, 10, 5))
    expect(page.locator(".linked-cursor rect")).to_have_count(6)
    expect(page.locator(".linked-cursor text")).to_have_count(5)
    page.mouse.click(*place(page, 4, 10, 5))
    asked = page.get_by_role("heading", name="Which client moved cell [10, 5]")
    expect(asked).to_be_visible(timeout=MILLISECONDS)
    driver.wait_for_app(page)

    drag(page, 2, (19.6, 7.6), (30.4, 15.4))
    expect(page).to_have_url(re.compile(r"w=20%2C31%2C8%2C16"), timeout=MILLISECONDS)
    driver.wait_for_app(page)
    driver.wait_for_heatmaps(page)
    assert page.evaluate(RANGES) == [20, 31, 8, 16]
    expect(page.get_by_text("11 × 8 cells, all drawn")).to_be_visible()

    with driver.watched_page(browser, viewport={"width": 1280, "height": 900}) as other:
        driver.open_address(other, page.url)
        driver.wait_for_heatmaps(other)
        assert other.evaluate(RANGES) == [20, 31, 8, 16]
        expect(other.locator(".st-key-client input")).to_have_value("c03")

    travel(page, "back")
    expect(page.get_by_text("64 × 32 cells, all drawn")).to_be_visible(timeout=MILLISECONDS)
    travel(page, "forward")
    driver.wait_for_heatmaps(page)
    assert page.evaluate(RANGES) == [20, 31, 8, 16]
    page.get_by_role("button", name="Whole tensor").click()
    expect(page.get_by_text("64 × 32 cells, all drawn")).to_be_visible(timeout=MILLISECONDS)


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
