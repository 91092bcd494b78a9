"""The pieces of the import page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from fedviz.dashboard import folders, jobs, state, tasks, widgets, wording
from fedviz.dashboard.engine import JobState
from fedviz.importers.report import ImportReport

__all__ = ["Form", "form", "formats", "progress_and_outcome", "report_tables", "start_button"]

_JOB = "import_job"
_MOST_ROWS = 200
_FORMATS = (
    ("Keras", ".h5, .hdf5, .weights.h5, .keras", "weights only; the optimizer's state is left out"),
    ("NumPy", ".npz", "also Flower's arr_0, arr_1 and so on"),
    ("safetensors", ".safetensors", "PyTorch, JAX and others; sharded ones as a zip"),
    ("TensorFlow", "a zip of each", "checkpoints and SavedModel folders"),
    ("fedviz", ".h5", "every client of its last round"),
    ("zip", ".zip", "one model for each client, or a single one"),
)


@dataclass(frozen=True)
class Form:
    """What was uploaded, and how it is to be taken."""

    name: str
    uploads: list[Any]
    server: Any
    num_examples: Any
    keep_names: bool


def form() -> Form:
    """Draw the form."""
    uploads = st.file_uploader(
        "The clients' weights, one file a client, or a zip of them",
        accept_multiple_files=True,
        key="import_files",
    )
    server = st.file_uploader(
        "The server model, if you have it",
        key="import_server",
        help="The reference that the clients are compared with; without it, the majority.",
    )
    num_examples = st.file_uploader(
        "num_examples, a CSV of client and number",
        type=["csv"],
        key="import_examples",
        help="Not needed where the files' names say it, such as client3_n120.npz.",
    )
    keep_names = st.checkbox(
        "Keep names that are only numbers",
        key="import_keep_names",
        help="Models made one after another in Keras are numbered on: dense, then dense_1. Where "
        "all else agrees, the reference's names are taken, unless you tick this.",
    )
    name = st.text_input("Name of the dataset", "imported", key="import_name", max_chars=80)
    return Form(name, list(uploads or []), server, num_examples, keep_names)


def start_button(chosen: Form) -> None:
    """Start the import."""
    job = jobs.current(_JOB)
    done = job is not None and job.state is JobState.DONE
    pressed = st.button(
        "Import",
        type="secondary" if done else "primary",
        icon=":material/upload_file:",
        disabled=not chosen.uploads or (job is not None and job.active),
        width="stretch",
    )
    if not pressed:
        return
    with widgets.errors_in_place():
        target = folders.free_path(chosen.name)
        jobs.start(
            _JOB,
            f"importing {target.name}",
            tasks.run_import,
            folders.keep_import([(u.name, u.getbuffer()) for u in chosen.uploads]),
            target,
            _kept(chosen.server),
            _kept(chosen.num_examples),
            chosen.keep_names,
        )
        st.rerun()


def _kept(upload: Any) -> Path | None:
    return None if upload is None else folders.keep_template(upload.name, upload.getbuffer())


def progress_and_outcome() -> ImportReport | None:
    """Watch the job; its report once it is done."""
    jobs.panel(_JOB)
    job = jobs.current(_JOB)
    if job is None or job.state is not JobState.DONE:
        return None
    report: ImportReport = job.result()
    if st.button("Look at it", icon=":material/dataset:", type="primary"):
        state.look_at(report.out.name)
    return report


def formats() -> None:
    """What can be imported, while nothing has been."""
    widgets.section("What is understood", "By content, whatever the file is called.")
    columns = ("Format", "Files", "")
    rows = [dict(zip(columns, row, strict=True)) for row in _FORMATS]
    st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)


def report_tables(report: ImportReport) -> None:
    """What was taken, and what was left out and why."""
    widgets.section("Clients", f"Compared with: {widgets.literal(report.reference)}.")
    rows = [
        {
            "Client": client.id,
            "Examples": client.num_examples,
            "Tensors": len(client.took),
            "Mismatches": client.mismatches,
            "File": _own_name(client.source),
            "Format": str(client.format),
        }
        for client in report.clients[:_MOST_ROWS]
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, row_height=34)
    left = [(item.source, item.reason) for client in report.clients for item in client.left_out]
    left += [(item.source, item.reason) for item in report.passed_over]
    if left:
        widgets.section("Left out", "What is in the files and is no model weight, and why.")
        rows = [
            {"What": wording.plain(_own_name(source)), "Why": widgets.literal(reason)}
            for source, reason in left[:_MOST_ROWS]
        ]
        st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)
    for note in report.notes:
        st.markdown(f":small[:gray[{widgets.literal(note)}.]]")


def _own_name(source: str) -> str:
    """A source without the folder that its upload was kept in."""
    return source.split("/", 1)[-1]
