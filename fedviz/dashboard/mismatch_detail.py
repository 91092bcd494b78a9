"""One cell of the signature matrix: expected against found, the types, the values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
import streamlit as st

from fedviz.analysis.check import MismatchGroup
from fedviz.analysis.nonfinite_window import ValueWindow
from fedviz.dashboard import cache, widgets, wording
from fedviz.dashboard.mismatches import CELL, Examined, mismatch_row
from fedviz.dashboard.state import keep
from fedviz.figures.text import counted, number
from fedviz.signature import Mismatch, NonFiniteCount, Signature
from fedviz.tff_types import LeafDiff, LeafStatus, StructType, TensorType, diff_types

__all__ = ["detail"]

_MOST_LEAVES = 12
_MOST_TYPE_CHARACTERS = 1500
_MEMBERS = "group_members"


def detail(examined: Examined) -> None:
    """The cell that was clicked, or the first that differs."""
    report, cell = examined.report, _shown_cell(examined)
    if cell is None:
        agree = "Every client of this round has it." if report.consistent else "The reference's."
        widgets.section("TFF type", agree)
        st.code(_cut(str(report.signature)), language=None, wrap_lines=True)
        return
    client, tensor = cell
    found = [
        each.mismatch
        for each in report.mismatches
        if (each.client, each.mismatch.tensor) == (client, tensor)
    ]
    group = _group_of(client, examined.patterns)
    widgets.section(widgets.literal(f"Client {client}, {tensor}"), _company(group))
    if found:
        st.table(pd.DataFrame(_stacked(found)), border="horizontal", hide_header=True)
    else:
        st.markdown("This tensor is as expected.")
    for mismatch in found:
        _values(examined, client, mismatch)
    _members(group, client, tensor)
    _types(report.signature, examined.round.clients[client].signature, tensor)


def _shown_cell(examined: Examined) -> tuple[str, str] | None:
    cell: tuple[str, str] | None = st.session_state.get(CELL)
    clients = examined.round.clients
    if cell is not None and cell[0] in clients:
        known = (examined.report.signature, clients[cell[0]].signature)
        if any(cell[1] in signature for signature in known):
            return cell
    first = next(iter(examined.shown), None)
    return (first.clients[0], first.mismatches[0].tensor) if first else None


def _group_of(client: str, patterns: Sequence[MismatchGroup]) -> MismatchGroup | None:
    return next((group for group in patterns if client in group.clients), None)


def _company(group: MismatchGroup | None) -> str:
    if group is None or len(group.clients) == 1:
        return "Expected and found, and the likely cause."
    return f"{wording.group_size(group)}; what follows is of this client."


def _stacked(found: Sequence[Mismatch]) -> dict[str, dict[str, str]]:
    """One column for each mismatch: in half a page, rows would be too narrow."""
    columns = [mismatch_row(mismatch) for mismatch in found]
    return {str(i): {f":gray[{k}]": v for k, v in row.items()} for i, row in enumerate(columns)}


def _members(group: MismatchGroup | None, client: str, tensor: str) -> None:
    """All clients of a group; a click shows another one of them."""
    if group is None or len(group.clients) == 1:
        return
    clients = group.clients

    def on_select() -> None:
        cells = st.session_state[_MEMBERS]["selection"]["cells"]
        if cells:
            st.session_state[CELL] = (clients[int(cells[0][0])], tensor)
            keep(client=clients[int(cells[0][0])], tensor=tensor)

    marks = ["shown" if each == client else "" for each in clients]
    with st.expander(f"The {counted(len(clients), 'client')} of this group", type="compact"):
        st.dataframe(
            pd.DataFrame({"Client": clients, "": marks}),
            hide_index=True,
            height="content" if len(clients) <= 8 else 260,
            on_select=on_select,
            selection_mode="single-cell",
            key=_MEMBERS,
        )


# --- values -------------------------------------------------------------------------------------


def _values(examined: Examined, client: str, mismatch: Mismatch) -> None:
    """What the values themselves show of a mismatch, where they are what is wrong."""
    if mismatch.values_of:
        st.markdown(
            f"Its values resemble those of {wording.plain(mismatch.values_of)} in the server model."
        )
    if mismatch.nonfinite is not None:
        first = mismatch.nonfinite.first_index
        _window(
            cache.values_around(examined.round, client, mismatch.tensor, first), mismatch.nonfinite
        )


def _window(window: ValueWindow, count: NonFiniteCount) -> None:
    at = f" at {list(count.first_index)}" if count.first_index else ""
    slice_ = f", in the slice {list(window.leading)}" if window.leading else ""
    st.markdown(f":small[:gray[Values around the first that is not finite{at}{slice_}]]")
    cells = [
        [
            number(value) if finite else f":red-badge[{number(value)}]"
            for value, finite in zip(values, finites, strict=True)
        ]
        for values, finites in zip(window.values.tolist(), window.is_finite.tolist(), strict=True)
    ]
    frame = pd.DataFrame(
        cells,
        index=[f":gray[{row}]" for row in window.rows] or [""],
        columns=[f":gray[{column}]" for column in window.columns] or [""],
    )
    st.table(frame, border="horizontal", hide_index=not window.rows)


# --- types --------------------------------------------------------------------------------------


def _types(expected: Signature, found: Signature, tensor: str) -> None:
    """The two types leaf by leaf, as far as they differ, and as TFF prints them."""
    leaves = diff_types(_struct(expected), _struct(found))
    at = next((i for i, leaf in enumerate(leaves) if leaf.path == (tensor,)), None)
    st.markdown(":small[:gray[TFF types, leaf by leaf: expected, and the client's]]")
    rows = list(_excerpt(leaves, at))
    st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)
    with st.expander("The whole types, as TFF prints them", type="compact"):
        for column, title, signature in zip(
            st.columns(2), ("Expected", "The client's"), (expected, found), strict=True
        ):
            with column:
                st.markdown(f":small[:gray[{title}, {counted(len(signature), 'tensor')}]]")
                st.code(_cut(str(signature)), language=None, wrap_lines=True)


def _struct(signature: Signature) -> StructType:
    return StructType(tuple((t.name, TensorType(t.dtype, t.shape)) for t in signature))


_STATUS = {
    LeafStatus.SAME: "",
    LeafStatus.CHANGED: ":red[≠ changed]",
    LeafStatus.MISSING: ":violet[− missing]",
    LeafStatus.EXTRA: ":violet[+ extra]",
    LeafStatus.MOVED: ":orange[↕ moved]",
    LeafStatus.RENAMED: ":orange[~ renamed]",
}


def _excerpt(leaves: Sequence[LeafDiff], at: int | None) -> Iterator[dict[str, str]]:
    """The leaves that differ and the one that was clicked; of the others, how many there are."""
    wanted = [i for i, leaf in enumerate(leaves) if leaf.status is not LeafStatus.SAME]
    if len(leaves) <= _MOST_LEAVES:
        kept = set(range(len(leaves)))
    else:
        kept = set(wanted[: _MOST_LEAVES - (at is not None)]) | ({at} if at is not None else set())
    hidden: list[LeafDiff] = []
    for i, leaf in enumerate(leaves):
        if i not in kept:
            hidden.append(leaf)
            continue
        yield from _omission(hidden)
        hidden = []
        yield _leaf(leaf, clicked=i == at)
    yield from _omission(hidden)


def _leaf(leaf: LeafDiff, *, clicked: bool) -> dict[str, str]:
    name = wording.plain(leaf.label)
    return {
        "Tensor": f"**{name}**" if clicked else name,
        "Expected": wording.plain(leaf.expected) if leaf.expected else ":gray[nothing]",
        "Found": wording.plain(leaf.found) if leaf.found else ":gray[nothing]",
        "": _STATUS[leaf.status],
    }


def _omission(hidden: Sequence[LeafDiff]) -> Iterator[dict[str, str]]:
    if not hidden:
        return
    different = sum(leaf.status is not LeafStatus.SAME for leaf in hidden)
    alike = len(hidden) - different
    parts = [f"{alike:,} alike"] * bool(alike) + [f"{different:,} that differ"] * bool(different)
    yield {"Tensor": f":gray[… {' and '.join(parts)}]", "Expected": "", "Found": "", "": ""}


def _cut(text: str) -> str:
    """A type at a length that a page can show."""
    if len(text) <= _MOST_TYPE_CHARACTERS:
        return text
    more = len(text) - _MOST_TYPE_CHARACTERS
    return f"{text[:_MOST_TYPE_CHARACTERS]} … and {more:,} characters more"
