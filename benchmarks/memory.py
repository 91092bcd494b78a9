"""What the dashboard, its engine and TFF's worker hold together while 1,000 clients are averaged.

A dashboard of its own, in a real browser: the averaging page is opened on 1,000 × the CNN (6.65
GB), *Average* is pressed, and the result is looked at until all pictures are painted. Measured is
the sum of `RssAnon` (as `/proc` has it) of the dashboard's process and all that it started, every
20 ms; the file's own pages in the page cache are no part of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from benchmarks.large_datasets import CNN, large_dataset
from benchmarks.process_memory import PeakMemory, family
from benchmarks.timing import Goal, Row
from tests.browser.chromium import launch_browser
from tests.browser.driver import wait_for_app
from tests.browser.server import running_dashboard

CLIENTS = 1000
JOB_MILLISECONDS = 300_000


def measure(folder: Path) -> Iterator[Row | Goal]:
    """Average once through the page."""
    path = large_dataset(folder, "1000-CNN", CNN, CLIENTS)
    data = folder / "dashboard"
    data.mkdir(exist_ok=True)
    os.link(path, data / "clients.h5")
    with sync_playwright() as playwright:
        before = family(os.getpid())
        with running_dashboard(data) as dashboard:
            servers = family(os.getpid()) - before
            assert len(servers) == 1, "the dashboard is one process before its first visit"
            (server,) = servers
            # Only now: it is many processes, some of which come late.
            browser = launch_browser(playwright)
            with PeakMemory(lambda: family(server)) as memory:
                page = browser.new_page()
                page.set_default_timeout(JOB_MILLISECONDS)
                page.goto(f"{dashboard.url}/averaging?dataset=clients.h5")
                wait_for_app(page)
                page.get_by_role("button", name="Average round 0").click()
                saved = page.get_by_role("button", name="Save into the dataset")
                expect(saved).to_be_visible(timeout=JOB_MILLISECONDS)
                wait_for_app(page)
                processes = len(family(server))
            browser.close()
    model_bytes = 4 * sum(spec.size for spec in CNN)
    limit = (1 << 30) + 12 * model_bytes
    yield Row("before the first visit", f"{memory.before / 1e6:,.0f} MB")
    yield Row("at most", f"{memory.peak / 1e6:,.0f} MB", f"{processes} processes")
    yield Goal(
        f"anonymous memory below 1 GB + 12 × the model ({limit / 1e6:,.0f} MB) at 1,000 clients",
        f"{memory.peak / 1e6:,.0f} MB",
        memory.peak < limit,
    )
