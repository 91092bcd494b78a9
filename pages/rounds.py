"""How did the model and its clients move over the rounds?"""

import streamlit as st

from fedviz.dashboard import cache, round_values, rounds, state, widgets, wording

state.run_app_first()
chosen = state.selection()
dataset = chosen.dataset

widgets.head("Rounds", "How did the model and its clients move over the rounds?")
sentence = st.empty()
reads_clients = cache.reads_every_round(dataset) or rounds.asked_to_read(dataset)
courses = round_values.round_courses(dataset, chosen.aggregate, reads_clients=reads_clients)
with sentence:
    widgets.answer(wording.rounds_answer(courses, cache.metric_courses(dataset)))
rounds.damaged(courses)
rounds.scrubber(chosen)

left, right = st.columns(2, gap="large")
with left:
    rounds.tensor_course(
        "Drift of each tensor",
        "How far it has come from the first server model, over that model's norm.",
        courses.drift,
        courses,
        chosen,
        "drift_course",
    )
    rounds.tensor_course(
        "Moved within each round",
        "‖aggregate − server‖ / ‖server‖.",
        courses.moved,
        courses,
        chosen,
        "moved_course",
    )
with right:
    if reads_clients:
        rounds.client_course(courses, chosen)
        rounds.tensor_course(
            "Disagreement between clients",
            "Standard deviation across them, over the tensor's root mean square.",
            courses.disagreement,
            courses,
            chosen,
            "disagreement_course",
        )
    else:
        rounds.offer_to_read(dataset)
rounds.multiples(chosen)
left, right = st.columns(2, gap="large")
rounds.measured(chosen, (left, right))

widgets.how_to_read(wording.HOW_TO_READ_ROUNDS)
