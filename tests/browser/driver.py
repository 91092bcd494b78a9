"""How the tests and the screenshots drive the dashboard in a browser."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

WAIT_MILLISECONDS = 60_000

# Streamlit looks for its endpoints below the page's own path first, and then at the root.
_EXPECTED_404 = re.compile(r"/[^/]+/_stcore/(health|host-config)$")

# A click reaches the server a moment after it returns: the page is at rest when it has been idle
# for a while, not when it is idle now.
_AT_REST = """() => {
    const app = document.querySelector('[data-testid="stApp"]'
        + '[data-test-script-state="notRunning"][data-test-connection-state="CONNECTED"]');
    const busy = document.querySelector('[data-stale="true"], [data-testid="stSkeleton"]');
    const drawn = document.querySelector(
        '[data-testid="stMainBlockContainer"] [data-testid="stElementContainer"]');
    if (!app || busy || !drawn) { window.idleSince = undefined; return false; }
    window.idleSince ??= performance.now();
    return performance.now() - window.idleSince > 300;
}"""


class PageProblems:
    """What a page did that it must not: errors on the console, calls to other hosts."""

    def __init__(self, page: Page) -> None:
        self.found: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.found.append(f"uncaught error: {error}"))
        page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        address = message.location.get("url", "")
        if message.type == "error" and not _EXPECTED_404.search(address):
            self.found.append(f"console: {message.text} ({address})")

    def _on_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname != "127.0.0.1":
            self.found.append(f"call to another host: {request.url}")


@contextlib.contextmanager
def watched_page(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page in a context of its own; at its end it must have done nothing wrong.

    ``options`` are those of Playwright's ``Browser.new_context``.

    Raises
    ------
    AssertionError
        It logged an error or called another host than the dashboard.
    """
    context = browser.new_context(**options)
    context.set_default_timeout(WAIT_MILLISECONDS)
    page = context.new_page()
    problems = PageProblems(page)
    try:
        yield page
    finally:
        context.close()
    assert not problems.found, "\n".join(problems.found)


def wait_for_app(page: Page) -> None:
    """Wait until the script has run and nothing on the page is stale or still loading."""
    page.evaluate("window.idleSince = undefined")
    page.wait_for_function(_AT_REST)


def wait_for_heatmaps(page: Page) -> None:
    """Wait until every heatmap on the page is painted."""
    page.wait_for_function(
        """() => {
            const layers = [...document.querySelectorAll('.heatmaplayer')];
            return layers.length && layers.every(layer => layer.querySelector('image'));
        }"""
    )


def open_page(page: Page, name: str) -> None:
    """Go to another page of the dashboard by its link in the top navigation."""
    link = page.get_by_test_id("stTopNavLink").filter(has_text=re.compile(rf"{re.escape(name)}$"))
    link.click()
    expect(link).to_have_attribute("aria-current", "page")
    wait_for_app(page)


def open_address(page: Page, url: str) -> None:
    """Open the dashboard, or one of its pages, by its address."""
    page.goto(url, wait_until="domcontentloaded")
    wait_for_app(page)
