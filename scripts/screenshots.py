"""Take the pictures in docs/images/: every page, light, dark and as narrow as a phone.

``python -m scripts.screenshots [NAME ...]`` starts a dashboard of its own on the sample data, takes
the pictures (only the named shots, where names are given), and fails where a page logs an error.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser import driver
from tests.browser.chromium import launch_browser
from tests.browser.server import running_dashboard

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"


@dataclass(frozen=True)
class Job:
    """What is done before a page is worth a picture: a button, and the heading it leads to."""

    button: str
    heading: str


@dataclass(frozen=True)
class Shot:
    """One page to take: its path, the picture's name, and the selection in its address."""

    path: str
    name: str
    query: tuple[tuple[str, str], ...] = ()
    job: Job | None = None

    @property
    def address(self) -> str:
        """Path and query, as they follow the dashboard's own address."""
        return f"/{self.path}" + (f"?{urlencode(self.query)}" if self.query else "")


@dataclass(frozen=True)
class Look:
    """How a page is looked at."""

    name: str
    width: int
    colours: Literal["light", "dark"]


FAULTS = (("dataset", "digits-faults.h5"),)
COMPARE = Job("Compare on round 4", "How far apart the models lie")
SHOTS = [
    Shot("", "overview"),
    Shot("generate", "generate"),
    Shot("import", "import"),
    Shot("signatures", "signatures", FAULTS),
    Shot("heatmaps", "heatmaps"),
    Shot("rounds", "rounds"),
    Shot("clients", "clients", FAULTS),
    Shot("averaging", "averaging"),
    Shot("averaging", "comparison", (("view", "Side by side"),), COMPARE),
    Shot("report", "report"),
    Shot("tour", "tour", (("step", "1"),)),
]
LOOKS = [Look("light", 1440, "light"), Look("dark", 1440, "dark"), Look("narrow", 390, "light")]
HEIGHT = 900
JOB_MILLISECONDS = 300_000


def main(names: list[str]) -> None:
    """Take the shots of these names, or all."""
    unknown = set(names) - {shot.name for shot in SHOTS}
    if unknown:
        sys.exit(f"no shot is named {', '.join(sorted(unknown))}")
    IMAGES.mkdir(parents=True, exist_ok=True)
    shots = [shot for shot in SHOTS if not names or shot.name in names]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        data_dir = Path(folder, "data")
        data_dir.mkdir()
        browser = launch_browser(playwright)
        with running_dashboard(data_dir) as dashboard:
            for shot in shots:
                if shot.job is not None:
                    do(browser, dashboard.url + shot.address, shot.job)
            for look in LOOKS:
                for shot in shots:
                    take(browser, dashboard.url + shot.address, look, f"{shot.name}-{look.name}")
        browser.close()


def do(browser: Browser, url: str, job: Job) -> None:
    """Do a job once; every visitor sees what came of it."""
    with driver.watched_page(browser) as page:
        driver.open_address(page, url)
        page.get_by_role("button", name=job.button).click()
        heading = page.get_by_role("heading", name=job.heading)
        heading.wait_for(timeout=JOB_MILLISECONDS)


def take(browser: Browser, url: str, look: Look, name: str) -> None:
    """Write the picture of one page."""
    viewport = {"width": look.width, "height": HEIGHT}
    with driver.watched_page(browser, viewport=viewport, color_scheme=look.colours) as page:
        driver.open_address(page, url)
        grow_to_content(page, look.width)
        target = IMAGES / f"{name}.png"
        page.screenshot(path=target, animations="disabled")
    print(target.relative_to(IMAGES.parents[1]))


def grow_to_content(page: Page, width: int) -> None:
    """Make the window as high as the page: its content scrolls within, not with, the document."""
    height = page.get_by_test_id("stMain").evaluate("main => main.scrollHeight")
    page.set_viewport_size({"width": width, "height": max(HEIGHT, height)})
    driver.wait_for_app(page)


if __name__ == "__main__":
    main(sys.argv[1:])
