"""What is in this dataset, and is it fit to be averaged?"""

import streamlit as st

from fedviz.dashboard import cache, state, tables, widgets, wording
from fedviz.figures.rounds import accuracy_over_rounds
from fedviz.signature import tff_type_of_round

state.run_app_first()
chosen = state.selection()
dataset, round_ = chosen.dataset, chosen.round
summary = cache.summary(round_, chosen.aggregate)
health = cache.round_health(round_, chosen.aggregate)

widgets.head("Overview", "What is in this dataset, and is it fit to be averaged?")
widgets.answer(wording.overview_answer(dataset, round_, health))
widgets.chips(wording.overview_chips(dataset, health))
widgets.metrics(wording.overview_metrics(chosen, summary))

left, right = st.columns([11, 9], gap="large")
with left:
    widgets.section(
        "Tensors",
        "One row for each tensor of the signature. Sort by a header; click a cell to look inside.",
    )
    tables.tensor_table(chosen, summary)
    courses = cache.metric_courses(dataset)
    if courses is not None:
        widgets.section(
            f"{courses.metric.capitalize()} over the rounds",
            "Each client alone, the server model and the aggregate, on held-out data.",
        )
        widgets.chart(
            accuracy_over_rounds(
                courses.rounds,
                courses.clients,
                courses.aggregate,
                courses.server,
                courses.client_ids,
                courses.metric,
                widgets.theme(),
                shown_round=round_.number,
            ),
            "courses",
            wide="mid",
        )
with right:
    widgets.section("Clients", wording.clients_note(dataset, round_))
    tables.client_table(chosen, summary)
    widgets.section("TFF type of one round")
    st.code(tff_type_of_round(dataset.signature), language=None, wrap_lines=True)
    st.markdown(f":small[:gray[{wording.file_note(dataset)}]]")

widgets.how_to_read(
    "**Spread** is how far the clients lie apart, tensor by tensor: the standard deviation across "
    "them, over the tensor's root mean square. **Moved** is how far the aggregate lies from the "
    "server model that the round began with. A large spread with a small move means that the "
    "clients pull in different directions. An **update** is client − server; **distance** is that "
    "to the aggregate."
)
