"""The Gram matrix of a round's clients, and what follows from it alone.

The inner products of n clients' updates are n × n numbers. Norms, cosines, distances between
clients and to any weighted mean, Krum's scores and each client's influence follow from them,
without another look at the weights.

Products of blocks are in the clients' own precision (float32, for narrower ones too) and their sums
in float64. ``benchmarks/robust_rules.py`` measured the error of one block of 4,096 columns, in
units of the two norms' product, as at most 4e-7 on four kinds of values; over many blocks errors
partly cancel (1e-8 at 1.66 million columns of normal values).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from fedviz.analysis.inner_products import inner_products, product_bytes
from fedviz.analysis.stacks import (
    BlockReports,
    Stack,
    Stacks,
    block_width,
    client_bytes,
    column_blocks,
)
from fedviz.errors import CohortError, InvalidArgumentError
from fedviz.progress import ProgressCallback, silent

__all__ = [
    "GramMatrices",
    "PairwiseDistances",
    "cosines",
    "distances_to_mean",
    "gram_matrix",
    "krum_scores",
    "leave_one_out_influence",
    "norms",
    "pairwise_distances",
    "squared_distances",
]

_WIDTH = 4096


@dataclass(frozen=True)
class GramMatrices:
    """Inner products of clients' updates.

    Attributes
    ----------
    total : ndarray of shape (n, n), float64
        Over all tensors. A client with a value that is not finite has NaN or infinity in its row
        and column; the others are not touched by it.
    by_tensor : dict of str to ndarray of shape (n, n), float64
        The parts of the sum; empty where they were not asked for.
    """

    total: np.ndarray
    by_tensor: Mapping[str, np.ndarray] = field(default_factory=dict)


def gram_matrix(
    stacks: Stacks,
    centre: Mapping[str, np.ndarray] | None = None,
    *,
    per_tensor: bool = True,
    progress: ProgressCallback = silent,
) -> GramMatrices:
    """Inner products ⟨x_i − c, x_j − c⟩ of all pairs of clients.

    Parameters
    ----------
    stacks : mapping of str to ndarray or StoredStack of shape (n, …)
        float16, bfloat16, float32 or float64; in memory or in a file.
    centre : mapping of str to ndarray, optional
        What is subtracted from each client, such as the server model; nothing by default.
        It is rounded to the precision of the products, which a server model survives unchanged.
    per_tensor : bool, default True
        Whether the tensors' own matrices are kept.
    progress : callable, optional
        Called about every 32 MB. It may raise ``JobCancelledError``.

    Raises
    ------
    CohortError
        The stacks do not have the same number of clients.
    """
    n = _num_clients(stacks)
    expected = sum(product_bytes([stack]) for stack in stacks.values())
    report = BlockReports(expected, "comparing the clients", progress)
    total = np.zeros((n, n))
    by_tensor = {}
    for name, stack in stacks.items():
        part = inner_products([stack], None if centre is None else centre[name], report)
        total += part
        if per_tensor:
            by_tensor[name] = part
    report.end()
    return GramMatrices(total, by_tensor)


@dataclass(frozen=True)
class PairwiseDistances:
    """How clients lie to each other.

    Attributes
    ----------
    gram : ndarray of shape (n, n), float64
        Inner products, seen from one of the clients.
    finite : ndarray of shape (n,), bool
        Whether all of a client's values are finite, and their squares have a sum in float64.
    """

    gram: np.ndarray
    finite: np.ndarray

    @property
    def squared(self) -> np.ndarray:
        """Squared distances, as :func:`squared_distances`."""
        return squared_distances(self.gram)


def pairwise_distances(
    stacks: Stacks, rows: np.ndarray | None = None, progress: ProgressCallback = silent
) -> PairwiseDistances:
    """Distances between clients, float64 throughout.

    A distance from a Gram matrix is a difference of squares: it drowns where clients lie far from
    the origin and close together. All clients are therefore seen from the one whose norm is the
    median. A minority of exploded clients cannot make that one far away, whatever their values.

    Parameters
    ----------
    stacks : mapping of str to ndarray or StoredStack of shape (clients, …)
        float16, bfloat16, float32 or float64; in memory or in a file. Read twice.
    rows : ndarray of shape (n,), int, optional
        Which clients; all by default.
    progress : callable, optional
        Called about every 32 MB. It may raise ``JobCancelledError``.
    """
    rows = np.arange(_num_clients(stacks)) if rows is None else rows
    report = _reports(stacks, len(rows), 2, progress)
    squares = np.zeros(len(rows))
    for values in _float64_blocks(stacks, rows, report):
        with np.errstate(over="ignore", invalid="ignore"):
            squares += np.einsum("ij,ij->i", values, values)
    finite = np.isfinite(squares)
    # NaN and infinity sort behind every number.
    middle = np.argsort(squares, kind="stable")[max(0, finite.sum() - 1) // 2]
    gram = np.zeros((len(rows), len(rows)))
    for values in _float64_blocks(stacks, rows, report):
        with np.errstate(over="ignore", invalid="ignore"):
            seen = values - values[middle]
            gram += seen @ seen.T
    report.end()
    return PairwiseDistances(gram, finite)


def _float64_blocks(stacks: Stacks, rows: np.ndarray, report: BlockReports) -> Iterator[np.ndarray]:
    for stack in stacks.values():
        for _, block in _blocks(stack, rows, report):
            yield block.astype("f8")


def _num_clients(stacks: Stacks) -> int:
    counts = {len(stack) for stack in stacks.values()}
    if len(counts) != 1:
        raise CohortError(
            f"expected tensors of one number of clients, found {sorted(counts) or 'no tensors'}"
        )
    return counts.pop()


def _reports(
    stacks: Stacks, num_rows: int, passes: int, progress: ProgressCallback
) -> BlockReports:
    total = passes * sum(num_rows * client_bytes(stack) for stack in stacks.values())
    return BlockReports(total, "comparing the clients", progress)


def _blocks(
    stack: Stack, rows: np.ndarray, report: BlockReports
) -> Iterator[tuple[slice, np.ndarray]]:
    for columns, block in column_blocks(stack, rows, block_width(len(rows), _WIDTH)):
        report.before(block.nbytes)
        yield columns, block


def norms(gram: np.ndarray) -> np.ndarray:
    """Norms of the clients' updates, float64 of shape (n,)."""
    return np.sqrt(gram.diagonal())


