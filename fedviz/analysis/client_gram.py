"""What the comparison of clients rests on: Gram matrices of a round and of all rounds together.

Each is computed in one pass over the weights; :mod:`fedviz.analysis.gram_cache` keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedviz.analysis.gram import distances_to_mean
from fedviz.analysis.inner_products import inner_products, product_bytes
from fedviz.analysis.stacks import BlockReports, Stack, one_client, values_of_client
from fedviz.analysis.stored import StackOf, stored_stacks
from fedviz.dataset import Round, WeightDataset
from fedviz.errors import CohortError, located
from fedviz.progress import ProgressCallback, silent

__all__ = [
    "MEAN",
    "MOST_CLIENTS",
    "MOST_POINTS",
    "PathGram",
    "Point",
    "RoundGram",
    "path_gram",
    "path_of_round",
    "round_gram",
]

MEAN = "mean of the clients"
"""The model that distances are measured to where no aggregate is chosen."""

MOST_CLIENTS = 4000
"""Clients of a round that are compared with each other: their matrix has 128 MB."""

MOST_POINTS = 2000
"""Models in one space: all rounds' clients, server models and aggregates."""

_MOST_ROUNDS = 12
_TENSORS_BYTES = 128 * 2**20


@dataclass(frozen=True)
class RoundGram:
    """Inner products of one round's updates, and what is kept of each tensor.

    Attributes
    ----------
    clients : tuple of str
        The conforming clients, n of them, by row.
    models : tuple of str
        The round's aggregates, m of them.
    tensors : tuple of str
        The float tensors, T of them.
    from_server : bool
        Whether an update is the difference to the server model. Where that is not known or not
        finite, it is the difference to the clients' mean.
    total : ndarray of shape (n + m, n + m), float64
        Clients first, then aggregates, over all tensors. A client that is not finite has NaN or
        infinity in its row and column.
    by_tensor : mapping of str to ndarray of shape (n + m, n + m), float64
        The tensors' own; empty where they would take more than 128 MB.
    norms : ndarray of shape (T, n), float64
        Norm of each client's update in each tensor.
    distances : ndarray of shape (T, 1 + m, n), float64
        Distance of each client in each tensor: to the plain mean of the clients that are finite
        there, then to each aggregate. NaN where one is not finite.
    """

    clients: tuple[str, ...]
    models: tuple[str, ...]
    tensors: tuple[str, ...]
    from_server: bool
    total: np.ndarray
    by_tensor: Mapping[str, np.ndarray]
    norms: np.ndarray
    distances: np.ndarray

    def of_clients(self, tensor: str | None = None) -> np.ndarray:
        """The clients' part, of one tensor or of the whole model: float64 of shape (n, n)."""
        gram = self.total if tensor is None else self.by_tensor[tensor]
        n = len(self.clients)
        return gram[:n, :n]

    @property
    def finite(self) -> np.ndarray:
        """Whether all of a client's values are finite: bool of shape (n,)."""
        return np.isfinite(self.of_clients().diagonal())

    def distances_to(self, model: str | None) -> np.ndarray:
        """Distances to an aggregate, or to the mean without one: float64 of shape (T, n)."""
        place = 1 + self.models.index(model) if model in self.models else 0
        return self.distances[:, place]


def round_gram(round_: Round, progress: ProgressCallback = silent) -> RoundGram:
    """Compare the conforming clients of a round with each other and with its aggregates.

    Raises
    ------
    CohortError
        There are more clients than :data:`MOST_CLIENTS`.
    StorageError
        The file is gone or was replaced.
    """
    specs = [spec.name for spec in round_.dataset.signature if spec.is_float]
    count = len(round_.conforming)
    if count > MOST_CLIENTS:
        raise CohortError(
            located(
                f"at most {MOST_CLIENTS:,} clients are compared with each other, found {count:,}",
                file=round_.dataset.path,
                round=round_.number,
            )
        )
    from_server = _is_finite(round_, specs)
    with stored_stacks(round_.dataset, progress) as stack_of:
        rows = {name: _rows_of(round_, name, stack_of) for name in specs}
        report = _reports(rows, "comparing the clients", progress)
        return _compared(round_, rows, from_server, report)


