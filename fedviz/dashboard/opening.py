"""Opening datasets: the upload, and what a page shows while there is nothing to look at."""

from __future__ import annotations

import streamlit as st

from fedviz.dashboard import folders, state, widgets
from fedviz.errors import FedvizError

__all__ = ["guard", "upload_button"]


def upload_button() -> None:
    """A button beside the breadcrumb that takes a dataset from the user's own disk."""
    with st.popover("Open a file", icon=":material/upload_file:", type="tertiary"):
        _uploader("upload")


def guard() -> None:
    """End the page with what to do next, where there is no dataset to show."""
    unreadable = st.session_state.get("_unreadable")
    if st.session_state.get("_selection") is not None:
        return
    if unreadable:
        part, message = unreadable
        if part == "round":
            widgets.answer(":red[This round cannot be read.] Choose another above.")
        else:
            widgets.answer(":red[This dataset cannot be opened.]")
        st.error(widgets.literal(message), icon=":material/error:")
        if part == "round":
            st.stop()
    with st.container(width=640):
        if not unreadable:
            is_open = bool(st.session_state.get("dataset"))
            title = "This dataset has no rounds yet" if is_open else "No dataset is open yet"
            st.title(title, anchor=False)
            st.markdown(
                "A dataset holds, for each round, the server model, every client's weights and "
                "their aggregate."
            )
        with st.container(border=True):
            st.markdown("**Make one**: perturbed clients, or real federated training on digits.")
            st.page_link("pages/generate.py", label="Generate", icon=":material/add_circle:")
        with st.container(border=True):
            st.markdown("**Bring your own**: a fedviz file, or one file a client from elsewhere.")
            _uploader("first_upload")
            st.page_link("pages/import.py", label="Import", icon=":material/upload_file:")
        _tour()
    st.stop()


def _tour() -> None:
    """The way to the tour, which tells of a dataset: of the first one, where that is another."""
    first = folders.first_dataset()
    can_begin = first is not None and first != st.session_state.get("dataset")
    where = "on a sample" if can_begin else "as soon as there is a dataset"
    with st.container(border=True):
        st.markdown(f"**New to this?** Federated averaging in five steps, {where}.")
        st.page_link(
            "pages/tour.py",
            label="Tour",
            icon=":material/slideshow:",
            disabled=not can_begin,
            query_params={"dataset": first or ""},
        )


def _uploader(key: str) -> None:
    upload = st.file_uploader("A fedviz dataset (.h5)", type=["h5", "hdf5"], key=key)
    st.markdown(f":small[:gray[It is kept in {widgets.literal(str(folders.data_folder()))}]]")
    if upload is None or st.session_state.get("_kept_upload") == upload.file_id:
        return
    try:
        path = folders.keep_upload(upload.name, upload.getbuffer())
    except FedvizError as error:
        st.error(widgets.literal(str(error)), icon=":material/error:")
        return
    st.session_state["_kept_upload"] = upload.file_id
    state.ask_for(dataset=path.name)
    st.rerun()
