"""The pieces of the signatures page."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from fedviz.analysis.check import CheckReport, LookAt, MismatchGroup
from fedviz.dashboard import cache, references, widgets, wording
from fedviz.dashboard.state import Selection, keep
from fedviz.dataset import Round, WeightDataset
from fedviz.figures.signature_matrix import signature_matrix_figure
from fedviz.figures.signature_view import (
    GRAVITY,
    MOST_OWN_ROWS,
    MOST_UNFOLDED_TENSORS,
    MatrixFilter,
    MatrixView,
    gravest,
    gravity,
    kind_name,
    matrix_view,
    narrowed,
)
from fedviz.figures.text import counted
from fedviz.figures.theme import KIND_LETTER
from fedviz.signature import Mismatch, MismatchKind

__all__ = [
    "CELL",
    "Examined",
    "examine",
    "ground_truth",
    "group_lines",
    "legend",
    "matrix",
    "mismatch_row",
    "observations",
    "offer_values",
    "table",
]

CELL = "mismatch_cell"
"""In the session: the client and the tensor that were clicked last."""

_MATRIX = "matrix"
_VALUES_ASKED = "_values_asked"
_MOST_ROWS = 100
_MOST_GROUP_LINES = 6
_MOST_NAMED = 3


@dataclass(frozen=True)
class Examined:
    """One round's mismatches, and which of them the visitor looks at."""

    round: Round
    report: CheckReport
    patterns: tuple[MismatchGroup, ...]
    chosen: MatrixFilter
    all_tensors: bool
    looked_at_values: bool

    @functools.cached_property
    def clients(self) -> tuple[str, ...]:
        """The whole cohort."""
        return tuple(record.id for record in self.round.records)

    @functools.cached_property
    def groups(self) -> tuple[MismatchGroup, ...]:
        """Rows of the matrix that differ: clients in small cohorts, patterns in large ones."""
        if len(self.clients) <= MOST_OWN_ROWS:
            return _by_client(self.report, self.round)
        return self.patterns

    @functools.cached_property
    def shown(self) -> tuple[MismatchGroup, ...]:
        """What the filter leaves of the patterns, in the order of the matrix."""
        left = [pattern for _, pattern in narrowed(self.patterns, self.chosen)]
        if len(self.clients) > MOST_OWN_ROWS:
            return tuple(sorted(left, key=_urgency))
        place = {client: i for i, client in enumerate(self.clients)}
        return tuple(sorted(left, key=lambda pattern: place[pattern.clients[0]]))

    @functools.cached_property
    def view(self) -> MatrixView:
        """What the matrix shows."""
        return matrix_view(
            self.report.signature.names,
            self.clients,
            self.groups,
            self.chosen,
            all_tensors=self.all_tensors,
        )


def _by_client(report: CheckReport, round_: Round) -> tuple[MismatchGroup, ...]:
    found: dict[str, list[Mismatch]] = {}
    for each in report.mismatches:
        found.setdefault(each.client, []).append(each.mismatch)
    places = {record.id: ((round_.number, record.id),) for record in round_.records}
    return tuple(MismatchGroup(tuple(found[c]), places[c]) for c in places if c in found)


def _urgency(group: MismatchGroup) -> tuple[int, int]:
    return gravity(gravest(group.mismatches)), -len(group.clients)


def examine(chosen: Selection) -> Examined:
    """Draw the controls, and compare the clients as they say."""
    round_ = chosen.round
    row = st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="controls")
    with row:
        reference = references.choose(round_)
    values = cache.values_are_few(round_) or _round_name(round_) in _values_asked()
    look_at: LookAt = "values" if values else "signatures"
    report = cache.checked(round_, reference, look_at)
    patterns = cache.patterns(round_, reference, look_at)
    with row:
        search = st.text_input(
            "Search",
            key="find",
            placeholder="Tensor or client",
            icon=":material/search:",
            max_chars=200,
            width=220,
            bind="query-params",
            on_change=_forget_cell,
        )
        kinds = _choose_kinds(patterns)
        all_tensors = len(report.signature) > MOST_UNFOLDED_TENSORS and st.toggle(
            "All tensors",
            key="all_tensors",
            bind="query-params",
            help="Also those in which nothing is wrong, each in a column of its own.",
        )
    narrowing = MatrixFilter(kinds, (search or "").strip())
    return Examined(round_, report, patterns, narrowing, all_tensors, values)


