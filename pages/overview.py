"""What is in this dataset, and is it fit to be averaged?"""

import streamlit as st

from fedviz.dashboard import overview, round_values, state, tables, widgets, wording
from fedviz.signature import tff_type_of_round

state.run_app_first()
chosen = state.selection()
dataset, round_ = chosen.dataset, chosen.round

widgets.head("Overview", "What is in this dataset, and is it fit to be averaged?")
sentence, facts = st.empty(), st.container()
summary = round_values.summary_now(round_, chosen.aggregate)
health = overview.health(round_, summary)
with sentence:
    widgets.answer(wording.overview_answer(dataset, round_, health))
with facts:
    widgets.chips(wording.overview_chips(dataset, health))
widgets.metrics(wording.overview_metrics(chosen, summary))
overview.tour_link()

if summary is None:
    round_values.offer(round_, chosen.aggregate)
widgets.section(
    "Tensors",
    "One row for each tensor of the signature. Sort by a header; click a cell to look inside.",
)
tables.tensor_table(chosen, summary)

left, right = st.columns([11, 9], gap="large")
with left:
    widgets.section("Clients", wording.clients_note(dataset, round_))
    tables.client_table(chosen, summary)
with right:
    over_rounds = overview.place_for_courses(round_)
    widgets.section("TFF type of one round")
    st.code(tff_type_of_round(dataset.signature), language=None, wrap_lines=True)
    st.markdown(f":small[:gray[{wording.file_note(dataset)}]]")

with over_rounds:
    # Last, since all rounds are read for it: the rest is there meanwhile.
    overview.courses(dataset, round_)
widgets.how_to_read(
    "**Spread** is how far the clients lie apart, tensor by tensor: the standard deviation across "
    "them, over the tensor's root mean square. **Moved** is how far the aggregate lies from the "
    "server model that the round began with, **drift** how far the clients do. A large spread with "
    "a small move means that the clients pull in different directions. An **update** is "
    "client − server; **distance** is that to the aggregate. **Zeros** are values that are exactly "
    "0: a pruned or dead tensor has many."
)
