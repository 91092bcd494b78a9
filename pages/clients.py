"""Who is alike, who drifts, and who does not fit in?"""

import streamlit as st

from fedviz.dashboard import clients, state, widgets

state.run_app_first()
chosen = state.selection()

widgets.head("Clients", "Who is alike, who drifts, and who does not fit in?")
view = clients.look(chosen)
if view is None:
    clients.offer(chosen)
    st.stop()
clients.answer_and_chips(view)

left, right = st.columns([5, 6], gap="large")
with left:
    clients.similarity(view)
    clients.tensor_divergence(view)
    clients.silhouettes(view)
with right:
    clients.paths(view)
    clients.score_table(view)
    clients.directions(view)
clients.detectors(view)

widgets.how_to_read(
    "An **update** is client − server model. Its *cosine* to another says whether the two point "
    "the same way (1), have nothing to do with each other (0) or work against each other (−1); "
    "their lengths do not matter to it. The tree joins the clients that are most alike first. In "
    "the **paths** all clients, server models and aggregates of all rounds lie in one plane: "
    "what is near there may still be apart in the other directions, and the axes say how much of "
    "the variance they hold. The **score** is the largest robust z-score of four measures: 0 is "
    "the median client. It says that a client is unusual, not that it is malicious: a client with "
    "labels that nobody else has is unusual too. A **silhouette** below 0 says that a client is "
    "nearer to another cluster than to its own."
)
