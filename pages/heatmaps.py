"""What is inside this tensor, before and after averaging?"""

import streamlit as st

from fedviz.dashboard import cache, panels, state, widgets, wording
from fedviz.figures.contributions import contribution_bars
from fedviz.figures.heatmaps import heatmap_grid

state.run_app_first()
chosen = state.selection()

widgets.head("Heatmaps", "What is inside this tensor, before and after averaging?")
if not chosen.client:
    widgets.answer("This round has no clients: there is nothing to look at.")
    st.stop()
sentence = st.empty()
options = panels.controls()
view = cache.before_after(
    chosen.round, chosen.tensor, panels.pair(chosen), chosen.aggregate, *options
)
with sentence:
    widgets.answer(wording.heatmap_answer(view, panels.pair(chosen)))

widgets.chart(
    heatmap_grid(
        panels.figures(view, chosen),
        view.limit,
        view.layout,
        widgets.theme(),
        selected=panels.outlined(view, chosen),
    ),
    panels.grid_key(chosen),
    wide="wide",
    on_select=lambda: panels.on_box(chosen),
    selection_mode="box",
)
panels.note(view)

index = panels.chosen_cell(view, chosen)
if index is not None:
    story = cache.cell_story(
        chosen.round, chosen.tensor, index, panels.pair(chosen), chosen.aggregate
    )
    left, right = st.columns([5, 3], gap="large")
    with left:
        widgets.section(
            f"Which client moved cell {list(index)}",
            "Each client's weight in the mean × (client − server). They add up to the mean's move.",
        )
        widgets.chart(
            contribution_bars(story.clients, story.contributions, story.total, widgets.theme()),
            "contributions",
            wide="mid",
        )
    with right:
        widgets.section(
            "The numbers in this cell",
            "Outlined in every panel. The cell that moved most is chosen first; drag a box to "
            "choose another.",
        )
        panels.cell_table(story)

widgets.how_to_read(
    "Blue is negative, red positive, and the page's own colour is exactly 0. All panels share one "
    "scale; values beyond it take the end colour, and the share of such cells stands under each "
    "histogram. Differences are magnified by the factor in their title, so that they can be seen. "
    "Hatched cells are NaN or infinite. A tensor with many cells is drawn in blocks, each showing "
    "its value furthest from 0, so that a single spike survives; the axes keep the tensor's own "
    "indices."
)
