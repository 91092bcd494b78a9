"""Which clients are meant by the files, folders and zips that a user names."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from fedviz.errors import DatasetFormatError, InvalidArgumentError, located, storage_errors
from fedviz.importers.content import PICKLE_ENDINGS, FileKind, file_kind, recognise
from fedviz.importers.fedviz_file import clients_of
from fedviz.importers.imported import LeftOut
from fedviz.importers.natural_order import natural_key
from fedviz.importers.packed import STATE, PackedModel, earlier_states, packed_models
from fedviz.importers.safetensors import shards_of

__all__ = [
    "ClientSource",
    "client_ids",
    "examples_in_name",
    "find_sources",
    "in_natural_order",
    "single_source",
]

MAX_CLIENTS = 100_000

_ENDINGS = (
    *(".safetensors.index.json", ".weights.h5", ".ckpt.index"),
    *(".h5", ".hdf5", ".keras", ".npz", ".npy", ".safetensors", ".index", ".ckpt"),
)
_EXAMPLES = re.compile(
    r"(?:^|[_\-. ])(?:num[_-]?examples|examples|samples|n)[=_-]?([0-9]{1,18})(?=$|[_\-. ])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ClientSource:
    """Where one client's weights are.

    Parameters
    ----------
    name : str
        What a person is told: the path below what was named, with ``/``.
    path : Path
        The file or folder.
    packed : PackedModel, optional
        A model inside the zip at ``path``.
    part : str, optional
        A client, aggregate or ``server`` of the fedviz dataset at ``path``.
    named : bool
        Whether the user named this very file, so that it must hold weights.
    """

    name: str
    path: Path
    packed: PackedModel | None = None
    part: str | None = None
    named: bool = True

    @contextlib.contextmanager
    def content(self) -> Iterator[Path]:
        """The file to read: the named one, or what was copied out of a zip."""
        if self.packed is None:
            yield self.path
            return
        with self.packed.copied_out(self.path) as copy:
            yield copy


def find_sources(paths: Sequence[Path]) -> tuple[list[ClientSource], list[LeftOut]]:
    """The clients' files among what a user names.

    Parameters
    ----------
    paths : sequence of Path
        Weights files; folders, which are searched; zips of weights files; fedviz datasets, which
        give every client of their last round; ``FILE.h5#PART`` for one model of such a dataset.

    Returns
    -------
    sources : list of ClientSource
        In the order of ``paths``; what one of them holds is in natural order.
    passed_over : list of LeftOut
        Files in folders that are no weights, and why.

    Raises
    ------
    StorageError, DatasetFormatError
        Something that was named cannot be read, or is no weights.
    InvalidArgumentError
        Nothing was named, something twice, or there are too many clients.
    """
    sources: list[ClientSource] = []
    passed_over: list[LeftOut] = []
    for path in paths:
        found, others = _sources_of(path)
        sources += found
        passed_over += others
    if not sources:
        raise InvalidArgumentError(_nothing_found(paths, passed_over))
    if len(sources) > MAX_CLIENTS:
        raise InvalidArgumentError(
            f"expected at most {MAX_CLIENTS:,} clients, found {len(sources):,}."
        )
    _refuse_repeated(sources)
    return sources, passed_over


def in_natural_order(sources: Sequence[ClientSource]) -> list[ClientSource]:
    """The order of the clients: client2 before client10."""
    return sorted(sources, key=lambda source: natural_key(source.name))


def single_source(path: Path) -> ClientSource:
    """The one model that a user names: a file, a SavedModel, or ``FILE.h5#PART``.

    Raises
    ------
    StorageError, DatasetFormatError
        It cannot be read or is no weights.
    InvalidArgumentError
        It is several.
    """
    path, part = _split_part(path)
    if path.is_dir() or (part is None and _is_archive(path)):
        found, _ = _sources_of(path)
        if len(found) != 1:
            raise InvalidArgumentError(
                f"{path.name}: expected one model, found {len(found)}; name one file in it."
            )
        return found[0]
    path = _resolved(path)
    file_kind(path)
    return ClientSource(path.name, path, part=part)


def _is_archive(path: Path) -> bool:
    return path.is_file() and recognise(path) is FileKind.ARCHIVE


def _nothing_found(paths: Sequence[Path], passed_over: Sequence[LeftOut]) -> str:
    if not paths:
        return "expected files or folders to import, found none."
    names = ", ".join(path.name for path in paths[:3])
    reason = f" ({passed_over[0].source}: {passed_over[0].reason})" if passed_over else ""
    return f"{names}: expected weights files, found none{reason}."


def _refuse_repeated(sources: Sequence[ClientSource]) -> None:
    places = Counter((os.path.realpath(s.path), s.packed, s.part) for s in sources)
    for source in sources:
        if places[os.path.realpath(source.path), source.packed, source.part] > 1:
            raise InvalidArgumentError(f"{source.name} is named twice; name every file once.")


def _split_part(path: Path) -> tuple[Path, str | None]:
    """``run.h5#c03`` is the client c03 of run.h5, unless there is a file of that name."""
    if "#" in path.name and not path.exists():
        name, _, part = path.name.partition("#")
        if name and part:
            return path.with_name(name), part
    return path, None