def _is_finite(round_: Round, tensors: Sequence[str]) -> bool:
    server = round_.server
    return server is not None and all(np.isfinite(server[t].astype("f8")).all() for t in tensors)


def _rows_of(round_: Round, tensor: str, stack_of: StackOf) -> list[Stack]:
    models = [aggregate[tensor][None] for aggregate in round_.aggregates.values()]
    return [stack_of(round_, tensor), *models]


def _reports(
    rows: Mapping[str, Sequence[Stack]], message: str, progress: ProgressCallback
) -> BlockReports:
    total = sum(product_bytes(pieces) for pieces in rows.values())
    return BlockReports(total, message, progress)


def _compared(
    round_: Round,
    rows: Mapping[str, list[Stack]],
    from_server: bool,
    report: BlockReports,
) -> RoundGram:
    clients = tuple(record.id for record in round_.conforming)
    models = tuple(round_.aggregates)
    points = len(clients) + len(models)
    keeps = len(rows) * points**2 * 8 <= _TENSORS_BYTES
    total, by_tensor = np.zeros((points, points)), {}
    norms, distances = np.zeros((len(rows), len(clients))), []
    for i, (name, pieces) in enumerate(rows.items()):
        origin = _origin(round_, name, pieces, from_server)
        gram = inner_products(pieces, origin, report)
        if not from_server:
            gram = _seen_from_mean(gram, len(clients))
        total += gram
        if keeps:
            by_tensor[name] = gram
        norms[i] = np.sqrt(np.maximum(gram.diagonal()[: len(clients)], 0))
        distances.append(_distances(gram, len(clients)))
    report.end()
    return RoundGram(
        clients,
        models,
        tuple(rows),
        from_server,
        total,
        by_tensor,
        norms,
        np.array(distances).reshape(len(rows), 1 + len(models), len(clients)),
    )


def _origin(
    round_: Round, tensor: str, pieces: Sequence[Stack], from_server: bool
) -> np.ndarray | None:
    """What is subtracted while products are made, so that they do not drown in what all share."""
    if from_server and round_.server is not None:
        return round_.server[tensor]
    return _first_of(pieces[0]) if len(pieces[0]) else None


def _first_of(stack: Stack) -> np.ndarray:
    """The first client's values, float64; 0 where they are not finite."""
    return np.nan_to_num(values_of_client(stack, 0).astype("f8"), posinf=0, neginf=0)


def _finite_rows(gram: np.ndarray, num_clients: int) -> np.ndarray:
    return np.flatnonzero(np.isfinite(gram.diagonal()[:num_clients]))


def _seen_from_mean(gram: np.ndarray, num_clients: int) -> np.ndarray:
    """The same products with the mean of the finite clients as the origin."""
    part = _finite_rows(gram, num_clients)
    if not len(part):
        return gram
    with np.errstate(invalid="ignore"):
        along = gram[:, part].mean(axis=1)
        of_mean = along[part].mean()
        return np.asarray(gram - along[:, None] - along[None, :] + of_mean)


def _distances(gram: np.ndarray, num_clients: int) -> np.ndarray:
    """Distances of the clients to their mean, then to each of the models."""
    n, squares = num_clients, gram.diagonal()
    part = _finite_rows(gram, n)
    to_mean = np.full(n, np.nan)
    if len(part):
        weights = np.zeros(n)
        weights[part] = 1
        to_mean = distances_to_mean(gram[:n, :n], weights)
    with np.errstate(invalid="ignore"):
        to_models = squares[n:, None] + squares[None, :n] - 2 * gram[n:, :n]
        return np.vstack([to_mean, np.sqrt(np.maximum(to_models, 0))])


