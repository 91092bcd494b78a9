"""The report as a file on a disk, made in the dashboard; the tour from step to step."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from fedviz.report import write_report
from tests.browser import driver
from tests.browser.accessibility import violations
from tests.dashboard.datasets import NASTY, NASTY_FILE, write
from tests.dashboard.test_odd_datasets import NASTY_SIGNATURE, OTHER_SIGNATURE

pytestmark = pytest.mark.browser

DRAWN = "() => [...document.querySelectorAll('.plot')].every(p => p.querySelector('.main-svg'))"
JOB_MILLISECONDS = 120_000


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_a_report_opens_from_a_disk_and_keeps_to_itself(browser, tmp_path, colours):
    own = {f"3{NASTY}": OTHER_SIGNATURE}
    path = write(
        tmp_path / NASTY_FILE,
        clients=[NASTY, f"2{NASTY}", f"3{NASTY}"],
        signature=NASTY_SIGNATURE,
        own_signatures=own,
    )
    out = tmp_path / "report.html"
    write_report(path, out)
    requests = []
    viewport = {"width": 1280, "height": 900}
    with driver.watched_page(browser, viewport=viewport, color_scheme=colours) as page:
        page.on("request", lambda request: requests.append(request.url))
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        page.goto(out.as_uri())
        page.wait_for_function(DRAWN)
        assert page.locator(".plot").count() >= 4
        expect(page.locator("h1")).to_contain_text(NASTY_FILE)
        made_of_names = "main a[href*='//'], :is(strong, b, tspan[style*=bold]):text-is('x')"
        assert page.locator(made_of_names).count() == 0
        ink = page.evaluate("getComputedStyle(document.body).color")
        assert ink == {"light": "rgb(27, 33, 38)", "dark": "rgb(230, 234, 237)"}[colours]
        if colours == "light":
            assert violations(page) == []
            overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            page.set_viewport_size({"width": 390, "height": 900})
            assert page.evaluate(overflow) == 0
            plot = page.locator("#tensor-0")
            plot.scroll_into_view_if_needed()
            plot.hover()
            with page.expect_download() as download:
                plot.locator(".modebar-btn[data-title*=SVG]").click()
            assert download.value.suggested_filename == "tensor-0.svg"
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_a_report_is_made_and_taken_along(page, dashboard, tmp_path):
    driver.open_address(page, f"{dashboard.url}/report?dataset=digits-mlp.h5&round=2")
    page.get_by_role("button", name="Make the report of round 2").click()
    expect(page.get_by_role("button", name="Download")).to_be_visible(timeout=JOB_MILLISECONDS)
    driver.wait_for_app(page)
    shown = page.frame_locator("iframe").locator("h1")
    expect(shown).to_have_text("digits-mlp.h5, round 2")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "digits-mlp-round2.html"
    target = tmp_path / "taken.html"
    download.value.save_as(target)
    assert "<title>digits-mlp.h5, round 2</title>" in target.read_text("utf-8")


def test_the_tour_goes_on_and_back_and_is_in_the_address(page, dashboard):
    driver.open_address(page, f"{dashboard.url}/tour?dataset=digits-mlp.h5&step=3")
    title = page.locator("h1")
    expect(title).to_have_text("What leaves the house: 2,410 numbers.")
    page.get_by_role("button", name="Next: average").click()
    expect(title).to_have_text("Ten models become one.")
    expect(page).to_have_url(re.compile(r"[?&]step=4\b"))
    driver.wait_for_heatmaps(page)
    page.get_by_role("button", name="Next: repeat").click()
    expect(title).to_have_text("One model, better than each of the ten.")
    driver.wait_for_app(page)
    page.get_by_role("button", name="Back").click()
    expect(title).to_have_text("Ten models become one.")
    driver.wait_for_app(page)
    page.set_viewport_size({"width": 390, "height": 900})
    main = page.get_by_test_id("stMain")
    assert main.evaluate("main => main.scrollWidth - main.clientWidth") == 0


def test_a_view_is_taken_along(page, dashboard, tmp_path):
    driver.open_address(page, f"{dashboard.url}/?dataset=digits-mlp.h5")
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Numbers (CSV)").click()
    target = tmp_path / "numbers.csv"
    download.value.save_as(target)
    assert target.read_text().startswith("trace,x,y,value,label\n")
    page.get_by_text("SVG", exact=True).click()
    driver.wait_for_app(page)
    page.keyboard.press("Escape")
    chart = page.locator(".js-plotly-plot")
    chart.hover()
    with page.expect_download() as download:
        chart.locator(".modebar-btn").click()
    assert download.value.suggested_filename == "fedviz-courses.svg"
