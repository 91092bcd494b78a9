"""How the training data is shared out among clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedviz.errors import InvalidArgumentError, UnknownNameError

__all__ = ["Partition", "label_counts", "parse_partition", "partition"]

# Beyond these the parts no longer change: one client has a whole class, or all have equal shares.
_LEAST_ALPHA = 1e-6
_GREATEST_ALPHA = 1e6

Parts = list[NDArray[np.int64]]


@dataclass(frozen=True)
class Partition:
    """A way to share examples out; ``str`` gives the text that names it.

    Parameters
    ----------
    kind : str
        ``iid``, ``dirichlet``, ``shards`` or ``client-id``.
    parameter : float, optional
        The alpha of ``dirichlet`` (the smaller, the fewer labels a client has), the number of
        shards for each client of ``shards``; None for the others.

    Raises
    ------
    UnknownNameError
        There is no such kind.
    InvalidArgumentError
        The parameter is missing, out of its range, or not one of the kind.
    """

    kind: str
    parameter: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise UnknownNameError(f"there is no partition {self.kind!r}; there are {_FORMS}")
        takes_one = self.kind in ("dirichlet", "shards")
        if takes_one != (self.parameter is not None):
            raise InvalidArgumentError(
                f"partition {self.kind}: expected one of {_FORMS}, "
                f"found {'a' if self.parameter is not None else 'no'} parameter"
            )
        if self.parameter is not None:
            _check_parameter(self.kind, self.parameter)

    def __str__(self) -> str:
        return self.kind if self.parameter is None else f"{self.kind}:{self.parameter:g}"


def parse_partition(text: str) -> Partition:
    """The partition that a text names: ``iid``, ``dirichlet:0.3``, ``shards:2``, ``client-id``.

    Raises
    ------
    UnknownNameError, InvalidArgumentError
        As :class:`Partition`.
    """
    kind, separator, parameter = text.strip().partition(":")
    if not separator:
        return Partition(kind)
    try:
        return Partition(kind, float(parameter))
    except ValueError as error:
        if isinstance(error, InvalidArgumentError):
            raise
        raise InvalidArgumentError(
            f"partition {text!r}: expected a number after the colon, found {parameter!r}"
        ) from None


def partition(
    spec: str | Partition,
    y: NDArray[Any],
    num_clients: int,
    seed: int,
    client_ids: NDArray[Any] | None = None,
) -> Parts:
    """The examples of each client.

    Every example goes to exactly one client and no client is left without one: a client that
    draws nothing takes one example from the client that has most.

    - ``iid``: shuffled, and cut into parts whose sizes differ by one at most.
    - ``dirichlet:ALPHA``: for each class, the clients' shares are drawn from a symmetric
      Dirichlet distribution; the clients' sizes differ too.
    - ``shards:K``: the examples are sorted by label and cut into ``num_clients × K`` shards, of
      which each client gets K at random. A shard may hold the border between two labels, so
      where a shard is no longer than a class, a client has at most 2 K labels.
    - ``client-id``: each example belongs to the client that the data names for it; the clients
      are in the sorted order of their ids.

    Parameters
    ----------
    spec : str or Partition
        As :func:`parse_partition` reads it.
    y : ndarray of shape (n,)
        Labels 0, 1, ... as integers, or targets of any shape (n, ...), which ``dirichlet`` and
        ``shards`` cannot use.
    num_clients : int
        At least 1, at most n.
    seed : int
        The same seed gives the same parts.
    client_ids : ndarray of shape (n,), optional
        The client of each example, for ``client-id``.

    Returns
    -------
    list of ndarray of int64
        For each client the sorted indices of its examples.

    Raises
    ------
    InvalidArgumentError
        More clients or shards than examples, labels that are not integers, no client ids, or
        another number of them than ``num_clients``.

    References
    ----------
    Yurochkin et al., Bayesian Nonparametric Federated Learning of Neural Networks, ICML 2019
    (a Dirichlet draw for each class). Hsu et al., Measuring the Effects of Non-Identical Data
    Distribution for Federated Visual Classification, 2019 (alpha as the measure of skew; there
    each client draws its classes, and all clients have one size). McMahan et al.,
    Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS 2017,
    section 3 (shards).
    """
    parsed = parse_partition(spec) if isinstance(spec, str) else spec
    if not 1 <= num_clients <= len(y):
        raise InvalidArgumentError(
            f"expected 1 to {len(y)} clients for {len(y)} examples, found {num_clients}"
        )
    if parsed.kind == "client-id":
        return _by_client_id(len(y), num_clients, client_ids)
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    assignment = _ASSIGNMENTS[parsed.kind](parsed, y, num_clients, rng)
    parts = [np.flatnonzero(assignment == client) for client in range(num_clients)]
    return _without_empty(parts)


def label_counts(
    y: NDArray[Any], parts: Sequence[NDArray[Any]], num_classes: int
) -> NDArray[np.int64]:
    """How many examples of each class each client has.

    Parameters
    ----------
    y : ndarray of shape (n,), integers
        Labels, 0 to ``num_classes`` - 1.
    parts : sequence of ndarray
        As :func:`partition` gives them.
    num_classes : int
        The number of columns.

    Returns
    -------
    ndarray of shape (clients, num_classes), int64
    """
    counts = [np.bincount(y[part], minlength=num_classes) for part in parts]
    return np.stack(counts).astype(np.int64)


def _check_parameter(kind: str, parameter: float) -> None:
    if kind == "dirichlet" and not _LEAST_ALPHA <= parameter <= _GREATEST_ALPHA:
        raise InvalidArgumentError(
            f"partition dirichlet: alpha must be between {_LEAST_ALPHA:g} and {_GREATEST_ALPHA:g}, "
            f"found {parameter:g}"
        )
    if kind == "shards" and not (parameter >= 1 and float(parameter).is_integer()):
        raise InvalidArgumentError(
            f"partition shards: expected a whole number of shards for each client, at least 1, "
            f"found {parameter:g}"
        )


def _iid(
    _: Partition, y: NDArray[Any], num_clients: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    return rng.permutation(np.arange(len(y)) % num_clients)


def _dirichlet(
    spec: Partition, y: NDArray[Any], num_clients: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    _check_labels(spec, y)
    assert spec.parameter is not None
    assignment = np.zeros(len(y), np.int64)
    for label in np.unique(y):
        examples = rng.permutation(np.flatnonzero(y == label))
        shares = _dirichlet_shares(spec.parameter, num_clients, rng)
        ends = np.rint(np.cumsum(shares) * len(examples))
        assignment[examples] = np.searchsorted(ends, np.arange(len(examples)), side="right")
    return assignment


def _dirichlet_shares(
    alpha: float, num_clients: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """One draw from the symmetric Dirichlet distribution, by way of the logarithms of gammas.

    ``Generator.dirichlet`` does not return for some alphas near 0. A gamma of shape alpha is one
    of shape alpha + 1 times U ** (1 / alpha), which underflows, but its logarithm does not.
    """
    gammas = np.log(rng.standard_gamma(alpha + 1.0, num_clients))
    logarithms = gammas + np.log1p(-rng.random(num_clients)) / alpha
    shares = np.exp(logarithms - logarithms.max())
    return np.asarray(shares / shares.sum())


def _shards(
    spec: Partition, y: NDArray[Any], num_clients: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    _check_labels(spec, y)
    assert spec.parameter is not None
    num_shards = num_clients * int(spec.parameter)
    if num_shards > len(y):
        raise InvalidArgumentError(
            f"partition {spec}: {num_clients} clients need {num_shards:,} shards, "
            f"and there are {len(y):,} examples; ask for fewer"
        )
    # Within a label the order is random, so that a shard is a random sample of its label.
    order = np.lexsort((rng.permutation(len(y)), y))
    owners = rng.permutation(np.arange(num_shards) % num_clients)
    assignment = np.zeros(len(y), np.int64)
    for owner, shard in zip(owners, np.array_split(order, num_shards), strict=True):
        assignment[shard] = owner
    return assignment


def _by_client_id(num_examples: int, num_clients: int, client_ids: NDArray[Any] | None) -> Parts:
    if client_ids is None:
        raise InvalidArgumentError(
            "partition client-id: the data names no clients; give it an array client_ids, or "
            "choose iid, dirichlet:ALPHA or shards:K"
        )
    if len(client_ids) != num_examples:
        raise InvalidArgumentError(
            f"partition client-id: expected {num_examples} client ids, found {len(client_ids)}"
        )
    names, owners = np.unique(client_ids, return_inverse=True)
    if len(names) != num_clients:
        raise InvalidArgumentError(
            f"partition client-id: the data names {len(names)} clients, found {num_clients} asked "
            f"for; ask for {len(names)}"
        )
    return [np.flatnonzero(owners == client) for client in range(num_clients)]


_Assignment = Callable[
    [Partition, NDArray[Any], int, np.random.Generator],
    NDArray[np.int64],
]


_ASSIGNMENTS: Mapping[str, _Assignment] = {"iid": _iid, "dirichlet": _dirichlet, "shards": _shards}
_KINDS = (*_ASSIGNMENTS, "client-id")
_FORMS = "iid, dirichlet:ALPHA, shards:K, client-id"


def _check_labels(spec: Partition, y: NDArray[Any]) -> None:
    if not np.issubdtype(y.dtype, np.integer) or y.ndim != 1:
        raise InvalidArgumentError(
            f"partition {spec}: it shares examples out by their labels, and the data has none "
            f"(its targets are {y.dtype.name}); choose iid or client-id"
        )


def _without_empty(parts: Parts) -> Parts:
    filled = list(parts)
    for client, part in enumerate(filled):
        if part.size == 0:
            largest = max(range(len(filled)), key=lambda i: filled[i].size)
            filled[client], filled[largest] = filled[largest][:1], filled[largest][1:]
    return filled
