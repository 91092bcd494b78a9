"""The pieces of the generate page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from fedviz.dashboard import cache, folders, jobs, state, tasks, widgets, wording
from fedviz.dashboard.engine import JobState
from fedviz.dataset import WeightDataset
from fedviz.errors import FedvizError
from fedviz.figures.text import shape_text
from fedviz.generation import GenerateRequest, client_ids
from fedviz.records import FaultKind
from fedviz.training.architectures import ARCHITECTURES

__all__ = ["Form", "form", "model_section", "progress_and_outcome", "shares", "start_button"]

_JOB = "generate_job"
_OWN = "my own file"
_OWN_TYPES = ["json", "npz", "safetensors", "h5", "hdf5"]
_MODES = {"train": "Federated training", "perturb": "Perturb a model"}
_PARTITIONS = {
    "dirichlet": "Dirichlet, skewed labels",
    "iid": "IID, all alike",
    "shards": "Shards of labels",
    "client-id": "By the data's client ids",
}


@dataclass(frozen=True)
class Form:
    """What the form says: a request, or why there is none."""

    name: str
    architecture: str
    request: GenerateRequest | None
    problem: str = ""


@dataclass(frozen=True)
class Shares:
    """Examples of each label that each client gets: int64 of shape (clients, classes)."""

    counts: np.ndarray
    client_ids: list[str]
    class_names: list[str]


def form() -> Form:
    """Draw the form."""
    mode = st.segmented_control(
        "How",
        list(_MODES),
        format_func=_MODES.__getitem__,
        default="train",
        key="mode",
        required=True,
        width="stretch",
    )
    architecture, problem = _choose_architecture(str(mode))
    with st.container(horizontal=True, gap="small"):
        clients = int(st.number_input("Clients", 1, 10_000, 10, key="num_clients"))
        rounds = int(st.number_input("Rounds", 1, 1_000, 5, key="num_rounds"))
        seed = int(st.number_input("Seed", 0, 2**31 - 1, 1, key="seed"))
    options = _training_options() if mode == "train" else _noise_options()
    faults = _choose_faults(clients)
    name = st.text_input("Name of the dataset", "my-run", key="dataset_name", max_chars=80)
    if problem:
        return Form(name, architecture, None, problem)
    try:
        request = GenerateRequest(
            architecture=architecture,
            mode=str(mode),
            clients=clients,
            rounds=rounds,
            seed=seed,
            faults=faults,
            **options,
        )
    except FedvizError as error:
        return Form(name, architecture, None, str(error))
    return Form(name, architecture, request)


def _choose_architecture(mode: str) -> tuple[str, str]:
    names = [n for n, a in ARCHITECTURES.items() if mode == "perturb" or a.data]
    chosen = st.selectbox(
        "Architecture",
        [*names, _OWN],
        index=names.index("digits-mlp"),
        key="architecture",
        help="The model whose weights the clients hold.",
    )
    if chosen != _OWN:
        st.markdown(f":small[:gray[{ARCHITECTURES[chosen].description}.]]")
        return chosen, ""
    upload = st.file_uploader(
        "A Keras JSON config, or a weights file to perturb", type=_OWN_TYPES, key="template"
    )
    if upload is None:
        return "", "Choose a file that describes the model."
    return str(folders.keep_template(upload.name, upload.getbuffer())), ""


def _training_options() -> dict[str, Any]:
    data = _choose_data()
    kinds = [k for k in _PARTITIONS if k != "client-id" or data != "digits"]
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        kind = st.selectbox(
            "Partition", kinds, format_func=_PARTITIONS.__getitem__, key="partition_kind"
        )
        parameter = _partition_parameter(kind)
    with st.container(horizontal=True, gap="small"):
        epochs = int(st.number_input("Local epochs", 1, 100, 3, key="local_epochs"))
        batch = int(st.number_input("Batch size", 1, 4096, 16, key="batch_size"))
        rate = float(
            st.number_input("Learning rate", 0.0001, 10.0, 0.15, format="%.4g", key="learning_rate")
        )
    return {
        "data": data,
        "partition": f"{kind}{parameter}",
        "local_epochs": epochs,
        "batch_size": batch,
        "learning_rate": rate,
    }


def _choose_data() -> str:
    source = st.segmented_control(
        "Data",
        ["digits", _OWN],
        default="digits",
        key="data_source",
        required=True,
        help="1,797 real images of handwritten digits; or an .npz of your own with x and y.",
    )
    if source == "digits":
        return "digits"
    upload = st.file_uploader("An .npz with x, y and optionally client_ids", ["npz"], key="data")
    return str(folders.keep_template(upload.name, upload.getbuffer())) if upload else "digits"


def _partition_parameter(kind: str) -> str:
    if kind == "dirichlet":
        alpha = st.number_input("Alpha", 0.01, 100.0, 0.3, format="%.4g", key="alpha")
        return f":{alpha:g}"
    if kind == "shards":
        return f":{st.number_input('Shards a client', 1, 100, 2, key='shards')}"
    return ""


def _noise_options() -> dict[str, Any]:
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        stddev = st.number_input(
            "Standard deviation", 0.0, 100.0, 0.01, format="%.4g", key="stddev"
        )
        relative = st.toggle("relative to each tensor's rms", key="relative")
    return {"stddev": float(stddev), "relative": bool(relative)}


def _choose_faults(clients: int) -> tuple[str, ...]:
    with st.expander("Inject faults", icon=":material/science:", type="compact"):
        st.markdown(
            ":small[:gray[One row a fault. The argument is optional: a tensor's name, a dtype, a "
            "share of cells, a factor, or a deviation, as the kind takes it. Clients with "
            "little-is-enough or inner-product collude: they know what the others trained.]]"
        )
        rows = st.data_editor(
            pd.DataFrame({"client": [], "kind": [], "argument": []}, dtype="str"),
            num_rows="dynamic",
            hide_index=True,
            key="faults",
            column_config={
                "client": st.column_config.SelectboxColumn(
                    "Client", options=client_ids(clients), required=True
                ),
                "kind": st.column_config.SelectboxColumn(
                    "Fault", options=[kind.value for kind in FaultKind], required=True
                ),
                "argument": st.column_config.TextColumn("Argument"),
            },
        )
    return tuple(_fault_text(row) for row in rows.to_dict("records") if row["client"])


def _fault_text(row: dict[Any, Any]) -> str:
    parts = [str(row["client"]), str(row["kind"])]
    if isinstance(row["argument"], str) and row["argument"]:
        parts.append(row["argument"])
    return ":".join(parts)


def start_button(chosen: Form) -> None:
    """Start the job; or say what is missing."""
    if chosen.problem:
        st.warning(widgets.literal(chosen.problem), icon=":material/info:")
    job = jobs.current(_JOB)
    busy = job is not None and job.active
    label = "Train" if chosen.request and chosen.request.mode == "train" else "Perturb"
    pressed = st.button(
        f"{label} and save",
        type="primary",
        icon=":material/play_arrow:",
        disabled=busy or chosen.request is None,
        width="stretch",
    )
    if not pressed or chosen.request is None:
        return
    with widgets.errors_in_place():
        target = folders.free_path(chosen.name)
        jobs.start(_JOB, f"generating {target.name}", tasks.run_generate, chosen.request, target)
        st.rerun()


def progress_and_outcome() -> None:
    """Watch the job; then open or download what it made."""
    jobs.panel(_JOB)
    job = jobs.current(_JOB)
    if job is None or job.state is not JobState.DONE:
        if not cache.engine().warm:
            st.markdown(":small[:gray[TensorFlow is loading in the background.]]")
        return
    path: Path = job.result()
    if not path.exists():
        return
    with WeightDataset(path) as dataset:
        st.success(wording.generated(dataset), icon=":material/check:")
    with st.container(horizontal=True, gap="small"):
        if st.button("Look at it", icon=":material/dataset:", type="primary"):
            state.look_at(path.name)
        st.download_button(
            "Download",
            path.read_bytes,
            file_name=path.name,
            icon=":material/download:",
            on_click="ignore",
        )


def model_section(chosen: Form) -> None:
    """The layers of the model, as they are known without TensorFlow."""
    known = ARCHITECTURES.get(chosen.architecture)
    if known is None:
        return
    widgets.section(
        "Layers",
        f"{known.name}: input {shape_text(known.input_shape)}, "
        f"{known.num_parameters:,} parameters in {len(known.signature)} tensors.",
    )
    frame = pd.DataFrame(
        [
            {
                "layer": layer.name,
                "kind": layer.kind,
                "output": shape_text(layer.output_shape),
                "parameters": layer.num_parameters,
                "tensors": ", ".join(_tensor_text(known.signature[t]) for t in layer.tensors),
            }
            for layer in known.layers
        ]
    )
    st.dataframe(
        frame,
        hide_index=True,
        height="content" if len(frame) <= _MOST_LAYERS else 36 * _MOST_LAYERS,
        row_height=34,
        column_config={
            "layer": st.column_config.TextColumn("Layer", width=110),
            "kind": st.column_config.TextColumn("Kind", width=110),
            "output": st.column_config.TextColumn("Output", width=90),
            "parameters": st.column_config.NumberColumn("Parameters", format="localized", width=90),
            "tensors": st.column_config.TextColumn("Tensors", width=260),
        },
    )


_MOST_LAYERS = 9


def _tensor_text(spec: Any) -> str:
    frozen = ", not trained" if spec.trainable is False else ""
    return f"{spec.name.rsplit('/', 1)[-1]} {shape_text(spec.shape)}{frozen}"


def shares(chosen: Form) -> Shares | None:
    """The picture's numbers; None where nothing is trained or there are no labels."""
    if chosen.request is None or chosen.request.mode != "train":
        return None
    with widgets.errors_in_place():
        counts = cache.label_shares(chosen.request)
        if counts is None:
            return None
        classes = [str(label) for label in range(counts.shape[1])]
        return Shares(counts, client_ids(counts.shape[0]), classes)
    return None
