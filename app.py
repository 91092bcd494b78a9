"""The dashboard's entry: page config, navigation, and the selection that every page shares."""

from pathlib import Path

import streamlit as st

from fedviz.dashboard import preloading

preloading.wait()

from fedviz.dashboard import browser, cache, garbage, opening, state, widgets  # noqa: E402

ROOT = Path(__file__).parent
LOGO = str(ROOT / "fedviz" / "dashboard" / "logo.svg")

PAGES = {
    "Overview": ("overview", ":material/dataset:", ("dataset", "round")),
    "Generate": ("generate", ":material/add_circle:", ()),
    "Import": ("import", ":material/upload_file:", ()),
    "Signatures": ("signatures", ":material/rule:", ("dataset", "round")),
    "Heatmaps": ("heatmaps", ":material/grid_on:", state.LEVELS),
    "Rounds": ("rounds", ":material/timeline:", ("dataset", "round", "client", "tensor")),
    "Clients": ("clients", ":material/hub:", ("dataset", "round", "client", "other")),
    "Averaging": ("averaging", ":material/merge:", ("dataset", "round")),
    "Report": ("report", ":material/description:", ("dataset", "round")),
    "Tour": ("tour", ":material/slideshow:", ("dataset", "round")),
}

st.set_page_config(page_title="fedviz", page_icon=LOGO, layout="wide", initial_sidebar_state="auto")
st.logo(LOGO, size="medium")
widgets.style()

page = st.navigation(
    [
        # The default page is at /. Its own path is another, for /overview, which visitors type.
        st.Page(
            f"pages/{file}.py",
            title=title,
            icon=icon,
            default=file == "overview",
            url_path="start" if file == "overview" else file,
        )
        for title, (file, icon, _) in PAGES.items()
    ]
    + [st.Page("pages/overview.py", title="Overview", url_path="overview", visibility="hidden")],
    position="top",
)
levels = PAGES[page.title][2]
if levels:
    with widgets.crumbs():
        state.choose(levels)
        opening.upload_button()
    opening.guard()
browser.follow()
state.mark_app_run()
with widgets.errors_in_place():
    page.run()
cache.engine().warm_up()
garbage.set_modules_aside()
