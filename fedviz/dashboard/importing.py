"""The pieces of the import page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from fedviz.dashboard import folders, import_table, jobs, state, tasks, widgets, wording
from fedviz.dashboard.engine import JobState
from fedviz.dashboard.import_table import own_name
from fedviz.importers.report import ImportReport

__all__ = [
    "Form",
    "form",
    "listed_clients",
    "outcome",
    "progress",
    "report_tables",
    "start_button",
]

_JOB = "import_job"
_MOST_ROWS = 200


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
    whole_folder = _choose_folder()
    uploads = st.file_uploader(
        "The clients' weights, one file a client, or a zip of them",
        accept_multiple_files="directory" if whole_folder else True,
        key="import_folder" if whole_folder else "import_files",
        label_visibility="collapsed",
    )
    with st.expander("Server model, numbers of examples, names", type="compact"):
        server = st.file_uploader(
            "The server model, if you have it",
            key="import_server",
            help="The reference that the clients are compared with; without it, the majority.",
        )
        num_examples = st.file_uploader(
            "A CSV of the clients",
            type=["csv"],
            key="import_examples",
            help="The columns client and num_examples; with file, client and num_examples it also "
            "says what clients are called. Not needed where the files' names say it, or the table.",
        )
        keep_names = st.checkbox(
            "Keep names that are only numbers",
            key="import_keep_names",
            help="Models made one after another in Keras are numbered on: dense, then dense_1. "
            "Where all else agrees, the reference's names are taken, unless you tick this.",
        )
    name = st.text_input("Name of the dataset", "imported", key="import_name", max_chars=80)
    return Form(name, list(uploads or []), server, num_examples, keep_names)


def _choose_folder() -> bool:
    """Whether a folder is uploaded: browsers let people choose one or the other."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("The clients' weights, one file a client, or a zip", width="stretch")
        way = st.segmented_control(
            "What to upload",
            ["Files", "A folder"],
            default="Files",
            key="import_way",
            label_visibility="collapsed",
            required=True,
        )
    return way == "A folder"


def start_button(chosen: Form, listed: import_table.Listed | None) -> None:
    """Start the import."""
    job = jobs.current(_JOB)
    done = job is not None and job.state is JobState.DONE
    ready = listed is not None and listed.complete
    pressed = st.button(
        "Import",
        type="secondary" if done else "primary",
        icon=":material/upload_file:",
        disabled=not ready or (job is not None and job.active),
        width="stretch",
    )
    if not pressed or listed is None:
        return
    with widgets.errors_in_place():
        target = folders.free_path(chosen.name)
        kept = import_table.taken_over(listed)
        jobs.start(
            _JOB,
            f"importing {target.name}",
            tasks.run_import,
            kept.files,
            kept.folder,
            target,
            _kept(chosen.server),
            listed.clients,
            chosen.keep_names,
        )
        st.rerun()


def _kept(upload: Any) -> Path | None:
    return None if upload is None else folders.keep_template(upload.name, upload.getbuffer())


def listed_clients(chosen: Form) -> import_table.Listed | None:
    """The clients of the uploads, to be looked over; None where there is nothing to look at."""
    job = jobs.current(_JOB)
    if not chosen.uploads or (job is not None and job.active) or _is_done(chosen):
        return None
    with widgets.errors_in_place():
        return import_table.table(chosen.uploads, _kept(chosen.num_examples))
    return None


def outcome(chosen: Form) -> ImportReport | None:
    """The report of the last import, until other files are uploaded."""
    job = jobs.current(_JOB)
    if job is None or (chosen.uploads and not _is_done(chosen)) or job.state is not JobState.DONE:
        return None
    report: ImportReport = job.result()
    return report


def _is_done(chosen: Form) -> bool:
    """Whether these very uploads were imported."""
    job = jobs.current(_JOB)
    done = job is not None and job.state is JobState.DONE
    return done and import_table.is_taken_over(chosen.uploads)


def progress(chosen: Form, report: ImportReport | None) -> None:
    """Watch the job, and offer what comes after it."""
    jobs.panel(_JOB)
    if report is None:
        return
    if st.button("Look at it", icon=":material/dataset:", type="primary", width="stretch"):
        state.look_at(report.out.name)
    if chosen.uploads and st.button(
        "Correct ids or numbers, and import again",
        type="tertiary",
        icon=":material/edit:",
        on_click=lambda: jobs.forget(_JOB),
    ):
        st.rerun()


def report_tables(report: ImportReport) -> None:
    """What was taken, and what was left out and why."""
    widgets.section("Clients", f"Compared with: {widgets.literal(report.reference)}.")
    rows = [
        {
            "Client": client.id,
            "Examples": client.num_examples,
            "Tensors": len(client.took),
            "Mismatches": client.mismatches,
            "File": own_name(client.source),
            "Format": str(client.format),
        }
        for client in report.clients[:_MOST_ROWS]
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, row_height=34, placeholder="not known")
    left = [(item.source, item.reason) for client in report.clients for item in client.left_out]
    left += [(item.source, item.reason) for item in report.passed_over]
    if left:
        widgets.section("Left out", "What is in the files and is no model weight, and why.")
        rows = [
            {"What": wording.plain(own_name(source)), "Why": widgets.literal(reason)}
            for source, reason in left[:_MOST_ROWS]
        ]
        st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)
    for note in report.notes:
        st.markdown(f":small[:gray[{widgets.literal(note)}.]]")
