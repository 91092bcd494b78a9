"""A click on a mark of the clients page selects its clients, here and on every other page."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser import driver

pytestmark = pytest.mark.browser

# Where the mark of a chart's last trace lies that stands for some clients.
MARK = """([chart, wanted]) => {
    const plot = document.querySelector(`[class*="_${chart}"] .js-plotly-plot`);
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
    page.mouse.click(*page.evaluate(MARK, ["similarity_", ["c03", "c08"]]))
    client, other = page.locator(".st-key-client input"), page.locator(".st-key-other input")
    expect(client).to_have_value("c03")
    expect(other).to_have_value("c08")
    assert "client=c03" in page.url
    assert "other=c08" in page.url
    driver.wait_for_app(page)
    page.locator('[class*="_divergence_"]').first.scroll_into_view_if_needed()
    page.mouse.click(*page.evaluate(MARK, ["divergence_", ["c05", "dense/bias"]]))
    expect(client).to_have_value("c05")
    driver.open_page(page, "Heatmaps")
    expect(page.locator(".st-key-client input")).to_have_value("c05")
    expect(page.locator(".st-key-other input")).to_have_value("c08")
    expect(page.locator(".st-key-tensor input")).to_have_value("dense/bias")