def _choose_kinds(patterns: Iterable[MismatchGroup]) -> frozenset[MismatchKind]:
    """The kinds to look at, of those that there are; named in the address as in the list."""
    present = {mismatch.kind for group in patterns for mismatch in group.mismatches}
    if not present:
        return frozenset()
    offered = {
        f"{KIND_LETTER[kind]} {kind_name(kind)}": kind for kind in GRAVITY if kind in present
    }
    chosen = st.pills(
        "Kinds",
        list(offered),
        selection_mode="multi",
        key="kinds",
        bind="query-params",
        help="Only mismatches of these kinds; of all kinds, while none is chosen.",
        on_change=_forget_cell,
    )
    return frozenset(offered[label] for label in chosen)


def _forget_cell() -> None:
    """After another search the first mismatch that it leaves is shown."""
    st.session_state.pop(CELL, None)


def _round_name(round_: Round) -> tuple[object, ...]:
    return round_.dataset.identity, round_.number


def _values_asked() -> set[tuple[object, ...]]:
    """The rounds whose values this visitor wants looked at, however many they are."""
    asked: set[tuple[object, ...]] = st.session_state.setdefault(_VALUES_ASKED, set())
    return asked


def offer_values(examined: Examined) -> None:
    """Say what was not looked at, and offer to do it."""
    if examined.looked_at_values or not examined.clients:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        text = wording.unseen_values(examined.round.dataset)
        st.markdown(f":gray[{text}]", width="content")
        st.button(
            "Look at the values too",
            icon=":material/search_insights:",
            on_click=lambda: _values_asked().add(_round_name(examined.round)),
        )


def matrix(examined: Examined) -> None:
    """The matrix of clients and tensors, or how to see one again."""
    view = examined.view
    if not view.rows or not view.num_columns:
        if examined.chosen.is_active:
            _nothing_found(examined.chosen)
        return
    widgets.chart(
        signature_matrix_figure(view, widgets.theme()), _MATRIX, wide="mid", on_select=_on_cell
    )
    for line in wording.left_out(view, len(examined.clients), filtered=examined.chosen.is_active):
        st.markdown(f":small[:gray[{line}]]")


def _nothing_found(chosen: MatrixFilter) -> None:
    st.markdown(wording.nothing_found(chosen))
    st.button("Show everything", icon=":material/filter_alt_off:", on_click=_show_everything)


def _show_everything() -> None:
    st.session_state["find"] = ""
    st.session_state["kinds"] = []


def _on_cell() -> None:
    """A click on a cell of the matrix selects its client and tensor."""
    points = st.session_state[_MATRIX]["selection"]["points"]
    if points:
        client, tensor = points[0]["customdata"][:2]
        st.session_state[CELL] = (client, tensor)
        keep(client=client, tensor=tensor)


def legend(examined: Examined) -> None:
    """The letters of the kinds that there are, and their colours."""
    present = {m.kind for group in examined.patterns for m in group.mismatches}
    if present:
        st.markdown("  ".join(wording.mismatch_kind(kind) for kind in GRAVITY if kind in present))


def group_lines(examined: Examined) -> None:
    """Which clients differ in the same way, a line for each such group."""
    alike = [pattern for pattern in examined.shown if len(pattern.clients) > 1]
    lines = [f"- {wording.group_text(pattern)}" for pattern in alike[:_MOST_GROUP_LINES]]
    more = len(alike) - len(lines)
    if more:
        lines.append(f"- :gray[… and {counted(more, 'more group')}]")
    if lines:
        st.markdown("\n".join(lines))


def mismatch_row(mismatch: Mismatch) -> dict[str, str]:
    """A mismatch as a row of a table, without its place."""
    return {
        "Kind": wording.mismatch_kind(mismatch.kind),
        "Expected": _quoted(mismatch.expected),
        "Found": _quoted(mismatch.actual),
        "Likely cause": wording.plain_text(mismatch.cause) or ":gray[not known]",
    }


def _quoted(text: str) -> str:
    return f":gray[{text}]" if text in ("nothing", "finite values") else wording.plain(text)


