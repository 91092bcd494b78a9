"""What is inside this tensor, before and after averaging?"""

import streamlit as st

from fedviz.dashboard import cache, panels, state, widgets, windows, wording
from fedviz.figures.contributions import contribution_bars
from fedviz.figures.distributions import overlaid_histograms
from fedviz.figures.heatmaps import heatmap_grid
from fedviz.figures.minimap import minimap

state.run_app_first()
chosen = state.selection()

widgets.head("Heatmaps", "What is inside this tensor, before and after averaging?")
if not chosen.client:
    widgets.answer("This round has no clients: there is nothing to look at.")
    st.stop()
sentence = st.empty()
pair = panels.pair(chosen)
drawing = panels.controls(chosen)
view = cache.before_after(chosen.round, chosen.tensor, pair, chosen.aggregate, drawing.view)
cells = windows.chosen_cells(view)
# Before what stands above it: the browser draws the page anew for each part that comes apart.
pictures = heatmap_grid(
    panels.figures(view, drawing, chosen),
    view.limit,
    view.layout,
    widgets.theme(),
    selected=cells,
    is_symlog=drawing.is_symlog,
)
with sentence:
    widgets.answer(wording.heatmap_answer(view, pair))
windows.way_back(view)
widgets.heatmaps(pictures, "grid", windows.told(view), wide="wide")

left, right = st.columns([5, 3], gap="large")
with left, widgets.errors_in_place():
    if cells is not None:
        story = cache.movers(
            chosen.round, chosen.tensor, drawing.view.plane, cells, pair, chosen.aggregate
        )
        title, note = panels.who_moved(story)
        widgets.section(title, note)
        widgets.chart(
            contribution_bars(
                story.clients,
                story.contributions,
                story.total,
                widgets.theme(),
                total_name=panels.total_name(story),
            ),
            "contributions",
            wide="mid",
        )
        widgets.section(
            "The numbers in this cell" if story.num_cells == 1 else "Means over these cells",
            "Outlined in every panel. The cell that moved most is chosen first; click another.",
        )
        panels.cell_table(story)
with right:
    if not view.is_whole:
        widgets.section("Where you are")
        whole = cache.before_after(
            chosen.round, chosen.tensor, pair, chosen.aggregate, panels.whole(drawing)
        )
        first = whole.panels[0]
        widgets.chart(minimap(first.matrix, view.window, first.limit, widgets.theme()), "minimap")
    series = panels.distributions(view, chosen)
    if series:
        everyone = panels.all_clients(view, drawing, chosen)
        widgets.section("Values in view", "Share of the cells, in bins over the shared scale.")
        figure = overlaid_histograms(series, everyone, view.limit, widgets.theme())
        widgets.chart(figure, "distributions")
        if everyone is not None:
            st.markdown(f":small[:gray[{wording.clients_in_grey(everyone)}]]")
    panels.counts_table(view)

widgets.how_to_read(wording.HOW_TO_READ_HEATMAPS)
