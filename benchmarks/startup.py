"""How long it takes until one can look: imports, first paint, each page.

``python -m benchmarks.startup`` prints a table. Times are wall times on a machine that may be busy:
compare rows of one run, not runs.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

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


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


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


def main() -> None:
    """Measure and print."""
    rows = list(import_times())
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        data_dir = Path(folder, "data")
        data_dir.mkdir()
        browser = launch_browser(playwright)
        started = time.perf_counter()
        with running_dashboard(data_dir) as dashboard:
            rows.append(("the server answers", time.perf_counter() - started))
            rows += paint_times(browser, dashboard.url)
        browser.close()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name.ljust(width)}  {value:6.2f} s")


if __name__ == "__main__":
    main()
