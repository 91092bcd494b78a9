"""Make a dataset of weights from anywhere: one file for each client."""

import streamlit as st

from fedviz.dashboard import importing, state, widgets, wording

state.run_app_first()
widgets.head("Import", "Whose weights are these, and do they belong together?")
sentence = st.empty()

left, right = st.columns([8, 11], gap="large")
with left:
    form = importing.form()
    importing.start_button(form)
    report = importing.progress_and_outcome()
with right:
    if report is None:
        importing.formats()
    else:
        importing.report_tables(report)
with sentence:
    widgets.answer(wording.import_answer(report, len(form.uploads)))

widgets.how_to_read(
    "Every file is one client; a zip or a fedviz dataset may hold many. The **reference** is the "
    "signature that the clients are compared with: that of the server model, if you give one, or "
    "the one that most clients have. Clients that differ are kept as they are: nothing is cast, "
    "padded or left out without a word. Pickles (.pt, .pth) are never opened, since they can run "
    "code: save the weights as .safetensors."
)
