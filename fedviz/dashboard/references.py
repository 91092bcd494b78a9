"""What the clients are compared with: who is offered, and the signature that each stands for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import streamlit as st

from fedviz.analysis.check import Reference, reference_signature
from fedviz.dashboard import folders, widgets
from fedviz.dataset import FileIdentity, Round
from fedviz.errors import storage_errors
from fedviz.training.architectures import ARCHITECTURES, architecture

__all__ = ["ReferenceChoice", "choose", "resolve"]

SERVER, MAJORITY = "the server model", "the majority"

_WEIGHT_SUFFIXES = frozenset({".h5", ".hdf5", ".keras", ".npz", ".npy", ".safetensors"})
"""Names of the files that are offered; what they hold is seen when one is chosen."""


@dataclass(frozen=True)
class ReferenceChoice:
    """One reference that can be chosen; ``name`` is the client's, architecture's or file's.

    ``file`` tells one state of a file from another.
    """

    kind: Literal["server", "majority", "client", "architecture", "file"]
    name: str = ""
    file: FileIdentity | None = None

    @property
    def label(self) -> str:
        """How sentences, the list and the address name it."""
        named = {"server": SERVER, "majority": MAJORITY}
        return named.get(self.kind) or f"{self.kind} {self.name}"


def choose(round_: Round, key: str = "reference") -> ReferenceChoice:
    """Draw the list of references, and say which is chosen."""
    files = _files(round_.dataset.path)
    offered = {choice.label: choice for choice in _choices(round_, files)}
    _say_if_unknown(key, offered)
    label = st.selectbox(
        "Compared with",
        list(offered),
        key=key,
        width=260,
        bind="query-params",
        help="The server model, the majority's signature, one client, an architecture that fedviz "
        "knows, or a file in the data folder.",
    )
    choice = offered[label]
    if choice.kind != "file":
        return choice
    with storage_errors(files[choice.name], "read"):
        return ReferenceChoice("file", choice.name, FileIdentity.of(files[choice.name]))


def resolve(round_: Round, choice: ReferenceChoice) -> Reference:
    """The signature that a choice stands for, under its label.

    Raises
    ------
    FedvizError
        The chosen file cannot be read, or holds no weights.
    """
    if choice.kind == "client":
        signature = round_.clients[choice.name].signature
    elif choice.kind == "architecture":
        signature = architecture(choice.name).signature
    else:
        source = choice.file.path if choice.file else choice.kind
        signature = reference_signature(round_.dataset, source)
    return Reference(choice.label, signature)


def _choices(round_: Round, files: dict[str, Path]) -> Iterator[ReferenceChoice]:
    yield ReferenceChoice("server")
    yield ReferenceChoice("majority")
    yield from (ReferenceChoice("client", record.id) for record in round_.records)
    yield from (ReferenceChoice("architecture", name) for name in ARCHITECTURES)
    yield from (ReferenceChoice("file", name) for name in files)


def _files(shown: Path) -> dict[str, Path]:
    """The other datasets, and the weights that were uploaded: no other file can be named."""
    found = {n: p for n, p in folders.datasets().items() if p != shown}
    own = folders.data_folder()
    for path in sorted([*own.glob("*"), *(own / "uploads").glob("*")]):
        if path.suffix in _WEIGHT_SUFFIXES and path.is_file() and path != shown:
            found.setdefault(path.name, path)
    return found


def _say_if_unknown(key: str, offered: dict[str, ReferenceChoice]) -> None:
    """Streamlit drops a value that the address asks for in vain without a word."""
    asked = st.query_params.get(key)
    if asked is not None and asked not in offered:
        text = widgets.literal(f"There is no reference {asked} here; showing {SERVER}.")
        st.toast(text, icon=":material/info:")