def table(examined: Examined) -> None:
    """Every mismatch that is looked at, those that are alike in one line."""
    rows = [row for group in examined.shown for row in _table_rows(group)]
    if not rows:
        st.markdown(":gray[None.]")
        return
    st.table(pd.DataFrame(rows[:_MOST_ROWS]), border="horizontal", hide_index=True)
    if len(rows) > _MOST_ROWS:
        st.markdown(f":gray[… and {len(rows) - _MOST_ROWS:,} more; `fedviz check` lists them all.]")


def _table_rows(group: MismatchGroup) -> list[dict[str, str]]:
    whom = _whom(group.clients)
    alike: dict[tuple[str, ...], list[Mismatch]] = {}
    for mismatch in group.mismatches:
        alike.setdefault(_likeness(mismatch), []).append(mismatch)
    rows = []
    for first, *others in alike.values():
        row = mismatch_row(first)
        if first.nonfinite and len(group.clients) > 1:
            row["Found"] = ":gray[NaN or infinite, each its own]"
        more = f" and {len(others):,} more" if others else ""
        place = {"Client": whom, "Tensor": wording.plain(first.tensor) + more}
        rows.append({"Kind": row.pop("Kind"), **place, **row})
    return rows


def _likeness(mismatch: Mismatch) -> tuple[str, ...]:
    """What the mismatches of one line have in common: a cause, or the types."""
    if mismatch.kind is MismatchKind.DTYPE or not mismatch.cause:
        return mismatch.kind, mismatch.expected, mismatch.actual
    return mismatch.kind, mismatch.cause


def _whom(clients: Sequence[str]) -> str:
    if len(clients) > _MOST_NAMED:
        return counted(len(clients), "client")
    return ", ".join(map(wording.plain, clients))


def observations(report: CheckReport) -> None:
    """What is worth knowing although it is no mismatch."""
    if not report.observations:
        return
    widgets.section("Also seen", "No mismatches: in this, too, the clients fit the reference.")
    alike: dict[tuple[str, str, str], list[str]] = {}
    for each in report.observations:
        alike.setdefault((each.tensor, each.expected, each.cause), []).append(each.client)
    found = {(o.tensor, o.client): o.actual for o in report.observations}
    rows = [
        {
            "Client": _whom(list(dict.fromkeys(clients))),
            "Tensor": wording.plain(tensor),
            "Expected": wording.plain_text(expected),
            "Found": wording.plain_text(found[tensor, clients[0]]),
            "Likely cause": wording.plain_text(cause),
        }
        for (tensor, expected, cause), clients in alike.items()
    ]
    st.table(pd.DataFrame(rows[:_MOST_ROWS]), border="horizontal", hide_index=True)
    if len(rows) > _MOST_ROWS:
        st.markdown(f":gray[… and {len(rows) - _MOST_ROWS:,} more.]")


def ground_truth(dataset: WeightDataset, report: CheckReport) -> None:
    """What was injected on purpose, where the dataset knows, beside what was found."""
    if not dataset.ground_truth:
        return
    widgets.section(
        "Injected on purpose",
        "The ground truth of this dataset, what was done to which client in every round, beside "
        "what is found without knowing it.",
    )
    found: dict[str, list[Mismatch]] = {}
    for each in report.mismatches:
        found.setdefault(each.client, []).append(each.mismatch)
    rows = [
        {
            "Client": wording.plain(fault.client),
            "Fault": fault.kind.value,
            "Argument": wording.plain(fault.argument) if fault.argument else ":gray[default]",
            "Tensors": ", ".join(map(wording.plain, fault.tensors)) or ":gray[the whole model]",
            "Found": _kinds_of(found.get(fault.client, [])),
            "Likely cause": _causes_of(found.get(fault.client, [])),
        }
        for fault in dataset.ground_truth
    ]
    with st.container(key="wide_ground_truth"):
        st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)


def _kinds_of(found: Sequence[Mismatch]) -> str:
    kinds = dict.fromkeys(mismatch.kind for mismatch in found)
    return " ".join(map(wording.mismatch_kind, kinds)) or ":gray[no mismatch]"


def _causes_of(found: Sequence[Mismatch]) -> str:
    causes = dict.fromkeys(mismatch.cause for mismatch in found if mismatch.cause)
    if found:
        return wording.plain_text("; ".join(causes)) or ":gray[not known]"
    return ":gray[none: types and values are sound, only the update is odd]"
