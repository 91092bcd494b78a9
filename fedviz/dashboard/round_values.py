"""Statistics of a round's values: at once where that takes a moment, on demand where it does not.

``st.cache_resource`` cannot say whether it holds something, nor report progress from within; what
is computed here is kept by hand, keyed as everything is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import streamlit as st

from fedviz.analysis import round_courses as over_rounds
from fedviz.analysis.readable import readable_rounds
from fedviz.analysis.round_courses import RoundCourses
from fedviz.analysis.statistics import RoundSummary, movement_by_round, summarise_round
from fedviz.dashboard import cache, widgets
from fedviz.dataset import Aggregate, FileIdentity, Round, WeightDataset
from fedviz.errors import FedvizError
from fedviz.figures.text import byte_size, counted
from fedviz.progress import Progress, ProgressCallback, silent

__all__ = [
    "are_few",
    "distances_by_round",
    "movements",
    "offer",
    "round_courses",
    "rounds_are_few",
    "say_what_is_damaged",
    "summary",
    "summary_now",
]

_FEW_BYTES = 256 * 2**20
_FEW_TENSORS = 300
_FEW_READS = 2000
_MOST_KEPT = 64
_ASKED = "_values_of_rounds"

Key = tuple[Any, ...]


@st.cache_resource(show_spinner=False)
def _kept() -> OrderedDict[Key, RoundSummary]:
    return OrderedDict()


def _key(round_: Round, aggregate: str | None, fresh: FileIdentity | None = None) -> Key:
    return round_.dataset.identity, round_.number, aggregate if fresh is None else fresh


def summary(
    round_: Round,
    aggregate: str | None,
    progress: ProgressCallback = silent,
    fresh: FileIdentity | None = None,
) -> RoundSummary:
    """Statistics of a round, against one of its aggregates, or one in a file of its own."""
    kept, key = _kept(), _key(round_, aggregate, fresh)
    if key in kept:
        return kept[key]
    if fresh is not None:
        model: Aggregate | None = cache.unsaved_aggregate(fresh)
    else:
        model = round_.aggregates[aggregate] if aggregate else None
    kept[key] = found = summarise_round(round_, model, progress)
    while len(kept) > _MOST_KEPT:
        kept.popitem(last=False)
    return found


def are_few(round_: Round) -> bool:
    """Whether reading every value of the round takes no more than a moment."""
    return _bytes(round_) <= _FEW_BYTES and len(round_.dataset.signature) <= _FEW_TENSORS


def rounds_are_few(dataset: WeightDataset) -> bool:
    """Whether following every tensor over the rounds takes no more than a moment."""
    return len(dataset.rounds) * len(dataset.signature) <= _FEW_READS


def _bytes(round_: Round) -> int:
    return len(round_.conforming) * sum(spec.nbytes for spec in round_.dataset.signature)


def summary_now(
    round_: Round, aggregate: str | None, fresh: FileIdentity | None = None
) -> RoundSummary | None:
    """The statistics, where they are known or quick, or where this visitor asked for them.

    While they are computed a bar shows how far that is; whatever the visitor does next ends it.
    """
    key = _key(round_, aggregate, fresh)
    if key in _kept() or are_few(round_):
        return summary(round_, aggregate, fresh=fresh)
    if key not in st.session_state.get(_ASKED, ()):
        return None
    bar = st.progress(0.0, text="Reading the weights of the round …")

    def report(progress: Progress) -> None:
        done, total = byte_size(progress.done), byte_size(progress.total)
        bar.progress(progress.fraction, text=f"Reading the weights: {done} of {total}")

    found = summary(round_, aggregate, report, fresh)
    bar.empty()
    return found


def offer(
    round_: Round,
    aggregate: str | None,
    fresh: FileIdentity | None = None,
    *,
    said: str = "From the index alone.",
    missing: str = "norms, spread, drift, NaN and histograms",
) -> None:
    """Say what was not looked at, and offer to do it."""
    size, tensors = byte_size(_bytes(round_)), counted(len(round_.dataset.signature), "tensor")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(
            f":gray[{said} The values, {size} in {tensors}, were not looked at: {missing} come "
            "from them.]",
            width="content",
        )
        st.button(
            "Look at the values",
            icon=":material/search_insights:",
            on_click=lambda: st.session_state.setdefault(_ASKED, set()).add(
                _key(round_, aggregate, fresh)
            ),
        )


@st.cache_resource(show_spinner=False, max_entries=4096, hash_funcs=cache.HASH_KEYS)
def movements(dataset: WeightDataset, tensor: str, aggregate: str) -> list[float]:
    """‖aggregate − server‖ of a tensor over the rounds; NaN where a round cannot be read."""
    course: list[float] = []
    for each in dataset.rounds:
        try:
            course += movement_by_round([each], tensor, aggregate)
        except FedvizError:
            course.append(float("nan"))
    return course


@st.cache_resource(show_spinner=False, max_entries=16, hash_funcs=cache.HASH_KEYS)
def distances_by_round(dataset: WeightDataset, aggregate: str) -> dict[str, list[float]]:
    """Each client's distance to the aggregate, round by round; none for a large dataset.

    NaN where the client took no part, or a round cannot be read.
    """
    if dataset.nbytes > _FEW_BYTES or not rounds_are_few(dataset):
        return {}
    rounds, _ = readable_rounds(dataset)
    clients = dict.fromkeys(record.id for each in rounds for record in each.records)
    found = [_distances(each, aggregate) for each in rounds]
    return {c: [each.get(c, float("nan")) for each in found] for c in clients}


def _distances(round_: Round, aggregate: str) -> dict[str, float]:
    if aggregate not in round_.aggregates:
        return {}
    try:
        values: Sequence[float] = summary(round_, aggregate).distances.tolist()
    except FedvizError:
        return {}
    return dict(zip((record.id for record in round_.conforming), values, strict=True))


@st.cache_resource(show_spinner="Reading every round …", max_entries=16, hash_funcs=cache.HASH_KEYS)
def round_courses(
    dataset: WeightDataset, aggregate: str | None, *, reads_clients: bool
) -> RoundCourses:
    """How every tensor and client moves over the rounds."""
    return over_rounds.round_courses(dataset, aggregate, summary if reads_clients else None)


def say_what_is_damaged(dataset: WeightDataset) -> None:
    """Which other rounds cannot be read: they are left out of what goes over the rounds."""
    problems = readable_rounds(dataset)[1]
    if problems:
        more = f" And {counted(len(problems) - 1, 'more round')}." if len(problems) > 1 else ""
        st.warning(
            f"{counted(len(problems), 'round')} cannot be read and left out of the courses: "
            f"{widgets.literal(problems[0])}{more}",
            icon=":material/warning:",
        )
