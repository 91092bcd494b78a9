"""Federated learning in five steps, with the open dataset's own numbers."""

import streamlit as st

from fedviz.dashboard import state, tour, tour_wording, widgets

state.run_app_first()
chosen = state.selection()

step = tour.choose_step()
left, right = st.columns([5, 11], gap="large", vertical_alignment="center")
with left:
    tour.words(step, chosen)
    tour.buttons(step)
with right, st.container(key="tour_picture"):
    tour.picture(step, chosen)
widgets.metrics(tour_wording.numbers(tour.story(chosen)), width=210)
