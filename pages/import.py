"""Make a dataset of weights from anywhere: one file for each client."""

import streamlit as st

from fedviz.dashboard import import_help, importing, state, widgets, wording

state.run_app_first()
widgets.head("Import", "Whose weights are these, and do they belong together?")
sentence = st.empty()

left, right = st.columns([8, 11], gap="large")
with left:
    form = importing.form()
report = importing.outcome(form)
with right:
    listed = importing.listed_clients(form)
    if report is not None:
        importing.report_tables(report)
    elif not form.uploads:
        import_help.before_upload()
with left:
    importing.start_button(form, listed)
    importing.progress(form, report)
with sentence:
    widgets.answer(wording.import_answer(report, listed.clients if listed else ()))

widgets.how_to_read(
    "Every file is one client; a zip, a folder or a fedviz dataset may hold many. The "
    "**reference** is the signature that the clients are compared with: that of the server model, "
    "if you give one, or the one that most clients have. Clients that differ are kept as they "
    "are: nothing is cast, padded or left out without a word. Pickles (.pt, .pth) are never "
    "opened, since they can run code: save the weights as .safetensors."
)
