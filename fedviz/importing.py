"""From the files of other programs to a dataset: one round, one client for each file.

Every file is read twice: first its signature, so that the clients' rows can be laid out, then its
values. One client's weights are in memory at a time.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from fedviz.errors import DatasetFormatError, InvalidArgumentError, located
from fedviz.importers.content import (
    PICKLE_ENDINGS,
    TENSORFLOW_KINDS,
    FileKind,
    file_kind,
    recognise,
)
from fedviz.importers.examples import NumExamples
from fedviz.importers.fedviz_file import open_fedviz_file
from fedviz.importers.imported import ImportedWeights, LeftOut, Taken
from fedviz.importers.layer_numbers import differ_in_layer_numbers
from fedviz.importers.listing import (
    Proposal,
    ProposedClient,
    named_clients,
    proposed_clients,
    refuse_problems,
)
from fedviz.importers.npz import is_numbered
from fedviz.importers.reading import READERS
from fedviz.importers.report import ImportedClient, ImportReport
from fedviz.importers.sources import (
    ClientSource,
    find_sources,
    in_natural_order,
    single_source,
)
from fedviz.progress import Progress, ProgressCallback, silent
from fedviz.signature import Signature, compare_signatures
from fedviz.writer import ClientEntry, WeightDatasetWriter

__all__ = [
    "MAJORITY",
    "ImportReport",
    "ImportedClient",
    "Proposal",
    "ProposedClient",
    "import_clients",
    "open_any_weights",
    "proposed_clients",
]

MAJORITY = "majority"
_BY_POSITION = "all shapes agree with the reference's in their order, so its names were taken"
_BY_NUMBER = "layer numbers given by Keras were matched by position, with the reference's names"

_Value = TypeVar("_Value", bound=Hashable)


@dataclass(frozen=True)
class _Inspected:
    """A source after the first reading."""

    source: ClientSource
    format: str
    signature: Signature
    took: tuple[Taken, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    num_examples: int | None


def import_clients(
    files: Sequence[str | Path],
    out: str | Path,
    *,
    num_examples: NumExamples | None = None,
    reference: str | Path | None = None,
    server: str | Path | None = None,
    keep_names: bool = False,
    clients: Iterable[ProposedClient] = (),
    progress: ProgressCallback = silent,
) -> ImportReport:
    """Make a dataset of one round from clients' weights files.

    Parameters
    ----------
    files : sequence of path
        Weights files of any kind, each one client; folders and zips of such files; fedviz
        datasets, which give every client of their last round, or ``FILE.h5#PART``.
    out : path
        The dataset; it appears when it is complete. A file that is there is replaced only if it
        is a fedviz dataset.
    num_examples : sequence of int, mapping or Path, optional
        For each file in natural order; by client id or file name; or a CSV of that, which may
        also name the clients: ``file,client,num_examples``. By default what the files or their
        names say (``client3_n120.npz``).
    reference : str or path, optional
        ``majority``, the signature that most clients have; or a file, whose signature is taken.
        By default the server model's, where that is given, and else ``majority``.
    server : path, optional
        The server model before the round.
    keep_names : bool
        Whether names stay as the files have them. Otherwise arrays without names (``arr_0``), and
        layers that Keras only numbered on (``dense_7`` for ``dense_1``), get the reference's names
        where all else agrees in order.
    clients : iterable of ProposedClient, optional
        What :func:`proposed_clients` says of these files, as a person corrected it: ids and
        numbers of examples by source, which go before all else.
    progress : callable
        Told of every file, twice.

    Returns
    -------
    ImportReport
        Clients that differ from the reference are kept as they are, and counted.

    Raises
    ------
    StorageError
        A file cannot be read, or the dataset cannot be written.
    DatasetFormatError
        A file is a pickle, damaged, of an unknown kind, or something in it cannot be a weight.
    InvalidArgumentError, UnknownNameError
        ``out`` is another program's file, the server model does not fit the reference,
        ``num_examples`` do not fit the clients, or two clients would have one id.
    """
    target = Path(out)
    _refuse_foreign_file(target)
    named, passed_over = find_sources([Path(file) for file in files])
    inspected, others = _inspect_all(in_natural_order(named), progress)
    sources = [client.source for client in inspected]
    taken = set(sources)
    called = named_clients(
        sources,
        [client.num_examples for client in inspected],
        [source for source in named if source in taken],
        num_examples,
        clients,
    )
    refuse_problems(called)
    model = None if server is None else _inspect_single(Path(server))
    signature, named_reference = _reference(reference, model, inspected, keep_names)
    if not keep_names:
        inspected = [_named_by_position(client, signature) for client in inspected]
    entries = [
        ClientEntry(client.id, client.num_examples, item.signature)
        for client, item in zip(called, inspected, strict=True)
    ]
    _write(target, signature, entries, inspected, model, named_reference, progress)
    return ImportReport(
        out=target,
        signature=signature,
        reference=named_reference,
        server=model.source.name if model else None,
        clients=tuple(
            ImportedClient(
                entry.id,
                entry.num_examples,
                item.source.name,
                item.format,
                item.took,
                item.left_out,
                item.notes,
                mismatches,
            )
            for entry, item, mismatches in zip(
                entries, inspected, _mismatches(signature, inspected), strict=True
            )
        ),
        passed_over=(*passed_over, *others),
    )


@contextlib.contextmanager
def open_any_weights(source: ClientSource) -> Iterator[ImportedWeights]:
    """The weights of one client, read by whoever can: TensorFlow is imported for its own formats.

    Raises
    ------
    StorageError, DatasetFormatError, UnknownNameError
        The file cannot be read, or holds no weights.
    """
    with source.content() as path, _opened(source, path) as weights:
        yield weights


def _opened(source: ClientSource, path: Path) -> AbstractContextManager[ImportedWeights]:
    kind = file_kind(path)
    if kind is FileKind.FEDVIZ:
        return open_fedviz_file(path, source.part)
    if kind is FileKind.ARCHIVE:
        raise DatasetFormatError(
            located("a zip inside a zip is not opened; unpack the outer one", file=path)
        )
    if kind in TENSORFLOW_KINDS:
        from fedviz.training.checkpoints import open_checkpoint, open_saved_model

        return (open_saved_model if kind is FileKind.SAVED_MODEL else open_checkpoint)(path)
    return READERS[kind](path)


# --- the first reading ------------------------------------------------------------------------


def _inspect_all(
    sources: Sequence[ClientSource], progress: ProgressCallback
) -> tuple[list[_Inspected], list[LeftOut]]:
    """Every source's signature; what of a zip is no weights is passed over."""
    shared: dict[Any, Any] = {}
    inspected: list[_Inspected] = []
    passed_over: list[LeftOut] = []
    for i, source in enumerate(sources):
        progress(Progress(i, 2 * len(sources), f"looking into {source.name}"))
        with source.content() as path:
            reason = _why_not(source, path)
            if reason:
                passed_over.append(LeftOut(source.name, reason))
            else:
                inspected.append(_sharing(_inspect(source, path), shared))
    if not inspected:
        first = passed_over[0]
        raise InvalidArgumentError(
            f"expected weights files, found none ({first.source}: {first.reason})."
        )
    return inspected, passed_over


