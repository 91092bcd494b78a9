"""The averaging page in a browser: pictures before controls on a phone."""

from __future__ import annotations

import pytest

from tests.browser import driver

pytestmark = pytest.mark.browser

MLP = "dataset=digits-mlp.h5"


def top(locator):
    return locator.bounding_box()["y"]


def test_a_phone_shows_the_result_before_the_controls(browser, dashboard):
    with driver.watched_page(browser, viewport={"width": 390, "height": 900}) as page:
        driver.open_address(page, f"{dashboard.url}/averaging?{MLP}")
        strip = page.locator(".st-key-mid_strip .js-plotly-plot")
        distances = page.get_by_role("heading", name="Distance to the aggregate, by tensor")
        moved = page.get_by_role("heading", name="What averaging changed")
        press = page.get_by_role("button", name="Average round 4")
        assert top(strip) < top(distances) < top(moved) < top(press)
        page.set_viewport_size({"width": 1280, "height": 900})
        driver.wait_for_app(page)
        assert press.bounding_box()["x"] < strip.bounding_box()["x"]
