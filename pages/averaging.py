"""What does the aggregate gain over each client, and what would another aggregator have given?"""

import streamlit as st

from fedviz.dashboard import averaging, cache, compared, comparing, state, widgets, wording
from fedviz.dashboard.state import Selection
from fedviz.figures.averaging import accuracy_strip


def one_aggregator(chosen: Selection) -> None:
    sentence = st.empty()
    has_result = averaging.has_result(chosen)
    rule, pictures = widgets.controls_and_pictures(has_result=has_result)
    with rule:
        averaging.rule(chosen)
    outcome = averaging.fresh_outcome(chosen)
    shown = averaging.shown(chosen, outcome)
    with sentence:
        widgets.answer(wording.averaging_answer(shown))
    with rule:
        averaging.outcome_actions(chosen, outcome)

    with pictures:
        if shown.metric:
            widgets.chart(
                accuracy_strip(
                    shown.client_ids,
                    shown.clients,
                    averaging.scores(shown),
                    widgets.theme(),
                    server=shown.server,
                    metric_name=f"{shown.metric} on held-out examples",
                ),
                "strip",
                wide="mid",
            )
        if shown.name is None:
            averaging.invitation()
        else:
            left, right = st.columns([10, 11], gap="large")
            with left:
                averaging.distances(shown, chosen, outcome)
            with right:
                averaging.changed(shown, chosen)
            averaging.aggregate_table(shown)
            averaging.measurements(chosen, outcome)


def side_by_side(chosen: Selection) -> None:
    found = comparing.latest(chosen)
    view = compared.ranked(found, chosen.round) if found else None
    widgets.answer(wording.comparison_answer(view))
    controls, pictures = widgets.controls_and_pictures(has_result=found is not None)
    with controls:
        comparing.form(chosen, found)
    with pictures:
        comparing.results(found, view)


state.run_app_first()
selection = state.selection()
widgets.head(
    "Averaging",
    "What does the aggregate gain over each client, and what would another aggregator have given?",
)
if comparing.choose_view() == comparing.ONE:
    one_aggregator(selection)
else:
    side_by_side(selection)

cache.engine().warm_up()
widgets.how_to_read(
    "The mean, and all rules that TFF offers, are computed by TensorFlow Federated, in a worker "
    "process of its own; robust rules beyond them by NumPy. Left of the "
    "dotted line a model is worse than the one the round began with. Clients alone often are: "
    "each saw only its own labels. **Weighting** by num_examples lets a client count as much as "
    "the data it trained on; uniform counts each client once. **Whom the mean follows** needs no "
    "aggregate without each client: with w a client's share, the mean moves by w / (1 − w) times "
    "the client's distance to it, which the inner products of the updates give."
)
