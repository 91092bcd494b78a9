"""Make a dataset: perturbed clients, or real federated training."""

import streamlit as st

from fedviz.dashboard import generating, state, widgets, wording
from fedviz.figures.partition import label_partition_figure

state.run_app_first()
widgets.head("Generate", "What would ten clients, or a thousand, make of this model?")
sentence = st.empty()

left, right = st.columns([8, 11], gap="large")
with left:
    form = generating.form()
    generating.start_button(form)
    generating.progress_and_outcome()
with right:
    generating.model_section(form)
    shares = generating.shares(form)
    if shares is not None:
        widgets.section(
            "Each client's labels",
            "How many examples of each label each client would train on, and how many in all.",
        )
        widgets.chart(
            label_partition_figure(
                shares.counts, shares.client_ids, shares.class_names, widgets.theme()
            ),
            "partition",
            wide="mid",
        )
with sentence:
    widgets.answer(wording.generate_answer(form.request))

widgets.how_to_read(
    "**Perturb** adds Gaussian noise to one model: a quick way to a dataset of any size. **Train** "
    "runs federated averaging in TensorFlow Federated: each client trains the server model on its "
    "own share of the data, and the mean of what they send is the next server model. The smaller "
    "the alpha of a **Dirichlet** partition, the more the clients' labels differ. **Faults** are "
    "injected on purpose, and the dataset keeps the ground truth of them."
)