def _resolved(path: Path) -> Path:
    """A checkpoint is often named by its prefix, for which there is no file."""
    index = path.with_name(f"{path.name}.index")
    return index if not path.exists() and index.is_file() else path


def _sources_of(path: Path) -> tuple[list[ClientSource], list[LeftOut]]:
    path, part = _split_part(path)
    path = _resolved(path)
    if path.is_dir() and recognise(path) is None:
        return _in_folder(path)
    kind = file_kind(path)
    if part is not None:
        if kind is not FileKind.FEDVIZ:
            raise DatasetFormatError(
                located(f"expected a fedviz dataset with a part {part}, found {kind}", file=path)
            )
        return [ClientSource(f"{path.name}#{part}", path, part=part)], []
    if kind is FileKind.ARCHIVE:
        return _in_archive(path)
    name = _shown(path)
    return _expanded(ClientSource(name, path), kind), []


def _shown(path: Path) -> str:
    """The name and the folder's: clients' files are often all called the same."""
    return "/".join(path.absolute().parts[-2:])


def _expanded(source: ClientSource, kind: FileKind) -> list[ClientSource]:
    if kind is not FileKind.FEDVIZ:
        return [source]
    clients = clients_of(source.path)
    return [replace(source, name=f"{source.name}#{client}", part=client) for client in clients] or [
        source
    ]


# --- folders and zips -------------------------------------------------------------------------


def _in_folder(folder: Path) -> tuple[list[ClientSource], list[LeftOut]]:
    sources: list[ClientSource] = []
    passed_over: list[LeftOut] = []
    for path in _entries(folder):
        name = f"{folder.absolute().name}/{path.relative_to(folder).as_posix()}"
        kind, reason = _kind_in_folder(path)
        if kind is None:
            passed_over.append(LeftOut(name, reason))
        else:
            sources += _expanded(ClientSource(name, path, named=False), kind)
    return _without_parts(in_natural_order(sources), passed_over)


def _entries(folder: Path) -> Iterator[Path]:
    """Files below a folder, and SavedModels, which are folders; hidden ones are left alone."""
    with storage_errors(folder, "read"):
        for parent, folders, files in os.walk(folder):
            place = Path(parent)
            models = {name for name in folders if (place / name / "saved_model.pb").is_file()}
            folders[:] = [f for f in folders if f not in models and not f.startswith((".", "__"))]
            for name in sorted({*files, *models}, key=natural_key):
                if not name.startswith("."):
                    yield place / name


