"""The pieces of the clients page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import streamlit as st

from fedviz.analysis.client_gram import RoundGram
from fedviz.analysis.clustering import Similarity
from fedviz.analysis.divergence import compare_pair, divergence
from fedviz.analysis.outliers import THRESHOLD, Detector, OutlierScores
from fedviz.dashboard import client_cache, client_wording, folders, jobs, state, tasks, widgets
from fedviz.dashboard.engine import JobState
from fedviz.dashboard.state import Selection
from fedviz.figures.detectors import RocCurve, roc_figure
from fedviz.figures.divergence import MOST_ROWS, MOST_TENSORS, divergence_figure
from fedviz.figures.paths import ModelPath, paths_figure
from fedviz.figures.similarity import SimilarityCells, similarity_figure
from fedviz.figures.text import counted, decimals, percentage
from fedviz.figures.updates import directions_figure, silhouettes_figure

__all__ = [
    "ClientsView",
    "answer_and_chips",
    "detectors",
    "directions",
    "look",
    "offer",
    "paths",
    "score_table",
    "silhouettes",
    "similarity",
    "tensor_divergence",
]

_JOB = "gram_job"
_WHOLE = "whole model"
_MEASURES: tuple[Literal["cosine", "distance"], ...] = ("cosine", "distance")
_MOST_ROWS_SHOWN, _ROW_HEIGHT = 14, 34
_SCORE_COLUMNS = ("client", "score", "reason", "length", "cosine", "cluster")

column = st.column_config


@dataclass(frozen=True)
class ClientsView:
    """What the page is about: the selection, and what is known of the round's clients."""

    chosen: Selection
    gram: RoundGram
    alike: Similarity
    scores: OutlierScores

    @property
    def selected(self) -> tuple[str, str]:
        """Clients A and B."""
        return self.chosen.client, self.chosen.other

    @property
    def outliers(self) -> list[str]:
        """The clients above the threshold, the most unusual first."""
        places = [i for i in self.scores.outliers if self.scores.finite[i]]
        return [self.gram.clients[i] for i in places]

    @property
    def index(self) -> dict[str, int]:
        """Each client's place in the cohort's order, which decides its colour."""
        here = [record.id for record in self.chosen.round.records]
        return {c: i for i, c in enumerate(dict.fromkeys([*here, *self.chosen.dataset.client_ids]))}


def look(chosen: Selection) -> ClientsView | None:
    """Compare the clients; None where that is not possible, or has not been done yet."""
    if client_wording.nothing_to_compare(chosen.round):
        return None
    gram = client_cache.compared(chosen.round)
    if gram is None:
        return None
    alike = client_cache.similar(chosen.round, None)
    return ClientsView(chosen, gram, alike, client_cache.scored(chosen.round, chosen.aggregate))


def offer(chosen: Selection) -> None:
    """What to do where there is nothing to show yet."""
    why = client_wording.nothing_to_compare(chosen.round)
    if why:
        widgets.answer(why)
        if chosen.round.divergent:
            st.page_link("pages/signatures.py", label="Signatures", icon=":material/rule:")
        return
    widgets.answer(client_wording.offer(chosen.round, client_cache.bytes_to_read(chosen.round)))
    job = jobs.current(_JOB)
    if job is not None and job.state is JobState.DONE:
        jobs.forget(_JOB)
    busy = job is not None and job.active
    if not busy and st.button("Compare the clients", type="primary", icon=":material/hub:"):
        jobs.start(
            _JOB,
            f"comparing the clients of round {chosen.round.number}",
            tasks.run_grams,
            chosen.dataset.path,
            chosen.round.number,
            folders.gram_folder(),
        )
        st.rerun()
    with st.container(width=560):
        jobs.panel(_JOB)
    st.markdown(
        ":small[:gray[It is done once. What is kept, beside your datasets, is a number for each "
        "pair of clients; every view below follows from it.]]"
    )


def answer_and_chips(view: ClientsView) -> None:
    """The computed sentence and its facts."""
    labels = client_wording.label_notes(view.chosen.round)
    widgets.answer(client_wording.clients_answer(view.gram, view.scores, view.alike, labels))
    widgets.chips(
        client_wording.clients_chips(view.chosen.round, view.gram, view.scores, view.alike)
    )


def _select(client: str, other: str | None = None, tensor: str | None = None) -> None:
    """Select everywhere; this runs before the breadcrumb is drawn.

    Who becomes client A and was client B changes places with A: the page compares two.
    """
    if other is None and client == st.session_state.get("other"):
        other = st.session_state.get("client")
    wanted = {"client": client, "other": other, "tensor": tensor}
    levels = {level: value for level, value in wanted.items() if value is not None}
    for level in ("client", "other"):
        if level in levels:
            st.session_state[level] = levels[level]
    state.keep(**levels)


def _on_click(key: str, take: Callable[[Any], None]) -> Callable[[], None]:
    """Called when a mark with ``customdata`` is clicked."""

    def on_select() -> None:
        points = st.session_state[key]["selection"]["points"]
        if points and points[-1].get("customdata") is not None:
            take(points[-1]["customdata"])

    return on_select