@dataclass(frozen=True)
class Point:
    """One model in the space of all: of a client, the server before a round, or an aggregate."""

    role: Literal["client", "server", "aggregate"]
    round: int
    subject: str = ""


@dataclass(frozen=True)
class PathGram:
    """Inner products of models of several rounds, as seen from one of them.

    Attributes
    ----------
    points : tuple of Point
    gram : ndarray of shape (points, points), float64
    left_out : tuple of int
        How many rounds, and how many clients a round at most, are not among the points.
    """

    points: tuple[Point, ...]
    gram: np.ndarray
    left_out: tuple[int, int] = (0, 0)


def path_of_round(gram: RoundGram, number: int) -> PathGram:
    """The space of one round alone, from its Gram matrix: no weights are read."""
    points = [Point("client", number, client) for client in gram.clients]
    points += [Point("aggregate", number, model) for model in gram.models]
    if not gram.from_server:
        return PathGram(tuple(points), gram.total)
    # The server model is the origin of the updates.
    return PathGram((Point("server", number), *points), np.pad(gram.total, (1, 0)))


def path_gram(dataset: WeightDataset, progress: ProgressCallback = silent) -> PathGram:
    """All (client, round), (server, round) and aggregates in one space.

    With more than :data:`MOST_POINTS` models, rounds and then clients are left out evenly.

    Raises
    ------
    StorageError
        The file is gone or was replaced.
    """
    rounds, most = _shown(dataset)
    chosen = {r.number: _evenly(len(r.conforming), most) for r in rounds}
    tensors = [spec.name for spec in dataset.signature if spec.is_float]
    points = tuple(point for r in rounds for point in _points_of(r, chosen[r.number]))
    with stored_stacks(dataset, progress) as stack_of:
        rows = {
            t: [p for r in rounds for p in _models(r, t, chosen[r.number], stack_of)]
            for t in tensors
        }
        report = _reports(rows, "placing all rounds in one space", progress)
        gram = np.zeros((len(points), len(points)))
        for pieces in rows.values():
            gram += inner_products(pieces, _first_of(pieces[0]), report)
        report.end()
    fewer = max((len(r.conforming) - len(chosen[r.number]) for r in rounds), default=0)
    return PathGram(points, gram, (len(dataset.rounds) - len(rounds), fewer))


def _shown(dataset: WeightDataset) -> tuple[list[Round], int]:
    """The rounds that are drawn, and how many clients of each at most."""
    rounds = [r for r in dataset.rounds if r.records]
    others = sum(1 + len(r.aggregates) for r in rounds)
    if sum(len(r.conforming) for r in rounds) + others <= MOST_POINTS:
        return rounds, MOST_POINTS
    rounds = [rounds[i] for i in _evenly(len(rounds), _MOST_ROUNDS)]
    others = sum(1 + len(r.aggregates) for r in rounds)
    return rounds, max(1, (MOST_POINTS - others) // len(rounds))


def _evenly(count: int, most: int) -> list[int]:
    """At most so many of the first ``count`` numbers, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()


def _points_of(round_: Round, rows: Sequence[int]) -> list[Point]:
    server = [Point("server", round_.number)] if round_.server is not None else []
    clients = [Point("client", round_.number, round_.conforming[i].id) for i in rows]
    return [*server, *clients, *(Point("aggregate", round_.number, a) for a in round_.aggregates)]


def _models(round_: Round, tensor: str, rows: Sequence[int], stack_of: StackOf) -> list[Stack]:
    whole = stack_of(round_, tensor)
    clients = [whole] if len(rows) == len(whole) else [one_client(whole, i) for i in rows]
    server = [] if round_.server is None else [round_.server[tensor][None]]
    return [*server, *clients, *(a[tensor][None] for a in round_.aggregates.values())]