def _why_not(source: ClientSource, path: Path) -> str:
    """Why a member of a zip is no client's weights; empty where it may be."""
    if source.packed is None:
        return ""
    kind = recognise(path)
    if kind is FileKind.PICKLE or (kind is None and path.suffix.lower() in PICKLE_ENDINGS):
        return "a pickle, which is never opened; save it as .safetensors"
    return "not a weights file" if kind is None else ""


def _inspect(source: ClientSource, path: Path) -> _Inspected:
    with _opened(source, path) as found:
        return _Inspected(
            source,
            found.format,
            found.signature,
            found.took,
            found.left_out,
            found.notes,
            found.num_examples,
        )


def _inspect_single(path: Path) -> _Inspected:
    source = single_source(path)
    with source.content() as content:
        return _inspect(source, content)


def _sharing(item: _Inspected, shared: dict[Any, Any]) -> _Inspected:
    """The same values once in memory: a thousand clients mostly have the same tensors."""

    def once(value: _Value) -> _Value:
        found: _Value = shared.setdefault(value, value)
        return found

    return replace(
        item,
        signature=once(item.signature),
        took=once(item.took),
        left_out=once(item.left_out),
        notes=once(item.notes),
    )


# --- the reference ----------------------------------------------------------------------------


def _reference(
    reference: str | Path | None,
    server: _Inspected | None,
    clients: Sequence[_Inspected],
    keep_names: bool,
) -> tuple[Signature, str]:
    """The dataset's signature, and where it comes from."""
    if reference is None and server is not None:
        return server.signature, server.source.name
    if reference is None or str(reference) == MAJORITY:
        signature, name = _majority([client.signature for client in clients]), MAJORITY
    else:
        chosen = _inspect_single(Path(reference))
        signature, name = chosen.signature, chosen.source.name
    if server is not None and not keep_names:
        server = _named_by_position(server, signature)
    if server is not None and not server.signature.agrees_with(signature):
        first = compare_signatures(signature, server.signature)[0]
        raise InvalidArgumentError(
            located(
                f"the server model does not fit the reference {name}: expected {first.expected}, "
                f"found {first.actual}; leave --reference out to compare with the server model",
                file=server.source.path,
                tensor=first.tensor,
            )
        )
    return signature, name


