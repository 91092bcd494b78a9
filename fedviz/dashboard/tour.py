"""The pieces of the tour: which step, and its picture."""

from __future__ import annotations

import numpy as np
import streamlit as st

from fedviz.analysis import before_after as comparison
from fedviz.analysis import story as stories
from fedviz.analysis.before_after import BeforeAfter
from fedviz.analysis.courses import client_scores
from fedviz.dashboard import cache, panels, tour_wording, widgets, wording
from fedviz.dashboard.state import Selection
from fedviz.dataset import Round
from fedviz.figures.apart import scores_apart
from fedviz.figures.mosaic import image_mosaic_figure
from fedviz.figures.partition import label_partition_figure
from fedviz.figures.rounds import accuracy_over_rounds
from fedviz.figures.side_by_side import WeightsPanel, weights_side_by_side
from fedviz.figures.text import panel_title, percentage
from fedviz.figures.theme import client_colour
from fedviz.training.client_examples import ClientExamples, client_examples

__all__ = ["buttons", "choose_step", "picture", "story", "words"]

_LABELS = tuple(f"{i} {name}" for i, name in enumerate(tour_wording.SHORT, 1))
_STEP = "tour_step"
_MOST_ROWS = 12


def choose_step() -> int:
    """The step, 1 to 5, which is in the address too."""
    if _STEP not in st.session_state:
        asked = st.query_params.get("step", "")
        known = asked in [str(i) for i in range(1, len(_LABELS) + 1)]
        st.session_state[_STEP] = _LABELS[int(asked) - 1 if known else 0]
    label = st.segmented_control(
        "Step of the tour", _LABELS, key=_STEP, label_visibility="collapsed", required=True
    )
    step = _LABELS.index(str(label)) + 1
    st.query_params["step"] = str(step)
    return step


def story(chosen: Selection) -> stories.RoundStory:
    """The facts of the round that is shown."""
    return stories.round_story(chosen.round, chosen.aggregate)


def words(step: int, chosen: Selection) -> None:
    """What is said at this step."""
    text = tour_wording.step_text(
        step, story(chosen), has_images=_examples(chosen.round) is not None
    )
    st.markdown(f":gray[Step {step} of {len(_LABELS)}, with this dataset's own numbers]")
    st.title(text.title, anchor=False)
    for paragraph in text.paragraphs:
        st.markdown(paragraph)


def buttons(step: int) -> None:
    """On and back; at the end the dataset itself."""
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        if step < len(_LABELS):
            st.button(
                f"Next: {tour_wording.SHORT[step].lower()}",
                type="primary",
                icon=":material/arrow_forward:",
                on_click=_go_to,
                args=(step + 1,),
            )
        if step > 1:
            st.button(
                "Back", icon=":material/arrow_back:", on_click=_go_to, args=(step - 1,), key="back"
            )
        st.page_link("pages/overview.py", label="Open the dataset", icon=":material/dataset:")


def _go_to(step: int) -> None:
    st.session_state[_STEP] = _LABELS[step - 1]


def picture(step: int, chosen: Selection) -> None:
    """The step's picture, from the open dataset."""
    (_data, _apart, _send, _average, _repeat)[step - 1](chosen)


@st.cache_resource(show_spinner=False, max_entries=16, hash_funcs=cache.HASH_KEYS)
def _examples(round_: Round) -> ClientExamples | None:
    return client_examples(round_.dataset.recipe, round_.label_counts)


def _data(chosen: Selection) -> None:
    round_, counts = chosen.round, chosen.round.label_counts
    ids = [record.id for record in round_.records]
    if counts is None:
        examples = np.array([[record.num_examples or 0] for record in round_.records][:_MOST_ROWS])
        figure = label_partition_figure(
            examples, ids[:_MOST_ROWS], ["all examples"], widgets.theme()
        )
        widgets.chart(figure, "tour_examples", wide="mid", exported=False)
        return
    order, top, share = stories.labels_by_skew(counts)
    rows = order[:_MOST_ROWS]
    shown = [ids[i] for i in rows]
    found = _examples(round_)
    if found is None:
        names = [str(label) for label in range(counts.shape[1])]
        figure = label_partition_figure(counts[rows], shown, names, widgets.theme())
    else:
        notes = [f"{percentage(share[i], 0)} are {top[i, 0]} or {top[i, 1]}" for i in rows]
        figure = image_mosaic_figure(found.images[rows], shown, notes, widgets.theme())
    widgets.chart(figure, "tour_data", wide="mid", exported=False)


def _apart(chosen: Selection) -> None:
    facts, round_ = story(chosen), chosen.round
    if facts.best is None or facts.metric is None:
        _weights(chosen, "tour_apart", ("server", "client", "client-server"))
        return
    scores = client_scores(round_, facts.metric)
    places = {record.id: i for i, record in enumerate(round_.records)}
    ranked = stories.ranked_clients(facts, scores)[:_MOST_ROWS]
    figure = scores_apart(
        ranked,
        [scores[client] for client in ranked],
        [client_colour(widgets.theme(), places[client]) for client in ranked],
        widgets.theme(),
        before=facts.before,
        is_share=facts.is_share,
        title=f"{facts.metric} on examples that nobody trained on",
    )
    widgets.chart(figure, "tour_apart", wide="mid", exported=False)


def _send(chosen: Selection) -> None:
    _weights(chosen, "tour_send", ("client", "other"))


def _average(chosen: Selection) -> None:
    _weights(chosen, "tour_average", ("client", "other", "aggregate"))


def _repeat(chosen: Selection) -> None:
    courses = cache.metric_courses(chosen.dataset)
    if courses is None:
        _weights(chosen, "tour_repeat", ("server", "aggregate", "aggregate-server"))
        return
    figure = accuracy_over_rounds(
        courses.rounds,
        courses.clients,
        courses.aggregate,
        courses.server,
        courses.client_ids,
        courses.metric,
        widgets.theme(),
        shown_round=chosen.round.number,
    )
    widgets.chart(figure.update_layout(height=380), "tour_repeat", wide="mid", exported=False)


@st.cache_resource(show_spinner=False, max_entries=16, hash_funcs=cache.HASH_KEYS)
def _view(round_: Round, tensor: str, pair: tuple[str, str], aggregate: str | None) -> BeforeAfter:
    return comparison.before_after(round_, tensor, pair, aggregate)


def _weights(chosen: Selection, key: str, roles: tuple[str, ...]) -> None:
    tensor, clients = stories.most_telling_tensor(chosen.round), story(chosen).clients
    if tensor is None or not clients:
        st.markdown(":gray[No participant of this round has weights that can be drawn here.]")
        return
    pair = clients[0], clients[min(1, len(clients) - 1)]
    view = _view(chosen.round, tensor, pair, chosen.aggregate)
    drawn = [
        WeightsPanel(
            panel_title(panel.role, panel.client),
            panels.colour(panel, chosen),
            panel.matrix.values,
            view.limit,
        )
        for panel in view.panels
        if panel.role in roles
    ]
    widgets.chart(weights_side_by_side(drawn, widgets.theme()), key, wide="mid", exported=False)
    st.markdown(f":small[:gray[The layer {wording.plain(tensor)}.]]")
