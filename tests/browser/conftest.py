"""A running dashboard and a browser that looks at it.

Both last as long as this folder's tests: Playwright keeps an event loop running in the main
thread, and TFF, in the tests that follow, must find none there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser import driver
from tests.browser.chromium import launch_browser
from tests.browser.server import Dashboard, running_dashboard


@pytest.fixture(scope="package")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    with running_dashboard(tmp_path_factory.mktemp("data")) as dashboard:
        yield dashboard


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch_browser(playwright)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page; the test fails at its end where the page logged an error."""
    viewport = {"width": 1280, "height": 900}
    with driver.watched_page(browser, viewport=viewport, accept_downloads=True) as page:
        yield page


@pytest.fixture
def wait_for_app() -> Callable[[Page], None]:
    return driver.wait_for_app


@pytest.fixture
def open_page(page: Page) -> Callable[[str], None]:
    return lambda name: driver.open_page(page, name)
