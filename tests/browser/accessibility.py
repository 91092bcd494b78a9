"""What axe-core finds on a page, but for what is Streamlit's own and cannot be mended here."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

GRAVE = ("serious", "critical")

STREAMLITS_OWN = {
    # The input that opens the file dialog is hidden and out of the tab order; the button and the
    # drop zone around it carry the label.
    "label": 'data-testid="stFileUploaderDropzo',
    # On a narrow screen the pages' links are in a sidebar, which says of itself that it is closed.
    "aria-allowed-attr": '<section class="stSidebar',
}
"""By rule: a part of the element's source, as axe-core shortens it. All else is ours to mend."""


def violations(page: Page) -> list[str]:
    """Serious and critical violations that are ours, one line for each element."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:160]}"
        for rule in found
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
        if not _is_streamlits(rule["id"], node)
    ]


def _is_streamlits(rule: str, node: dict[str, object]) -> bool:
    return rule in STREAMLITS_OWN and STREAMLITS_OWN[rule] in str(node["html"])
