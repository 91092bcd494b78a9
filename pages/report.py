"""One file about this round, for people who have no fedviz."""

import streamlit as st

from fedviz.dashboard import reporting, state, widgets

state.run_app_first()
chosen = state.selection()

widgets.head("Report", "What would you hand to somebody who was not there?")
widgets.answer(reporting.answer(chosen))

left, right = st.columns([4, 15], gap="large")
with left:
    reporting.make(chosen)
with right:
    reporting.preview(chosen)

widgets.how_to_read(
    "The report is one HTML file that loads nothing and sends nothing: it opens from a disk, a "
    "mail or a web server, light or dark as the reader's screen is, and prints. Its plots answer "
    "to the mouse. The command makes the same file: `fedviz report FILE --out report.html`."
)
