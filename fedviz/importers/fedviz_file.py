"""fedviz datasets as weights: a client, the server model or an aggregate of a round."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedviz.dataset import ClientWeights, Round, WeightDataset, WeightMap
from fedviz.errors import DatasetFormatError, UnknownNameError, located
from fedviz.importers.content import FileKind
from fedviz.importers.imported import FoundTensor, ImportedWeights, collect_weights
from fedviz.records import SERVER

__all__ = ["clients_of", "open_fedviz_file", "recorded_examples"]


@contextlib.contextmanager
def open_fedviz_file(path: Path, part: str | None = None) -> Iterator[ImportedWeights]:
    """One model of a fedviz dataset.

    Parameters
    ----------
    path : Path
    part : str, optional
        ``server``, the id of a client or the name of an aggregate, of the last round; with
        ``ROUND:`` before it, of that round. By default the server model of the first round, or
        what the dataset has in its place: the only aggregate, or the only client.

    Raises
    ------
    StorageError, DatasetFormatError
        The file cannot be read, is damaged, or does not say which model is meant.
    UnknownNameError
        It has no such round or part.
    """
    with WeightDataset(path) as dataset:
        weights = _only_model(dataset) if part is None else _part(dataset, part)
        found = [
            FoundTensor(
                spec.name,
                spec.name,
                spec.name,
                spec.shape,
                spec.numpy_dtype,
                functools.partial(weights.__getitem__, spec.name),
                spec.trainable,
            )
            for spec in weights.signature
        ]
        imported = collect_weights(path, FileKind.FEDVIZ, found)
        examples = weights.record.num_examples if isinstance(weights, ClientWeights) else None
        yield ImportedWeights(
            imported.source, imported.format, imported.weights, imported.took, (), (), examples
        )


def clients_of(path: Path) -> tuple[str, ...]:
    """Ids of the clients in the last round of a dataset; empty where it has none.

    Raises
    ------
    StorageError, DatasetFormatError
        The file cannot be read or is damaged.
    """
    with WeightDataset(path) as dataset:
        return tuple(record.id for record in dataset.round().records) if dataset.rounds else ()


def recorded_examples(path: Path, parts: Sequence[str]) -> dict[str, int | None]:
    """``num_examples`` of parts of a dataset that are clients; see :func:`open_fedviz_file`.

    Raises
    ------
    StorageError, DatasetFormatError
        The file cannot be read or is damaged.
    UnknownNameError
        It has no such round.
    """
    with WeightDataset(path) as dataset:
        known: dict[int, dict[str, int | None]] = {}
        found: dict[str, int | None] = {}
        for part in parts:
            round_, name = _round_and_name(dataset, part)
            if round_.number not in known:
                known[round_.number] = {r.id: r.num_examples for r in round_.records}
            found[part] = known[round_.number].get(name)
        return found


def _only_model(dataset: WeightDataset) -> WeightMap:
    first = dataset.rounds[0] if dataset.rounds else None
    if first is not None and first.server is not None:
        return first.server
    if first is not None and len(dataset.rounds) == 1:
        models: list[WeightMap] = [*first.aggregates.values(), *first.clients.values()]
        if len(models) == 1:
            return models[0]
    raise DatasetFormatError(
        located(
            "expected a server model in its first round, found none; name a part of the file: "
            f"{dataset.path.name}#CLIENT, #AGGREGATE or #ROUND:CLIENT",
            file=dataset.path,
        )
    )


def _part(dataset: WeightDataset, part: str) -> WeightMap:
    round_, name = _round_and_name(dataset, part)
    model = _model_of_round(round_, name)
    if model is None:
        known = [SERVER, *round_.clients, *round_.aggregates]
        shown = ", ".join(known[:12]) + (" …" if len(known) > 12 else "")
        raise UnknownNameError(
            located(
                f"there is no {name}; there are {shown}", file=dataset.path, round=round_.number
            )
        )
    return model


def _round_and_name(dataset: WeightDataset, part: str) -> tuple[Round, str]:
    number, colon, name = part.partition(":")
    numbered = bool(colon) and number.isdecimal()
    return dataset.round(int(number) if numbered else -1), name if numbered else part


def _model_of_round(round_: Round, name: str) -> WeightMap | None:
    if name == SERVER:
        return round_.server
    if name in round_.clients:
        return round_.clients[name]
    return round_.aggregates.get(name)
