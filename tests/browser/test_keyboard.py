"""Through the dashboard without a mouse: from page to page, and to a single cell."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser import driver

pytestmark = pytest.mark.browser

MILLISECONDS = 60_000
MOST_STOPS = 60

IS_FOCUSED = "element => element.contains(document.activeElement)"


def press_until_focused(page, key, target):
    """Go on from stop to stop until the target has the focus."""
    for _ in range(MOST_STOPS):
        page.keyboard.press(key)
        if target.evaluate(IS_FOCUSED):
            return
    pytest.fail(f"{target} is not among the next {MOST_STOPS} stops")


def choose(page, level, text):
    """Write what is wanted into a selectbox of the breadcrumb, and take what it offers."""
    press_until_focused(page, "Tab", page.locator(f".st-key-{level} input"))
    page.keyboard.type(text)
    expect(page.get_by_role("option").first).to_contain_text(text)
    page.keyboard.press("Enter")
    expect(page.locator(f".st-key-{level} input")).to_have_value(re.compile(text))
    driver.wait_for_app(page)


def test_everything_on_the_way_to_a_cell_is_reached_by_keyboard(page, dashboard):
    driver.open_address(page, dashboard.url)
    link = page.get_by_test_id("stTopNavLink").filter(has_text="Heatmaps")
    press_until_focused(page, "Tab", link)
    assert link.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(link).to_have_attribute("aria-current", "page", timeout=MILLISECONDS)
    driver.wait_for_app(page)

    choose(page, "dataset", "digits-cnn")
    choose(page, "tensor", "dense/kernel")
    expect(page.locator("h2").first).to_contain_text("Averaging moved this tensor by")

    panels = page.locator(".st-key-panels")
    press_until_focused(page, "Tab", panels)
    press_until_focused(page, "ArrowRight", panels.get_by_role("button", name="spread"))
    page.keyboard.press("Enter")
    expect(page.get_by_text("spread of the clients").first).to_be_visible(timeout=MILLISECONDS)
    driver.wait_for_app(page)

    press_until_focused(page, "Tab", page.get_by_role("button", name="Go to"))
    page.keyboard.press("Enter")
    field = page.get_by_role("textbox", name="Ask who moved")
    press_until_focused(page, "Tab", field)
    page.keyboard.type("12, 5")
    page.keyboard.press("Enter")
    asked = page.get_by_role("heading", name="Which client moved cell [12, 5]")
    expect(asked).to_be_visible(timeout=MILLISECONDS)
    field.press("Control+a")
    page.keyboard.type("12, 500")
    page.keyboard.press("Enter")
    expect(page.get_by_text("There is no column 500 among").last).to_be_visible()
