"""What the import page says before anything is uploaded."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from fedviz.dashboard import widgets

__all__ = ["before_upload"]

_FORMATS = (
    ("Keras 1, 2, 3", ".h5 .hdf5 .weights.h5 .keras", '`model.save("client1.h5")`'),
    ("NumPy, Flower", ".npz", '`np.savez("client1.npz", *parameters)`'),
    ("PyTorch, JAX", ".safetensors", '`save_file(model.state_dict(), "client1.safetensors")`'),
    ("TensorFlow", "a zip", "checkpoints and SavedModel folders"),
    ("fedviz", ".h5", "every client of its last round"),
    ("Zips, folders", ".zip", "one model for each client, or the parts of a single one"),
)
_NAMES = (
    ("`client3_n120.npz`", "client3", "120"),
    ("`north/model.h5` `south/model.h5`", "north, south", "not known"),
    ("a CSV of `client,num_examples`", "as the files", "from the CSV"),
    ("a CSV of `file,client,num_examples`", "from the CSV", "from the CSV"),
)
_STEPS = (
    ("Upload", "one file for each client; what a file is, its content says."),
    ("Look over", "who is who: ids and numbers of examples, in a table to correct."),
    ("Import", "every tensor is taken as it is, and compared with the server or the majority."),
    ("Look at it", "which clients differ and why, the heatmaps, the average."),
)


def before_upload() -> None:
    """How an import goes, what is understood, and what files' names say."""
    widgets.section("How it goes", "Five Keras files take less than a minute.")
    st.markdown("\n".join(f"{i}. **{what}**: {how}" for i, (what, how) in enumerate(_STEPS, 1)))
    widgets.section("What is understood", "By content, whatever the file is called.")
    _table(("Format", "Files", "How to save one, or what is taken"), _FORMATS)
    widgets.section("What names say", "All of it can be corrected before the import.")
    _table(("File", "Client", "Examples"), _NAMES)


def _table(columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> None:
    frame = pd.DataFrame([dict(zip(columns, row, strict=True)) for row in rows])
    with st.container(key=f"mid_import_{columns[1].lower()}"):
        st.table(frame, border="horizontal", hide_index=True)
