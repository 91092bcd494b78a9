"""The pieces of the signatures page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import pandas as pd
import streamlit as st

from fedviz.analysis.check import CheckReport, ClientMismatch
from fedviz.dashboard import widgets, wording
from fedviz.dashboard.state import Selection, keep
from fedviz.dataset import Round, WeightDataset
from fedviz.figures.signature_matrix import MatrixView, gravest, matrix_view
from fedviz.figures.theme import KIND_BADGE, KIND_LETTER
from fedviz.signature import Mismatch, MismatchKind

__all__ = [
    "choose_reference",
    "detail",
    "ground_truth",
    "legend",
    "matrix",
    "on_cell",
    "table",
]

_MOST_ROWS = 100


def choose_reference(round_: Round) -> str:
    """What the clients are compared with."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(":gray[compared with]", width="content")
        return st.selectbox(
            "Reference",
            ["server", "majority", *(record.id for record in round_.records)],
            format_func=lambda name: _REFERENCES.get(name, f"client {name}"),
            key="reference",
            label_visibility="collapsed",
            width=220,
        )


_REFERENCES = {"server": "the server model", "majority": "the majority"}


def by_client(report: CheckReport, round_: Round) -> dict[str, list[Mismatch]]:
    """Every client of the round and its mismatches, none for those that are fine."""
    found: dict[str, list[Mismatch]] = {record.id: [] for record in round_.records}
    for each in report.mismatches:
        found[each.client].append(each.mismatch)
    return found


def matrix(report: CheckReport, round_: Round) -> MatrixView:
    """What the matrix shows."""
    found = by_client(report, round_)
    notes = {client: _note(mismatches) for client, mismatches in found.items() if mismatches}
    return matrix_view(report.signature.names, found, notes)


def _note(found: Sequence[Mismatch]) -> str:
    """The gravest mismatch in a few words."""
    worst = gravest(found)
    words = {
        MismatchKind.SHAPE: f"{worst.actual}",
        MismatchKind.RANK: f"{worst.actual}",
        MismatchKind.DTYPE: f"{worst.actual}",
        MismatchKind.MISSING: "a tensor missing",
        MismatchKind.EXTRA: "a tensor too many",
        MismatchKind.ORDER: "another order",
        MismatchKind.NAME: "another name",
        MismatchKind.NONFINITE: "not finite",
    }
    more = len({m.kind for m in found}) - 1
    return words[worst.kind] + (f", and {more} more" if more else "")


def on_cell() -> None:
    """A click on a cell of the matrix selects its client and tensor."""
    points = st.session_state["matrix"]["selection"]["points"]
    if points:
        client, tensor = points[0]["customdata"][:2]
        st.session_state["mismatch_cell"] = (client, tensor)
        keep(client=client, tensor=tensor)


def legend() -> None:
    """The letters and their colours."""
    st.markdown(
        "  ".join(
            f":{KIND_BADGE[kind]}-badge[{KIND_LETTER[kind]}] {_kind_name(kind)}"
            for kind in MismatchKind
        )
    )


def _kind_name(kind: MismatchKind) -> str:
    return "non-finite" if kind is MismatchKind.NONFINITE else kind.value


def detail(report: CheckReport, chosen: Selection) -> None:
    """Expected against found, for the cell that was clicked, or the first that differs."""
    cell = _shown_cell(report, chosen.round)
    if cell is None:
        widgets.section("TFF type", "Every client of this round has it.")
        st.code(str(report.signature), language=None, wrap_lines=True)
        return
    client, tensor = cell
    found = [
        each.mismatch
        for each in report.mismatches
        if (each.client, each.mismatch.tensor) == (client, tensor)
    ]
    place = widgets.literal(f"Client {client}, {tensor}")
    widgets.section(place, "Expected and found, and the likely cause.")
    if found:
        st.table(pd.DataFrame(_stacked(found)), border="horizontal", hide_header=True)
    else:
        st.markdown("This tensor is as expected.")
    st.markdown(":small[:gray[TFF type expected]]")
    st.code(str(report.signature), language=None, wrap_lines=True)
    st.markdown(f":small[:gray[TFF type of {wording.plain(client)}]]")
    st.code(str(chosen.round.clients[client].signature), language=None, wrap_lines=True)


def _shown_cell(report: CheckReport, round_: Round) -> tuple[str, str] | None:
    cell = st.session_state.get("mismatch_cell")
    if cell is not None and cell[0] in round_.clients:
        return cell
    first = next(iter(report.mismatches), None)
    return (first.client, first.mismatch.tensor) if first else None


def _row(mismatch: Mismatch) -> dict[str, str]:
    kind = mismatch.kind
    return {
        "Kind": f":{KIND_BADGE[kind]}-badge[{KIND_LETTER[kind]}] {_kind_name(kind)}",
        "Expected": _quoted(mismatch.expected),
        "Found": _quoted(mismatch.actual),
        "Likely cause": wording.plain_text(mismatch.cause) or ":gray[not known]",
    }


def _stacked(found: Sequence[Mismatch]) -> dict[str, dict[str, str]]:
    """One column for each mismatch: in half a page, rows would be too narrow."""
    columns = [_row(mismatch) for mismatch in found]
    return {str(i): {f":gray[{k}]": v for k, v in row.items()} for i, row in enumerate(columns)}


def _quoted(text: str) -> str:
    return f":gray[{text}]" if text in ("nothing", "finite values") else wording.plain(text)


def table(report: CheckReport) -> None:
    """Every mismatch; those of a client that are alike in one row."""
    rows = []
    for (client, kind, cause), group in groupby(report.mismatches, _likeness):
        alike = list(group)
        first = alike[0].mismatch
        more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        row = _row(Mismatch(first.tensor, kind, first.expected, first.actual, cause))
        place = {"Client": wording.plain(client), "Tensor": wording.plain(first.tensor) + more}
        rows.append({"Kind": row.pop("Kind"), **place, **row})
    if not rows:
        st.markdown(":gray[None.]")
        return
    st.table(pd.DataFrame(rows[:_MOST_ROWS]), border="horizontal", hide_index=True)
    if len(rows) > _MOST_ROWS:
        st.markdown(f":gray[… and {len(rows) - _MOST_ROWS:,} more; `fedviz check` lists them all.]")


def _likeness(found: ClientMismatch) -> tuple[str, MismatchKind, str]:
    return found.client, found.mismatch.kind, found.mismatch.cause


def ground_truth(dataset: WeightDataset) -> None:
    """What was injected on purpose, where the dataset knows."""
    if not dataset.ground_truth:
        return
    widgets.section(
        "Injected on purpose",
        "The ground truth of this dataset: what was done to which client, in every round.",
    )
    rows = [
        {
            "Client": wording.plain(fault.client),
            "Fault": fault.kind.value,
            "Argument": wording.plain(fault.argument) if fault.argument else ":gray[default]",
            "Tensors": ", ".join(map(wording.plain, fault.tensors)) or ":gray[the whole model]",
        }
        for fault in dataset.ground_truth
    ]
    st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)
