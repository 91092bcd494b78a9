"""How long it takes until one can look: imports, first paint, each page."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.timing import Row, seconds
from tests.browser.chromium import launch_browser
from tests.browser.driver import wait_for_app
from tests.browser.server import running_dashboard

REPEATS = 5
PAGES = ("overview", "signatures", "heatmaps", "averaging", "generate")
IMPORTS = {
    "an empty interpreter": "pass",
    "import fedviz": "import fedviz",
    "fedviz.open": "import fedviz; fedviz.open('sample_data/digits-mlp.h5')",
    "fedviz.check": "import fedviz; fedviz.check('sample_data/digits-mlp.h5')",
    "import tensorflow": "import tensorflow",
}


def import_times() -> Iterator[tuple[str, float]]:
    """Median over whole interpreters."""
    for name, code in IMPORTS.items():
        command = [sys.executable, "-c", code]
        repeats = 1 if "tensorflow" in code else REPEATS
        runs = [seconds(lambda c=command: subprocess.run(c, check=True)) for _ in range(repeats)]
        yield name, statistics.median(runs)


@contextmanager
def new_page(browser: Browser) -> Iterator[Page]:
    """A visitor who was never here."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        yield context.new_page()
    finally:
        context.close()


def paint_times(browser: Browser, url: str) -> Iterator[tuple[str, float]]:
    """First visit of a new server, then each page for visitors with an empty cache."""
    with new_page(browser) as page:
        yield (
            "first visit of a new server: the answer is there",
            seconds(lambda: (page.goto(url, wait_until="commit"), page.wait_for_selector("h2"))),
        )
        yield "… and all pictures are painted, after another", seconds(lambda: wait_for_app(page))
    for name in PAGES:
        path = "" if name == "overview" else name
        runs = []
        for _ in range(REPEATS):
            with new_page(browser) as page:
                runs.append(seconds(lambda p=page, u=f"{url}/{path}": (p.goto(u), wait_for_app(p))))
        yield f"{name}, a new visitor, all painted", statistics.median(runs)


def measure(folder: Path) -> Iterator[Row]:
    """Imports, then a dashboard with an empty data folder."""
    for name, value in import_times():
        yield Row(name, value)
    with sync_playwright() as playwright:
        browser = launch_browser(playwright)
        started = time.perf_counter()
        with running_dashboard(folder) as dashboard:
            yield Row("the server answers", time.perf_counter() - started)
            for name, value in paint_times(browser, dashboard.url):
                yield Row(name, value)
        browser.close()
