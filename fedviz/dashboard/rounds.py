"""The pieces of the rounds page: the scrubber with its pictures, courses, small multiples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from fedviz.analysis.before_after import HeatmapView
from fedviz.analysis.models import Role
from fedviz.analysis.round_courses import RoundCourses, foremost
from fedviz.dashboard import cache, kept, state, widgets
from fedviz.dashboard.state import Selection
from fedviz.dataset import WeightDataset
from fedviz.figures.heatmaps import heatmap_grid
from fedviz.figures.round_figures import small_multiples, tensor_courses
from fedviz.figures.rounds import accuracy_over_rounds
from fedviz.figures.text import byte_size, counted, number
from fedviz.pictures import heatmap_panels

__all__ = [
    "asked_to_read",
    "client_course",
    "damaged",
    "measured",
    "multiples",
    "offer_to_read",
    "scrubber",
    "tensor_course",
]

_SECONDS = 1.2
_MOST_MULTIPLES = 24
_ROLES: dict[str, Role] = {
    "aggregate": "aggregate",
    "aggregate - server": "aggregate-server",
    "server": "server",
}


@dataclass(frozen=True, eq=False)
class _Lines:
    """One number of every tensor, or client, in every round, and which is selected."""

    level: Literal["tensor", "client"]
    values: np.ndarray
    names: tuple[str, ...]
    selected: str


def damaged(courses: RoundCourses) -> None:
    """Which rounds cannot be read; the others are shown all the same."""
    if not courses.damaged:
        return
    with st.expander(
        f"{counted(len(courses.damaged), 'round')} cannot be read and left a gap",
        icon=":material/error:",
        type="compact",
    ):
        for round_, message in courses.damaged:
            st.error(widgets.literal(f"Round {round_}: {message}"), icon=":material/error:")


def scrubber(chosen: Selection) -> None:
    """A slider over the rounds with play, and the tensor in the round where it stands."""
    numbers = [each.number for each in chosen.dataset.rounds]
    if len(numbers) < 2:
        return
    is_playing = st.session_state.get("_playing") == chosen.dataset.path.name
    # A run of the whole page shows where it stands; only the clock's own runs go on.
    st.session_state["_stands"] = True
    st.fragment(_scrubber, run_every=_SECONDS if is_playing else None)(
        chosen, numbers, is_playing=is_playing
    )


def _scrubber(chosen: Selection, numbers: list[int], *, is_playing: bool) -> None:
    stands = st.session_state.pop("_stands", False)
    shown = st.session_state.get("_played", chosen.round.number)
    if not is_playing or shown not in numbers:
        shown = chosen.round.number
    if is_playing and not stands:
        # Before anything is drawn: a slow drawing is cut off by the clock's next run.
        if shown == numbers[-1]:
            _stop_at(shown)
        shown = numbers[min(numbers.index(shown) + 1, len(numbers) - 1)]
        st.session_state["_played"] = shown
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="scrubber"):
        label, icon = ("Pause", "pause") if is_playing else ("Play", "play_arrow")
        pressed = st.button(label, icon=f":material/{icon}:", key="play")
        st.session_state["scrub"] = shown
        st.select_slider(
            "Round",
            numbers,
            key="scrub",
            label_visibility="collapsed",
            width=480,
            on_change=_moved,
        )
        st.markdown(f":gray[round] **{shown}**", width="content")
    asked = st.session_state.pop("_scrubbed", None)
    if pressed and not is_playing:
        st.session_state["_playing"] = chosen.dataset.path.name
        # From the start again, where it stands at the end.
        st.session_state["_played"] = numbers[0] if shown == numbers[-1] else shown
        st.rerun()
    if asked is not None or (is_playing and pressed):
        _stop_at(shown if asked is None else asked)
    _pictures(chosen, shown)


def _stop_at(round_: int) -> NoReturn:
    """End playing, and select the round on every page."""
    st.session_state["_playing"] = None
    state.select(round=round_)
    st.rerun()


def _moved() -> None:
    st.session_state["_scrubbed"] = st.session_state["scrub"]


def _pictures(chosen: Selection, shown: int) -> None:
    """The tensor before and after that round's averaging."""
    with widgets.errors_in_place():
        round_ = chosen.dataset.round(shown)
        records = round_.conforming or round_.records
        if not records:
            st.markdown(":gray[This round has no clients.]")
            return
        aggregate = chosen.aggregate if chosen.aggregate in round_.aggregates else None
        pair = (records[0].id, records[0].id)
        roles: tuple[Role, ...] = ("server", "aggregate", "aggregate-server")
        view = cache.before_after(
            round_, chosen.tensor, pair, aggregate, HeatmapView(roles=roles, limit=_reach(chosen))
        )
        if not view.panels:
            st.markdown(":gray[This round has neither a server model nor an aggregate.]")
            return
        theme = widgets.theme()
        panels = heatmap_panels(view, round_, theme)
        widgets.chart(heatmap_grid(panels, view.limit, view.layout, theme), "played", wide="mid")


def _reach(chosen: Selection) -> float:
    """One scale for all rounds, so that what changes is the tensor."""
    numbers = _spaced([each.number for each in chosen.dataset.rounds], _MOST_MULTIPLES, None)
    role: Role = "aggregate" if chosen.aggregate else "server"
    return cache.tensor_over_rounds(
        chosen.dataset, chosen.tensor, chosen.aggregate, role, tuple(numbers)
    ).limit