def cosines(gram: np.ndarray) -> np.ndarray:
    """Cosines of the angles between updates, float64 of shape (n, n); NaN for one that is zero."""
    lengths = norms(gram)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip(gram / np.outer(lengths, lengths), -1.0, 1.0)


def squared_distances(gram: np.ndarray) -> np.ndarray:
    """Squared distances between clients.

    Returns
    -------
    ndarray of shape (n, n), float64
        Not negative, 0 on the diagonal. A client with a value that is not finite is infinitely
        far from every other.
    """
    squares = gram.diagonal()
    with np.errstate(invalid="ignore"):
        distances = squares[:, None] + squares[None, :] - 2 * gram
    distances[~np.isfinite(distances)] = np.inf
    np.fill_diagonal(distances, 0.0)
    return np.maximum((distances + distances.T) / 2, 0.0)


def distances_to_mean(gram: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Distance of each client to a weighted mean of the clients.

    Parameters
    ----------
    gram : ndarray of shape (n, n)
    weights : ndarray of shape (n,)
        Not negative, with a positive sum. Clients of weight 0 are no part of the mean, but their
        distance to it is computed too.

    Returns
    -------
    ndarray of shape (n,), float64
        NaN where the client's or the mean's values are not finite.
    """
    shares = _shares(weights)
    part = np.flatnonzero(shares)
    with np.errstate(invalid="ignore"):
        along = gram[:, part] @ shares[part]
        of_mean = shares[part] @ gram[np.ix_(part, part)] @ shares[part]
        return np.sqrt(np.maximum(gram.diagonal() - 2 * along + of_mean, 0.0))


def leave_one_out_influence(gram: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How far the weighted mean moves when a client is left out.

    With w_i the client's share, the mean without it is (m − w_i x_i) / (1 − w_i); it lies
    w_i / (1 − w_i) · ‖x_i − m‖ from m.

    Parameters
    ----------
    gram : ndarray of shape (n, n)
    weights : ndarray of shape (n,)

    Returns
    -------
    ndarray of shape (n,), float64
        0 for a client of weight 0; NaN for one that is the whole cohort.
    """
    shares = _shares(weights)
    distances = distances_to_mean(gram, weights)
    influence = np.zeros(len(shares))
    part = shares > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        influence[part] = (shares / (1 - shares) * distances)[part]
    influence[shares == 1] = np.nan
    return influence


def _shares(weights: np.ndarray) -> np.ndarray:
    values = np.asarray(weights, dtype="f8")
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise InvalidArgumentError(
            "weights: expected finite numbers that are not negative, with a positive sum"
        )
    return values / values.sum()


def krum_scores(squared: np.ndarray, num_faulty: int) -> np.ndarray:
    """Krum score of each client: the sum of its smallest squared distances to others.

    Parameters
    ----------
    squared : ndarray of shape (n, n), float64
        Squared distances between the clients.
    num_faulty : int
        How many clients may be faulty, f. The n − f − 2 nearest neighbours are summed, but at
        least one where there is another client.

    Returns
    -------
    ndarray of shape (n,), float64
        Lower is more central; infinite where too few of the others are at a finite distance.

    References
    ----------
    Blanchard et al., Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent,
    NeurIPS 2017, section 4.
    """
    n = len(squared)
    others = squared[~np.eye(n, dtype=bool)].reshape(n, max(0, n - 1))
    neighbours = max(1, n - num_faulty - 2)
    return np.sort(others, axis=1)[:, :neighbours].sum(axis=1)