def _kind_in_folder(path: Path) -> tuple[FileKind | None, str]:
    """The kind of a file that was not named itself, or why it is none of the clients'.

    A damaged file is an error here too: it may be a client's, which must not get lost.
    """
    if ".data-0" in path.name and path.name.rpartition(".data-")[2][:5].isdigit():
        return None, "part of a checkpoint"
    kind = recognise(path)
    if kind is FileKind.PICKLE or (kind is None and path.suffix.lower() in PICKLE_ENDINGS):
        return None, "a pickle, which is never opened; save it as .safetensors"
    if kind is FileKind.ARCHIVE:
        return None, "a zip inside a folder; name it itself"
    if kind is None:
        return None, "not a weights file"
    return kind, ""


def _without_parts(
    sources: Sequence[ClientSource], passed_over: list[LeftOut]
) -> tuple[list[ClientSource], list[LeftOut]]:
    """Without the shards that an index speaks of, and all but the latest of a checkpoint."""
    parts: dict[Path, str] = {}
    for source in sources:
        if source.path.name == STATE:
            parts[source.path] = "it only names a checkpoint"
            parts.update(_earlier_states(source.path))
        elif source.path.name.endswith(".index.json"):
            shards = shards_of(source.path)
            parts.update({source.path.parent / s: "a shard, read by its index" for s in shards})
    kept = [source for source in sources if source.path not in parts]
    passed_over += [LeftOut(s.name, parts[s.path]) for s in sources if s.path in parts]
    return kept, passed_over


def _earlier_states(state: Path) -> dict[Path, str]:
    with storage_errors(state, "read"):
        text = state.read_text("utf-8", "replace")[:1_000_000]
    reason = "an earlier state of the same checkpoint"
    return {state.with_name(f"{name}.index"): reason for name in earlier_states(text)}


def _in_archive(path: Path) -> tuple[list[ClientSource], list[LeftOut]]:
    models, passed_over = packed_models(path)
    sources = [
        ClientSource(f"{path.name}/{model.name}", path, model, named=False) for model in models
    ]
    return in_natural_order(sources), passed_over


# --- what the names say -----------------------------------------------------------------------


def examples_in_name(source: ClientSource, client: str) -> int | None:
    """``num_examples`` as a name says it: ``client3_n120.npz``, ``num_examples=120``.

    None where that part of the name is in the client's id: in ``node_n1``, ``node_n2`` it is what
    tells the clients apart.
    """
    if _EXAMPLES.search(client):
        return None
    for text in (_stem(source), _folder(source)):
        found = _EXAMPLES.search(text)
        if found:
            return int(found[1])
    return None


def client_ids(sources: Sequence[ClientSource]) -> list[str]:
    """Unique client ids from the names of the files.

    The name without its ending and without ``num_examples``; the folder's, where all files are
    called the same; both, where either repeats. A client of a fedviz dataset keeps its id.

    Raises
    ------
    InvalidArgumentError
        Even the whole names are not unique.
    """
    names = [_stem(source) for source in sources]
    stems = [_id_in(n) if s.part is None else n for n, s in zip(names, sources, strict=True)]
    folders = [_id_in(_folder(source)) for source in sources]
    both = [f"{f}/{s}" if f else s for f, s in zip(folders, stems, strict=True)]
    choices = [stems, folders, names, both, [source.name for source in sources]]
    if len(set(names)) > 1:
        choices.remove(folders)
    for ids in choices:
        if all(ids) and len(set(ids)) == len(ids):
            return ids
    twice = next(name for name, count in Counter(choices[-1]).items() if count > 1)
    raise InvalidArgumentError(
        f"{twice}: two files give the same client id; rename one, or import their folder."
    )


def _stem(source: ClientSource) -> str:
    if source.part is not None:
        return source.part
    name = PurePosixPath(source.name).name
    lower = name.lower()
    ending = next((e for e in _ENDINGS if lower.endswith(e) and len(e) < len(name)), "")
    return name[: len(name) - len(ending)]


def _folder(source: ClientSource) -> str:
    """The folder's name; the file's, for a client of a fedviz dataset."""
    if source.part is not None:
        return _stem(replace(source, part=None, name=source.name.rpartition("#")[0]))
    return PurePosixPath(source.name).parent.name


def _id_in(text: str) -> str:
    return _EXAMPLES.sub("", text).strip("_-. ") or text
