"""Which browser the tests and the screenshots drive.

``python -m tests.browser.chromium`` prints its path, and exits with 1 where there is none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Playwright, sync_playwright

SYSTEM_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# A browser that has just been installed would first call home; the tests must not.
ARGUMENTS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_browser(playwright: Playwright) -> Path | None:
    """The browser to drive: the one that FEDVIZ_BROWSER names, the system's, Playwright's own."""
    return next((path for path in _candidates(playwright) if _starts(path)), None)


def launch_browser(playwright: Playwright) -> Browser:
    """Start the browser without a window.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    path = find_browser(playwright)
    if path is None:
        raise FileNotFoundError(
            "no Chromium or Chrome was found; `make test` installs one, "
            "or name one in FEDVIZ_BROWSER"
        )
    # Chromium's sandbox refuses to start as root.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=path, args=ARGUMENTS + sandbox)


def _candidates(playwright: Playwright) -> Iterator[Path]:
    if named := os.environ.get("FEDVIZ_BROWSER"):
        yield Path(named)
        return
    for name in SYSTEM_BROWSERS:
        if found := shutil.which(name):
            yield Path(found)
    yield Path(playwright.chromium.executable_path)


def _starts(path: Path) -> bool:
    """Whether it runs: some systems ship a stub that only says where to get the browser."""
    try:
        subprocess.run([path, "--version"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


if __name__ == "__main__":
    with sync_playwright() as _playwright:
        _found = find_browser(_playwright)
    if _found is None:
        sys.exit("no browser found")
    print(_found)