def tensor_course(
    title: str, note: str, values: np.ndarray, courses: RoundCourses, chosen: Selection, key: str
) -> None:
    """One number of every tensor over the rounds; a click selects the tensor and the round."""
    _course(
        title, note, _Lines("tensor", values, courses.tensors, chosen.tensor), courses, chosen, key
    )


def client_course(courses: RoundCourses, chosen: Selection) -> None:
    """The norm of every client's update over the rounds; a click selects the client."""
    _course(
        "Norm of the clients' updates",
        "‖client − server‖ over the whole model, client by client.",
        _Lines("client", courses.client_updates, courses.clients, chosen.client),
        courses,
        chosen,
        "update_course",
    )


def _course(
    title: str, note: str, lines: _Lines, courses: RoundCourses, chosen: Selection, key: str
) -> None:
    shown = foremost(lines.values, lines.names, lines.selected)
    is_known = bool(np.isfinite(shown.values).any())
    if is_known and shown.band is not None:
        note += (
            f" Lines: {len(shown.names)} of {len(lines.names):,}, those that reach highest and the "
            "selected one; grey: between the 5th and 95th percentile of all."
        )
    widgets.section(title, note)
    if not is_known:
        st.markdown(
            ":gray[No round has both models that this compares. A round that is averaged gets an "
            "aggregate, if it is kept.]"
        )
        return
    figure = tensor_courses(
        courses.rounds,
        shown.values,
        shown.names,
        widgets.theme(),
        band=shown.band,
        selected=lines.selected,
        shown_round=chosen.round.number,
        is_share=lines.level == "tensor",
    )
    widgets.chart(figure, key, wide="mid", on_select=lambda: _clicked(key, lines.level))


def _clicked(key: str, level: str) -> None:
    points = st.session_state[key]["selection"]["points"]
    if points:
        state.select(**{level: _scalar(points[0].get("customdata"))}, round=int(points[0]["x"]))


def _scalar(value: object) -> object:
    return value[0] if isinstance(value, list) and value else value


def measured(chosen: Selection, places: Sequence[DeltaGenerator]) -> None:
    """Accuracy and loss over the rounds, side by side, where they were measured."""
    for metric, place in zip(("accuracy", "loss"), places, strict=True):
        found = cache.metric_courses(chosen.dataset, metric)
        if found is None:
            continue
        with place:
            widgets.section(
                f"{metric.capitalize()} over the rounds",
                "Each client alone, the server model and the aggregate, on held-out data.",
            )
            figure = accuracy_over_rounds(
                found.rounds,
                found.clients,
                found.aggregate,
                found.server,
                found.client_ids,
                metric,
                widgets.theme(),
                selected=[chosen.client],
                shown_round=chosen.round.number,
            )
            widgets.chart(figure, f"course_{metric}", wide="mid")


def asked_to_read(dataset: WeightDataset) -> bool:
    """Whether this visitor asked to read all clients of a large dataset."""
    return bool(st.session_state.get(f"_reads_{dataset.path.name}"))


def offer_to_read(dataset: WeightDataset) -> None:
    """Clients of a large dataset are read when somebody asks."""
    widgets.section("Updates and disagreement", "They need every client's weights in every round.")
    if st.button(f"Read all of it, {byte_size(dataset.nbytes)}", icon=":material/database:"):
        st.session_state[f"_reads_{dataset.path.name}"] = True
        st.rerun()


def multiples(chosen: Selection) -> None:
    """One tensor in every round, or in evenly spaced ones."""
    everything = [each.number for each in chosen.dataset.rounds]
    shown = _spaced(everything, _MOST_MULTIPLES, chosen.round.number)
    count = counted(len(everything), "round")
    note = f"All {count}" if len(shown) == len(everything) else f"{len(shown)} of {count}"
    widgets.section(f"{widgets.literal(chosen.tensor)} over the rounds", f"{note}, on one scale.")
    role = _ROLES[kept.choice("Shown", list(_ROLES), "shown")]
    found = cache.tensor_over_rounds(
        chosen.dataset, chosen.tensor, chosen.aggregate, role, tuple(shown)
    )
    if all(panel.matrix is None for panel in found.panels):
        st.markdown(":gray[No round has these values.]")
        return
    figure = small_multiples(
        [(panel.round, panel.matrix) for panel in found.panels],
        found.limit,
        found.layout,
        widgets.theme(),
        shown_round=chosen.round.number,
    )
    widgets.chart(figure, "multiples", wide="wide")
    st.markdown(
        f":small[:gray[Colours reach from −{number(found.limit)} to {number(found.limit)}; "
        "below is violet, above yellow.]]"
    )


def _spaced(numbers: Sequence[int], most: int, kept_round: int | None) -> list[int]:
    """Evenly spaced rounds, the first, the last and the kept one among them."""
    if len(numbers) <= most:
        return list(numbers)
    places = np.linspace(0, len(numbers) - 1, most - 1).round().astype(int)
    found = {numbers[place] for place in places}
    return sorted(found | ({kept_round} if kept_round is not None else set()))
