"""The signature matrix of a large cohort in a real browser: rows of groups, clicks, search."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from fedviz.signature import Signature, TensorSpec
from tests.browser import driver
from tests.browser.test_pages import CELL_CENTRE
from tests.dashboard.datasets import write

pytestmark = pytest.mark.browser

SPECS = tuple(TensorSpec(f"layer_{i}/kernel", (4, 3), "float32") for i in range(50))
TURNED = Signature((SPECS[0], TensorSpec(SPECS[1].name, (3, 4), "float32"), *SPECS[2:]))
SHORT = Signature(SPECS[:-1])


@pytest.fixture
def large(dashboard):
    clients = [f"c{i:02d}" for i in range(60)]
    own = dict.fromkeys(clients[10:17], TURNED) | {"c40": SHORT}
    path = write(
        dashboard.data_dir / "large.h5", clients, signature=Signature(SPECS), own_signatures=own
    )
    yield path
    path.unlink()


def test_a_large_cohort_is_grouped_clicked_and_searched(page, dashboard, large):
    driver.open_address(page, f"{dashboard.url}/signatures?dataset={large.name}")
    driver.wait_for_heatmaps(page)
    heading = page.get_by_role("heading", name="Client c")
    expect(heading).to_have_text("Client c40, layer_49/kernel")
    page.mouse.click(*page.evaluate(CELL_CENTRE, ["c10", "layer_1/kernel"]))
    expect(heading).to_have_text("Client c10, layer_1/kernel")
    expect(page.get_by_text("The 7 clients of this group")).to_be_visible()

    page.locator(".st-key-kinds button", has_text="missing").click()
    expect(heading).to_have_text("Client c40, layer_49/kernel")
    driver.wait_for_app(page)
    driver.open_address(page, page.url)
    expect(page.locator(".yaxislayer-above .ytick")).to_have_text(["c40"])

    page.get_by_role("textbox", name="Search").fill("layer_1/")
    page.get_by_role("textbox", name="Search").press("Enter")
    page.get_by_role("button", name="Show everything").click()
    expect(page.locator(".yaxislayer-above .ytick")).to_have_count(3)
