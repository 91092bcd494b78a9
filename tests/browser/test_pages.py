"""Every page in a real browser: links, clicks, colours, narrow screens, names, two visitors."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from fedviz.figures.theme import theme_for
from tests.browser import driver
from tests.browser.accessibility import violations
from tests.browser.server import running_dashboard
from tests.dashboard.datasets import NASTY, NASTY_FILE, write
from tests.dashboard.test_odd_datasets import NASTY_SIGNATURE, OTHER_SIGNATURE

pytestmark = pytest.mark.browser

PAGES = {"": "Overview", "generate": "Generate", "signatures": "Signatures"}
PAGES |= {"heatmaps": "Heatmaps", "clients": "Clients", "averaging": "Averaging"}
PAGES |= {"rounds": "Rounds", "import": "Import", "report": "Report"}
PAGES |= {"tour": "Nine participants, nine different views of the same digits."}
FAULTS = "digits-faults.h5"

CELL_CENTRE = """([client, tensor]) => {
    const plot = document.querySelector('.js-plotly-plot');
    const squares = plot.data.at(-1), {xaxis, yaxis} = plot._fullLayout;
    const i = squares.customdata.findIndex(c => c[0] === client && c[1] === tensor);
    const {left, top} = plot.getBoundingClientRect();
    return [
        left + xaxis._offset + xaxis.l2p(squares.x[i]),
        top + yaxis._offset + yaxis.l2p(squares.y[i]),
    ];
}"""
OVERFLOW = """() => [document.documentElement, document.querySelector('[data-testid="stMain"]')]
    .map(element => element.scrollWidth - element.clientWidth)"""


def test_a_click_on_the_matrix_opens_expected_against_found(page, dashboard):
    driver.open_address(page, f"{dashboard.url}/signatures?dataset={FAULTS}")
    driver.wait_for_heatmaps(page)
    heading = page.get_by_role("heading", name="Client c0")
    expect(heading).to_have_text("Client c01, dense/kernel")
    page.mouse.click(*page.evaluate(CELL_CENTRE, ["c02", "dense_1/bias"]))
    expect(heading).to_have_text("Client c02, dense_1/bias")
    detail = page.get_by_test_id("stTable").first
    expect(detail).to_contain_text("float32")
    expect(detail).to_contain_text("float64")


def test_a_fresh_server_opens_a_deep_link_the_same_for_everybody(browser, tmp_path):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    query = "dataset=digits-cnn.h5&round=2&client=c03&tensor=dense%2Fbias"
    wanted = {"dataset": "digits-cnn.h5", "round": "2", "client": "c03", "tensor": "dense/bias"}
    seen = []
    with running_dashboard(data_dir) as dashboard:
        for _ in range(2):
            with driver.watched_page(browser) as page:
                driver.open_address(page, f"{dashboard.url}/heatmaps?{query}")
                driver.wait_for_heatmaps(page)
                for level, value in wanted.items():
                    expect(page.locator(f".st-key-{level} input")).to_have_value(value)
                seen.append(page.locator("h2").first.inner_text())
    assert seen[0] == seen[1]
    assert seen[0].startswith("Averaging moved this tensor by")


def test_the_overview_has_an_address_of_its_own_too(page, dashboard):
    for path in ("", "overview"):
        driver.open_address(page, f"{dashboard.url}/{path}?dataset={FAULTS}&round=0")
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        driver.wait_for_app(page)
        assert page.get_by_text("Page not found").count() == 0
        expect(page.locator(".st-key-dataset input")).to_have_value(FAULTS)


@pytest.mark.parametrize(("width", "colours"), [(1440, "light"), (1440, "dark"), (390, "light")])
def test_every_page_fits_the_screen_and_is_accessible(browser, dashboard, tmp_path, width, colours):
    viewport = {"width": width, "height": 900}
    with driver.watched_page(browser, viewport=viewport, color_scheme=colours) as page:
        for path, title in PAGES.items():
            driver.open_address(page, f"{dashboard.url}/{path}?dataset={FAULTS}")
            expect(page.locator("h1")).to_have_text(title)
            if path != "tour":
                expect(page.locator("h2").first).to_be_visible()
            name = f"{path or 'overview'}-{colours}-{width}"
            page.screenshot(path=tmp_path / f"{name}.png", animations="disabled")
            if width == 1440:
                assert violations(page) == [], name
            assert page.evaluate(OVERFLOW) == [0, 0], f"{title} overflows"
            light = page.evaluate("getComputedStyle(document.querySelector('.stApp')).colorScheme")
            assert light == colours


@pytest.mark.parametrize("path", ["heatmaps", "rounds", "clients"])
def test_charts_follow_a_theme_that_changes(browser, dashboard, path):
    """Our component's and Streamlit's own, and nobody clicks."""
    with driver.watched_page(browser, color_scheme="light") as page:
        driver.open_address(page, f"{dashboard.url}/{path}?dataset=digits-mlp.h5")
        driver.wait_for_app(page)
        for colours in ("light", "dark", "light"):
            page.emulate_media(color_scheme=colours)
            page.wait_for_function(
                """ink => {
                    const plots = [...document.querySelectorAll('.js-plotly-plot')];
                    return plots.length && plots.every(p => p._fullLayout.font.color === ink);
                }""",
                arg=theme_for(colours).ink,
            )


def test_names_from_files_are_only_text(page, dashboard):
    path = write(
        dashboard.data_dir / NASTY_FILE,
        clients=[NASTY, f"2{NASTY}", f"3{NASTY}"],
        signature=NASTY_SIGNATURE,
        own_signatures={f"3{NASTY}": OTHER_SIGNATURE},
    )
    try:
        driver.open_address(page, dashboard.url)
        page.locator(".st-key-dataset input").click()
        page.get_by_role("option", name=NASTY_FILE).click()
        expect(page.locator("h2").first).to_contain_text("1 of 3 clients")
        for name in ("Signatures", "Heatmaps", "Averaging"):
            driver.open_page(page, name)
            main = page.get_by_test_id("stMain")
            made_of_names = (
                "a[href*='//x'], .katex, :is(strong, b, tspan[style*=bold]):text-is('x')"
            )
            assert main.locator(made_of_names).all_inner_texts() == []
            if name == "Heatmaps":
                expect(page.locator("h2").first).to_contain_text(NASTY)
            if name == "Signatures":
                heading = page.get_by_role("heading", name="Client 3")
                expect(heading).to_have_text(f"Client 3{NASTY}, {NASTY}")
    finally:
        path.unlink()


def test_two_visitors_see_what_each_has_chosen(browser, dashboard):
    with driver.watched_page(browser) as one, driver.watched_page(browser) as other:
        driver.open_address(one, f"{dashboard.url}/heatmaps?dataset=digits-mlp.h5")
        driver.open_address(other, f"{dashboard.url}/heatmaps?dataset=digits-cnn.h5")
        one.locator(".st-key-client input").click()
        one.get_by_role("option", name="c04", exact=True).click()
        expect(one.locator("h2").first).to_contain_text("; c04 ")
        driver.open_page(other, "Signatures")
        expect(other.locator("h2").first).to_contain_text("All 8 clients")
        driver.open_page(one, "Signatures")
        expect(one.locator("h2").first).to_contain_text("All 10 clients")
        driver.open_page(other, "Heatmaps")
        expect(other.locator("h2").first).to_contain_text("; c00 ")
