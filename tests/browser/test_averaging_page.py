"""The averaging page in a browser: pictures before controls on a phone, and side by side."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser import driver
from tests.browser.accessibility import violations
from tests.browser.test_pages import OVERFLOW

pytestmark = pytest.mark.browser

MLP = "dataset=digits-mlp.h5"
JOB_MILLISECONDS = 150_000


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


@pytest.mark.tff
@pytest.mark.timeout(300)
def test_side_by_side_fits_the_screen_and_is_accessible(page, browser, dashboard, tmp_path):
    address = f"{dashboard.url}/averaging?{MLP}&view=Side+by+side"
    driver.open_address(page, address)
    expect(page.get_by_text("Nothing is compared yet.")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("button", name="Compare on round 4").click()
    apart = page.get_by_role("heading", name="How far apart the models lie")
    expect(apart).to_be_visible(timeout=JOB_MILLISECONDS)
    for width, colours in ((1440, "light"), (1440, "dark"), (390, "light")):
        viewport = {"width": width, "height": 900}
        with driver.watched_page(browser, viewport=viewport, color_scheme=colours) as other:
            # The result is there for every visitor.
            driver.open_address(other, address)
            driver.wait_for_heatmaps(other)
            expect(other.locator("h2").first).to_contain_text("Of 7 aggregators")
            other.screenshot(path=tmp_path / f"side-by-side-{colours}-{width}.png")
            assert violations(other) == [], f"{colours}, {width}"
            assert other.evaluate(OVERFLOW) == [0, 0]
            if width == 390:
                compare = other.get_by_role("button", name="Compare on round 4")
                strip = other.locator(".st-key-mid_compared_strip .js-plotly-plot")
                assert top(strip) < top(compare)
