"""A click on a client, in a picture or in a table, selects it here and on every other page."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser import driver

pytestmark = pytest.mark.browser

ROW_HEIGHT = 34
MOST_UNUSUAL = """() => document.querySelector(
    '.st-key-outliers [role=gridcell][aria-colindex="1"], .st-key-outliers td'
)?.textContent"""

# Where the mark of a chart's last trace lies that stands for some clients.
MARK = """([chart, wanted]) => {
    const plot = document.querySelector(`.st-key-view_${chart} .js-plotly-plot`);
    const marks = plot._fullData.at(-1), {xaxis, yaxis} = plot._fullLayout;
    const i = marks.customdata.findIndex(c => JSON.stringify(c) === JSON.stringify(wanted));
    const {left, top} = plot.getBoundingClientRect();
    return [
        left + xaxis._offset + xaxis.l2p(marks.x[i]),
        top + yaxis._offset + yaxis.l2p(marks.y[i]),
    ];
}"""


def test_a_click_selects_everywhere(page, dashboard):
    driver.open_address(page, f"{dashboard.url}/clients?dataset=digits-mlp.h5")
    driver.wait_for_heatmaps(page)
    page.mouse.click(*page.evaluate(MARK, ["similarity", ["c03", "c08"]]))
    client, other = page.locator(".st-key-client input"), page.locator(".st-key-other input")
    expect(client).to_have_value("c03")
    expect(other).to_have_value("c08")
    assert "client=c03" in page.url
    assert "other=c08" in page.url
    driver.wait_for_app(page)
    page.locator(".st-key-view_divergence").scroll_into_view_if_needed()
    page.mouse.click(*page.evaluate(MARK, ["divergence", ["c05", "dense/bias"]]))
    expect(client).to_have_value("c05")
    driver.open_page(page, "Heatmaps")
    expect(page.locator(".st-key-client input")).to_have_value("c05")
    expect(page.locator(".st-key-other input")).to_have_value("c08")
    expect(page.locator(".st-key-tensor input")).to_have_value("dense/bias")


def click_row(page, table, row):
    """Click the first cell of a row until it is taken up.

    The table is a canvas, which swallows a click that comes while it is drawn.
    """
    place = {"x": 30, "y": ROW_HEIGHT * (row + 1.5)}
    selected = page.locator(f".st-key-{table} [role=gridcell][aria-selected=true]")
    for _ in range(5):
        page.locator(f".st-key-{table} [data-testid=stDataFrame]").click(position=place)
        driver.wait_for_app(page)
        if selected.count():
            return


def test_a_click_on_a_row_selects_everywhere(page, dashboard):
    driver.open_address(page, f"{dashboard.url}/heatmaps?dataset=digits-mlp.h5&client=c01")
    client = page.locator(".st-key-client input")
    expect(client).to_have_value("c01")
    driver.open_page(page, "Overview")
    click_row(page, "tensors", 1)
    click_row(page, "clients", 3)
    for name in ("Heatmaps", "Rounds", "Clients"):
        driver.open_page(page, name)
        expect(client).to_have_value("c03")
        if name != "Clients":
            expect(page.locator(".st-key-tensor input")).to_have_value("dense/bias")
    unusual = page.wait_for_function(MOST_UNUSUAL).json_value()
    click_row(page, "outliers", 0)
    expect(client).to_have_value(unusual)
    driver.open_page(page, "Heatmaps")
    expect(client).to_have_value(unusual)
