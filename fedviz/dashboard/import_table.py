"""The table in which a person looks over the clients of an import, and corrects them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from fedviz.dashboard import widgets
from fedviz.dashboard.uploads import KeptUploads
from fedviz.figures.text import counted
from fedviz.importers.listing import client_problems
from fedviz.importing import Proposal, ProposedClient, proposed_clients

__all__ = ["Listed", "is_taken_over", "own_name", "table", "taken_over"]

_MOST_ROWS = 5000
_ROWS_IN_SIGHT = 12
_MOST_PROBLEMS = 5
_KEPT = "_import_kept"
_TAKEN_OVER = "_import_taken_over"

UploadsKey = tuple[str, ...]


@dataclass(frozen=True)
class Listed:
    """The clients as they would be imported; ``complete`` is whether they can be."""

    uploads: tuple[Any, ...]
    clients: tuple[ProposedClient, ...]
    complete: bool


@dataclass
class _Kept:
    """Uploads on the disk, and who their clients are by each CSV."""

    key: UploadsKey
    files: KeptUploads
    proposals: dict[Path | None, Proposal]


def table(uploads: Sequence[Any], num_examples: Path | None) -> Listed:
    """Draw the table; the clients as it says.

    Raises
    ------
    FedvizError
        The uploads hold no clients, or the CSV does not fit them.
    """
    kept = _kept(uploads)
    if num_examples not in kept.proposals:
        kept.proposals[num_examples] = proposed_clients(kept.files.files, num_examples)
    proposal = kept.proposals[num_examples]
    widgets.section(
        "Who is who", "Double-click an id or a number to correct it; the import takes this table."
    )
    clients = _edited(proposal.clients, _editor_key(kept.key, num_examples))
    problems = list(client_problems(clients))
    if problems:
        st.error(_problem_lines(problems), icon=":material/error:")
    if proposal.passed_over:
        files = counted(len(proposal.passed_over), "other file")
        first = widgets.literal(own_name(proposal.passed_over[0].source))
        st.markdown(f":small[:gray[{files} passed over, {first} first.]]")
    return Listed(tuple(uploads), clients, not problems)


def taken_over(listed: Listed) -> KeptUploads:
    """The uploads' files for an import, which removes their folder when it is done."""
    kept = _kept(listed.uploads)
    kept.files.release()
    del st.session_state[_KEPT]
    st.session_state[_TAKEN_OVER] = kept.key
    return kept.files


def is_taken_over(uploads: Sequence[Any]) -> bool:
    """Whether the last import was one of these uploads."""
    return st.session_state.get(_TAKEN_OVER) == _key(uploads)


def own_name(source: str) -> str:
    """A source without the folder that its upload was kept in."""
    return source.split("/", 1)[-1]


def _kept(uploads: Sequence[Any]) -> _Kept:
    key = _key(uploads)
    kept: _Kept | None = st.session_state.get(_KEPT)
    if kept is None or kept.key != key:
        if kept is not None:
            kept.files.remove()
        kept = st.session_state[_KEPT] = _Kept(key, KeptUploads(uploads), {})
    return kept


def _key(uploads: Sequence[Any]) -> UploadsKey:
    return tuple(upload.file_id for upload in uploads)


def _editor_key(key: UploadsKey, num_examples: Path | None) -> str:
    """Other uploads, or another CSV, make another table: corrections of the old one are gone."""
    text = "\n".join([*key, "" if num_examples is None else num_examples.name])
    return f"import_table_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _edited(clients: Sequence[ProposedClient], key: str) -> tuple[ProposedClient, ...]:
    if len(clients) > _MOST_ROWS:
        st.markdown(
            f"{counted(len(clients), 'client')}: too many for a table here. Correct them with a "
            "CSV of file, client and num_examples."
        )
        return tuple(clients)
    frame = pd.DataFrame(
        {
            "File": [own_name(client.source) for client in clients],
            "Client": [client.id for client in clients],
            "Examples": pd.array([client.num_examples for client in clients], dtype="Int64"),
        }
    )
    edited = st.data_editor(
        frame,
        key=key,
        hide_index=True,
        num_rows="fixed",
        row_height=34,
        placeholder="not known",
        height="content" if len(clients) <= _ROWS_IN_SIGHT else 34 * _ROWS_IN_SIGHT,
        column_config={
            "File": st.column_config.TextColumn(disabled=True),
            "Client": st.column_config.TextColumn(
                "Client", help="What the client is called in the dataset: unique, not empty."
            ),
            "Examples": st.column_config.NumberColumn(
                "Examples",
                min_value=0,
                step=1,
                help="How many examples the client trained on: its weight in the mean. Empty "
                "where it is not known; then every client counts once.",
            ),
        },
    )
    return tuple(
        ProposedClient(client.source, "" if pd.isna(name) else str(name).strip(), _number(number))
        for client, name, number in zip(clients, edited["Client"], edited["Examples"], strict=True)
    )


def _number(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _problem_lines(problems: Sequence[tuple[ProposedClient, str]]) -> str:
    lines = [
        widgets.literal(f"{own_name(client.source)}: {problem}.") for client, problem in problems
    ]
    more = len(lines) - _MOST_PROBLEMS
    return "  \n".join(lines[:_MOST_PROBLEMS] + ([f"… and {more:,} more."] if more > 0 else []))
