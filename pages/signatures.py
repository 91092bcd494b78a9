"""Do all clients have the same tensors, in the same order, with the same shapes and dtypes?"""

import streamlit as st

from fedviz.dashboard import (
    mismatch_detail,
    mismatches,
    pasting,
    repairing,
    state,
    verdicts,
    widgets,
    wording,
)

state.run_app_first()
chosen = state.selection()

widgets.head(
    "Signatures",
    "Do all clients have the same tensors, in the same order, with the same shapes and dtypes?",
)
sentence, facts = st.empty(), st.container()
examined = mismatches.examine(chosen)
report = examined.report
with sentence:
    clients = len(chosen.round.records)
    values = examined.looked_at_values
    answer = wording.signatures_answer(report, clients, looked_at_values=values)
    widgets.answer(f"{answer} {verdicts.headline(chosen, report)}".rstrip())
with facts:
    widgets.chips(wording.signatures_chips(report, chosen.round))
mismatches.offer_values(examined)

left, right = st.columns([10, 9], gap="large")
with left:
    widgets.section(
        "Client × tensor",
        "Pale cells are as expected. A colour and a letter mark each mismatch; click a cell.",
    )
    mismatches.matrix(examined)
    mismatches.legend(examined)
    mismatches.group_lines(examined)
with right:
    mismatch_detail.detail(examined)

verdicts.section(chosen, report)
widgets.section("Mismatches", "Likely causes are guesses from the pattern of the difference.")
mismatches.table(examined)
mismatches.observations(report)
repairing.section(chosen, report)
mismatches.ground_truth(chosen.dataset, report)
pasting.section()

widgets.how_to_read(
    "Each row is a client, each column a tensor of the **reference**. Change the reference to "
    "*the majority*, or to one client, if the server model itself is in doubt. In large cohorts "
    "clients with the same mismatches share a row, the gravest first, and tensors in which "
    "nothing is wrong share a column. Letters repeat what colours say. TFF checks types before "
    "it runs; values it never looks at, so one NaN makes the mean NaN."
)
