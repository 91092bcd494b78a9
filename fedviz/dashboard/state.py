"""The one selection that all pages share: dataset, round, client, other client, tensor.

It is held by the selectboxes of the breadcrumb, bound to the URL: an address copied into another
browser shows the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from fedviz.dashboard import cache, folders, widgets
from fedviz.dataset import Round, WeightDataset
from fedviz.errors import FedvizError

__all__ = [
    "LEVELS",
    "Selection",
    "ask_for",
    "choose",
    "keep",
    "look_at",
    "mark_app_run",
    "run_app_first",
    "select",
    "selection",
]

LEVELS = ("dataset", "round", "client", "other", "tensor")
_WIDTHS = {"dataset": 210, "round": 84, "client": 112, "other": 112, "tensor": 190}
_PREFIXES = {"round": "round", "client": "client", "other": "and"}


@dataclass(frozen=True)
class Selection:
    """What the page is about.

    ``client`` and ``other`` are conforming clients where there are any; ``aggregate`` names the
    round's aggregate that is shown, None where it has none.
    """

    dataset: WeightDataset
    round: Round
    client: str
    other: str
    tensor: str
    aggregate: str | None


def mark_app_run() -> None:
    """Note that it is app.py that runs the page."""
    st.session_state["_app_runs"] = True


def run_app_first() -> None:
    """Run app.py instead, where this page runs without it.

    Until a server's first ``st.navigation``, Streamlit takes a folder named pages for its older
    kind of multipage app, and a visitor who opens a page by its path would get that script alone.
    There is no public switch for it (Streamlit 1.60).
    """
    if not st.session_state.pop("_app_runs", False):
        PagesManager.uses_pages_directory = False
        st.rerun()


def selection() -> Selection:
    """The selection of this run; a page without a dataset ends with what to do about it."""
    chosen: Selection | None = st.session_state.get("_selection")
    if chosen is None:
        st.stop()
    return chosen


def keep(**values: object) -> None:
    """Change levels that this page does not show; the pages that do will show them.

    A page that showed them before has left its own choice behind, which would win.
    """
    for level, value in values.items():
        st.session_state[f"_kept_{level}"] = value
    select(**values)


def ask_for(dataset: str) -> None:
    """Show another dataset from the next run on; for code that runs after the breadcrumb."""
    select(dataset=dataset)


def select(**levels: object) -> None:
    """Select something everywhere, from the next run on; a level that is unknown there stays."""
    for level, value in levels.items():
        st.session_state[f"_asked_{level}"] = value


def look_at(dataset: str) -> NoReturn:
    """Go to the overview of a dataset, from a page without the breadcrumb.

    By its address: what code sets in a widget that is not drawn yet reaches no URL, and the next
    page could fall back to the first dataset.
    """
    st.switch_page("pages/overview.py", query_params={"dataset": dataset})


def choose(levels: tuple[str, ...]) -> None:
    """Draw the breadcrumb with these levels and keep what it selects."""
    st.session_state["_selection"] = None
    names = list(folders.datasets())
    if not names:
        return
    first = folders.first_dataset()
    name = _crumb("dataset", sorted(names, key=lambda n: n != first))
    try:
        dataset = cache.opened(folders.dataset_path(name))
    except FedvizError as error:
        st.session_state["_unreadable"] = ("dataset", str(error))
        return
    try:
        st.session_state["_selection"] = _within(dataset, levels)
        st.session_state["_unreadable"] = None
    except FedvizError as error:
        st.session_state["_unreadable"] = ("round", str(error))


def _within(dataset: WeightDataset, levels: tuple[str, ...]) -> Selection | None:
    """The selection below a dataset; None where it has no round yet."""
    if not dataset.rounds:
        return None
    numbers = [each.number for each in reversed(dataset.rounds)]
    chosen = dataset.round(_level("round", numbers, levels))
    records = chosen.conforming or chosen.records
    clients = [record.id for record in records]
    return Selection(
        dataset,
        chosen,
        client=_level("client", clients, levels),
        other=_level("other", clients[::-1], levels),
        tensor=_level("tensor", list(dataset.signature.names), levels),
        aggregate=_shown_aggregate(chosen),
    )


def _shown_aggregate(round_: Round) -> str | None:
    """The newest aggregate unless the averaging page chose another."""
    names = list(round_.aggregates)
    wanted = st.session_state.get("shown_aggregate")
    return wanted if wanted in names else (names[-1] if names else None)


def _level(level: str, options: list[Any], levels: tuple[str, ...]) -> Any:
    """The value of a level; a page that does not show it keeps what another page chose."""
    if level in levels and options:
        return _crumb(level, options)
    kept = st.session_state.get(f"_kept_{level}")
    return kept if kept in options else next(iter(options), "")


def _crumb(level: str, options: list[Any]) -> Any:
    if level not in ("dataset", "other"):
        st.markdown(":gray[›]", width="content")
    if level in _PREFIXES:
        st.markdown(f":gray[{_PREFIXES[level]}]", width="content")
    asked = st.session_state.pop(f"_asked_{level}", None)
    if asked in options:
        st.session_state[level] = asked
    _say_if_unknown(level, options)
    _hold(level, options)
    value = st.selectbox(
        level,
        options,
        key=level,
        label_visibility="collapsed",
        width=_WIDTHS[level],
        bind="query-params",
    )
    st.session_state[f"_kept_{level}"] = value
    return value


def _hold(level: str, options: list[Any]) -> None:
    """Tell the browser what is selected, where its address does not.

    A click on another page's link may reach the server before the browser has taken up the
    selection: it would draw the first option, and its next run would select that (Streamlit 1.60).
    """
    held = st.session_state.get(level, st.session_state.get(f"_kept_{level}"))
    if level not in st.query_params and held in options:
        st.session_state[level] = held


def _say_if_unknown(level: str, options: list[Any]) -> None:
    """Streamlit drops a value that the address asks for in vain without a word."""
    asked = st.query_params.get(level)
    if asked is not None and asked not in [str(option) for option in options]:
        text = widgets.literal(f"There is no {level} {asked} here; showing {options[0]}.")
        st.toast(text, icon=":material/info:")