def _on_client(key: str) -> Callable[[], None]:
    def take(found: Any) -> None:
        _select(found if isinstance(found, str) else found[0])

    return _on_click(key, take)


def similarity(view: ClientsView) -> None:
    """The matrix of all pairs, and what the two selected clients have in common."""
    head = st.container()
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        parts = [_WHOLE, *view.gram.by_tensor]
        part = st.selectbox(
            "Of", parts, key="similarity_of", label_visibility="collapsed", width=200
        )
        measure = st.segmented_control(
            "Measure",
            _MEASURES,
            default=_MEASURES[0],
            key="similarity_measure",
            label_visibility="collapsed",
            required=True,
        )
    tensor = None if part == _WHOLE else part
    alike = client_cache.similar(view.chosen.round, tensor)
    matrix, lines = client_cache.folded(view.chosen.round, tensor, measure or _MEASURES[0])
    with head:
        note = client_wording.similarity_note(alike, folded=matrix.is_folded)
        widgets.section("Similarity of updates", note)
    if len(alike.rows) < 2:
        st.markdown(":gray[Fewer than two clients have finite values here.]")
        return
    names = [view.gram.clients[row] for row in alike.rows]
    firsts = [int(alike.clusters.labels[group[0]]) for group in matrix.groups]
    cells = SimilarityCells(
        matrix.values,
        [[names[i] for i in group] for group in matrix.groups],
        [[(names[i], names[j]) for i, j in row] for row in matrix.pairs],
        [i for i in range(1, len(firsts)) if firsts[i] != firsts[i - 1]],
        lines,
        measure or _MEASURES[0],
    )
    variant = f"{view.chosen.round.number}_{parts.index(part)}_{measure}"
    widgets.chart(
        similarity_figure(cells, widgets.theme(), selected=view.selected),
        "similarity",
        variant=variant,
        wide="mid",
        on_select=_on_click(f"similarity_{variant}", lambda pair: _select(pair[0], pair[1])),
    )
    one, other = view.selected
    if one != other:
        pair = compare_pair(view.gram, one, other)
        st.markdown(f":small[{client_wording.pair_sentence(one, other, pair)}]")


def paths(view: ClientsView) -> None:
    """All models in one plane, as paths over the rounds."""
    space = client_cache.space(view.chosen.round)
    if space is None:
        widgets.section("Paths over the rounds", "Not all rounds have been placed yet.")
        return
    widgets.section("Paths over the rounds", client_wording.paths_note(space.gram))
    found = _paths(space, view)
    variant = str(view.chosen.round.number)
    aggregates = found["aggregate"]
    shown = view.chosen.aggregate
    servers = found["server"]
    widgets.chart(
        paths_figure(
            found["client"],
            servers[0] if servers else None,
            sorted(aggregates, key=lambda path: path.name != shown),
            space.projection.shares,
            widgets.theme(),
            shown_round=view.chosen.round.number,
            selected=view.selected,
            marked=view.outliers,
        ),
        "paths",
        variant=variant,
        wide="mid",
        on_select=_on_client(f"paths_{variant}"),
    )


def _paths(space: client_cache.Space, view: ClientsView) -> dict[str, list[ModelPath]]:
    index = view.index
    places: dict[tuple[str, str], list[int]] = {}
    for i, point in enumerate(space.gram.points):
        places.setdefault((point.role, point.subject), []).append(i)
    found: dict[str, list[ModelPath]] = {"client": [], "server": [], "aggregate": []}
    for (role, name), at in places.items():
        rounds = [space.gram.points[i].round for i in at]
        path = ModelPath(name, rounds, space.projection.places[at], index.get(name, 0))
        found[role].append(path)
    return found


def _order(view: ClientsView) -> np.ndarray:
    """Places of the clients, the most unusual first."""
    return np.argsort(-view.scores.combined, kind="stable")


def tensor_divergence(view: ClientsView) -> None:
    """In which tensor each client lies far off."""
    model = view.chosen.aggregate
    found = divergence(view.gram, model, _order(view), MOST_ROWS, MOST_TENSORS)
    widgets.section("Divergence, client by tensor", client_wording.divergence_note(found, model))
    variant = str(view.chosen.round.number)
    widgets.chart(
        divergence_figure(
            found.ratios,
            found.clients,
            found.tensors,
            widgets.theme(),
            rest=f"median of {found.rest:,} more" if found.rest else "",
            selected=(view.chosen.client, view.chosen.tensor),
        ),
        "divergence",
        variant=variant,
        wide="mid",
        on_select=_on_click(f"divergence_{variant}", lambda cell: _select(cell[0], tensor=cell[1])),
    )


