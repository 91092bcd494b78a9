"""The driver itself: what it reports is what the other tests of this folder rely on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.driver import open_address, watched_page
from tests.browser.server import LeftoverProcessError, is_running, running_dashboard

pytestmark = pytest.mark.browser

# Out of the dashboard's session and without its environment, as TFF's worker may be.
APP_WITH_A_CHILD = """
import subprocess
import streamlit as st
st.set_page_config(page_icon="📊")
st.cache_resource(subprocess.Popen)(["sleep", "600"], start_new_session=True, env={})
"""


def evaluate(browser: Browser, script: str) -> None:
    with watched_page(browser) as page:
        page.evaluate(script)


def open_and_end(browser: Browser, app: Path, data_dir: Path) -> None:
    with (
        running_dashboard(data_dir, app, stop_seconds=2) as dashboard,
        watched_page(browser) as page,
    ):
        open_address(page, dashboard.url)


def test_an_error_on_the_console_fails_the_page(browser):
    with pytest.raises(AssertionError, match="console: broken"):
        evaluate(browser, "console.error('broken')")


def test_an_uncaught_error_fails_the_page(browser):
    throw = "new Promise(done => { setTimeout(done, 10); setTimeout(() => { throw 'broken' }) })"
    with pytest.raises(AssertionError, match="uncaught error: broken"):
        evaluate(browser, throw)


def test_a_call_to_another_host_fails_the_page(browser):
    call = "fetch('http://192.0.2.1/', {signal: AbortSignal.timeout(1)}).catch(() => 0)"
    with pytest.raises(AssertionError, match=re.escape("another host: http://192.0.2.1/")):
        evaluate(browser, call)


def test_a_process_that_outlives_the_dashboard_is_named_and_ended(browser, tmp_path):
    app = tmp_path / "app_with_a_child.py"
    app.write_text(APP_WITH_A_CHILD, encoding="utf-8")
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with pytest.raises(LeftoverProcessError, match=r"\d+ sleep 600") as caught:
        open_and_end(browser, app, data_dir)
    (pid,) = re.findall(r"(\d+) sleep 600", str(caught.value))
    assert not is_running(int(pid))
