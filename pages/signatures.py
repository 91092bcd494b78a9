"""Do all clients have the same tensors, in the same order, with the same shapes and dtypes?"""

import streamlit as st

from fedviz.dashboard import cache, mismatches, state, widgets, wording
from fedviz.figures.signature_matrix import signature_matrix_figure

state.run_app_first()
chosen = state.selection()
dataset, round_ = chosen.dataset, chosen.round

widgets.head(
    "Signatures",
    "Do all clients have the same tensors, in the same order, with the same shapes and dtypes?",
)
sentence = st.empty()
reference = mismatches.choose_reference(round_)
report = cache.checked(round_, reference)
with sentence:
    widgets.answer(wording.signatures_answer(report, len(round_.records), reference))
widgets.chips(wording.signatures_chips(report, round_))

left, right = st.columns([10, 9], gap="large")
with left:
    widgets.section(
        "Client × tensor",
        "Pale cells are as expected. A colour and a letter mark each mismatch; click a cell.",
    )
    view = mismatches.matrix(report, round_)
    widgets.chart(
        signature_matrix_figure(view, widgets.theme()),
        "matrix",
        wide="mid",
        on_select=mismatches.on_cell,
    )
    mismatches.legend()
with right:
    mismatches.detail(report, chosen)

widgets.section(
    "Mismatches", "Grouped by client; likely causes are guesses from the pattern of the difference."
)
mismatches.table(report)
mismatches.ground_truth(dataset)

widgets.how_to_read(
    "Each row is a client, each column a tensor of the **reference**. Change the reference to "
    "*majority*, or to one client, if the server model itself is in doubt. Letters repeat what "
    "colours say. TFF checks types before it runs and refuses every kind of mismatch but "
    "**N**: values it never looks at, so one NaN makes the mean NaN."
)