def score_table(view: ClientsView) -> None:
    """One row for each client, the most unusual first; a click selects it."""
    widgets.section(
        "Outlier scores",
        f"The largest of four robust z-scores: length, direction, neighbours, one tensor. Above "
        f"{THRESHOLD:g} counts as an outlier.",
    )
    order = _order(view)
    labels = client_wording.label_notes(view.chosen.round)
    rows = [_score_row(view, int(i), labels) for i in order]
    apart = [record.id for record in view.chosen.round.divergent]
    rows += [{"client": name, "reason": "another signature: not compared"} for name in apart]
    finite = view.scores.combined[view.scores.finite]
    names = [view.gram.clients[i] for i in order]

    def on_select() -> None:
        cells = st.session_state["outliers"]["selection"]["cells"]
        if cells and int(cells[0][0]) < len(names):
            _select(names[int(cells[0][0])])

    shown = len(rows) <= _MOST_ROWS_SHOWN
    st.dataframe(
        pd.DataFrame(rows, columns=list(_SCORE_COLUMNS)),
        hide_index=True,
        height="content" if shown else (_MOST_ROWS_SHOWN + 1) * _ROW_HEIGHT + 12,
        row_height=_ROW_HEIGHT,
        on_select=on_select,
        selection_mode="single-cell",
        placeholder="–",
        key="outliers",
        column_config={
            "client": column.TextColumn("Client", width=72),
            "score": column.ProgressColumn(
                "Score",
                format="%.1f",
                min_value=0,
                max_value=float(max(2 * THRESHOLD, finite.max(initial=0))),
                width=104,
                color="gray",
                help="Largest robust z-score of length, direction, neighbours and one tensor",
            ),
            "length": column.NumberColumn(
                "Length", format="%.2f ×", width=68, help="Of the update, over the median client's"
            ),
            "cosine": column.NumberColumn(
                "Cosine",
                format="%.2f",
                width=62,
                help="To the direction that most clients share: 1 same way, 0 unrelated, "
                "−1 opposed",
            ),
            "cluster": column.NumberColumn("Cluster", format="%d", width=60),
            "reason": column.TextColumn("Reason"),
        },
    )


def _score_row(view: ClientsView, i: int, labels: dict[str, str]) -> dict[str, Any]:
    name = view.gram.clients[i]
    if not view.scores.finite[i]:
        return {"client": name, "reason": "values that are not finite"}
    found = view.scores.reasons[i]
    reason = "; ".join(filter(None, [client_wording.reason_text(found), labels.get(name)]))
    place = int(np.flatnonzero(view.alike.rows == i)[0])
    return {
        "client": name,
        "score": float(view.scores.combined[i]),
        "length": float(view.scores.norms[i]),
        "cosine": float(view.scores.cosines[i]),
        "cluster": int(view.alike.clusters.labels[place]) + 1,
        "reason": reason or "nothing unusual",
    }


def directions(view: ClientsView) -> None:
    """How long each update is, and where it points."""
    widgets.section(
        "Length and direction",
        "The usual clients lie together; an orange rim marks an outlier.",
    )
    index = view.index
    widgets.chart(
        directions_figure(
            view.scores.norms,
            view.scores.cosines,
            view.gram.clients,
            widgets.theme(),
            indices=[index[client] for client in view.gram.clients],
            selected=view.selected,
            marked=view.outliers,
        ),
        "directions",
        on_select=_on_client("directions"),
    )


def silhouettes(view: ClientsView) -> None:
    """How well the clusters hold together."""
    clusters = view.alike.clusters
    widgets.section("Clusters", client_wording.silhouettes_note(clusters))
    if clusters.count < 2:
        return
    names = [view.gram.clients[row] for row in view.alike.rows]
    index = view.index
    widgets.chart(
        silhouettes_figure(
            clusters.silhouettes,
            clusters.labels,
            names,
            widgets.theme(),
            indices=[index[name] for name in names],
            selected=view.selected,
        ),
        "silhouettes",
        on_select=_on_client("silhouettes"),
    )


def detectors(view: ClientsView) -> None:
    """Which detector finds the injected faults."""
    found = client_cache.detected(view.chosen.dataset, view.chosen.aggregate)
    if found is None:
        return
    left, right = st.columns([5, 6], gap="large")
    curves = [
        RocCurve(
            client_wording.DETECTOR_NAMES[r.detector],
            r.fpr,
            r.tpr,
            r.auc,
            (r.false_positives / found.honest, r.recall),
            r.detector is Detector.COMBINED,
        )
        for r in found.results
    ]
    with left:
        widgets.section(
            "Detectors", f"ROC curves and the areas under them; a dot at the score {THRESHOLD:g}."
        )
        widgets.chart(roc_figure(curves, widgets.theme()), "roc")
    rows = [
        {
            "Detector": client_wording.DETECTOR_NAMES[r.detector],
            "Precision": percentage(r.precision, 0) if np.isfinite(r.precision) else "–",
            "Recall": percentage(r.recall, 0),
            "Honest named": f"{r.false_positives:,} of {found.honest:,}",
            "AUC": decimals(r.auc, 2),
        }
        for r in found.results
    ]
    with right:
        widgets.section("Which detector to believe", client_wording.detection_sentence(found))
        st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)
        faults = counted(len(view.chosen.dataset.ground_truth), "fault")
        st.markdown(f":small[:gray[Against the {faults} that were injected on purpose.]]")