def _majority(signatures: Sequence[Signature]) -> Signature:
    """The most frequent signature; of equally frequent ones the first."""
    keys = [tuple((t.name, t.shape, t.dtype) for t in s) for s in signatures]
    most = Counter(keys).most_common(1)[0][0]
    return signatures[keys.index(most)]


def _named_by_position(client: _Inspected, reference: Signature) -> _Inspected:
    """The client under the reference's names, where its own say nothing and all else agrees."""
    note = _why_by_position(client.signature, reference)
    if not note:
        return client
    took = tuple(
        Taken(taken.source, name) for taken, name in zip(client.took, reference.names, strict=True)
    )
    return replace(client, signature=reference, took=took, notes=(*client.notes, note))


def _why_by_position(signature: Signature, reference: Signature) -> str:
    """Why tensors may take the reference's names; empty where they may not.

    Their own are numbers: of arrays, as Flower saves them, or of layers, as Keras counts them.
    """
    if differ_in_layer_numbers(reference, signature):
        return _BY_NUMBER
    nameless = is_numbered(signature) and not is_numbered(reference)
    types = [(spec.shape, spec.dtype) for spec in signature]
    return _BY_POSITION if nameless and types == [(s.shape, s.dtype) for s in reference] else ""


def _mismatches(reference: Signature, clients: Sequence[_Inspected]) -> list[int]:
    counts: dict[Signature, int] = {}
    for client in clients:
        if client.signature not in counts:
            counts[client.signature] = len(compare_signatures(reference, client.signature))
    return [counts[client.signature] for client in clients]


# --- writing ----------------------------------------------------------------------------------


def _refuse_foreign_file(out: Path) -> None:
    """``fedviz import *.h5`` must not replace the first client's file."""
    if out.is_file() and recognise(out) is not FileKind.FEDVIZ:
        raise InvalidArgumentError(
            f"{out.name} is there and is no fedviz dataset, so it is not replaced; name the new "
            "dataset first, then the clients' files."
        )


def _write(
    out: Path,
    signature: Signature,
    entries: Sequence[ClientEntry],
    clients: Sequence[_Inspected],
    server: _Inspected | None,
    reference: str,
    progress: ProgressCallback,
) -> None:
    recipe = {
        "mode": "import",
        "reference": reference,
        "formats": sorted({str(client.format) for client in clients}),
        "files": [client.source.name for client in clients],
    }
    with contextlib.ExitStack() as resources:
        found = resources.enter_context(open_any_weights(server.source)) if server else None
        # In their order: the names may be the reference's.
        model = None if found is None else list(found.weights.values())
        writer = resources.enter_context(WeightDatasetWriter(out, signature, recipe))
        with writer.round(entries, model) as round_:
            for i, (entry, client) in enumerate(zip(entries, clients, strict=True)):
                done = len(clients) + i
                progress(Progress(done, 2 * len(clients), f"reading {client.source.name}"))
                with open_any_weights(client.source) as weights:
                    round_.write_client(entry.id, list(weights.weights.values()))
