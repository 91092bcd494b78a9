"""The clients that take part, read in blocks of columns, and what a rule makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedviz.analysis.stacks import (
    BlockReports,
    Stack,
    Stacks,
    block_width,
    client_bytes,
    column_blocks,
    num_columns,
)
from fedviz.errors import CohortError, InvalidArgumentError, SignatureError, located
from fedviz.progress import ProgressCallback
from fedviz.signature import TensorSpec

__all__ = [
    "Block",
    "Clients",
    "RobustResult",
    "blocks",
    "by_row",
    "combined",
    "count_nonfinite",
    "require",
    "shares_of",
]


@dataclass(frozen=True)
class RobustResult:
    """One model made of the clients.

    Attributes
    ----------
    tensors : dict of str to ndarray
        In the tensors' shapes and dtypes.
    measurements : dict
        Plain values, fit for JSON. Clients are named by their rows in the stacks. Always there:
        ``clients`` (how many took part), ``nonfinite_clients`` (rows with a NaN or infinite value,
        as far as the rule met them) and ``nonfinite_result`` (how many values of the model are
        not finite).
    """

    tensors: dict[str, np.ndarray]
    measurements: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Clients:
    """The clients of weight above 0.

    Attributes
    ----------
    stacks : mapping of str to ndarray or StoredStack of shape (clients, …)
    rows : ndarray of shape (n,), int64
        Which of the stacks' rows take part.
    weights : ndarray of shape (n,), float64
        Their weights.
    server : mapping of str to ndarray, or None
    """

    stacks: Stacks
    rows: np.ndarray
    weights: np.ndarray
    server: Mapping[str, np.ndarray] | None

    @classmethod
    def taking_part(
        cls, stacks: Stacks, weights: np.ndarray, server: Mapping[str, np.ndarray] | None = None
    ) -> Clients:
        """Those of weight above 0, if all fits together.

        Raises
        ------
        CohortError
            Weights that are negative, not finite or all 0.
        SignatureError
            A stack with another number of clients, of another dtype than a float, or a server
            tensor of another shape.
        """
        values = np.asarray(weights, dtype="f8")
        if values.ndim != 1:
            raise InvalidArgumentError(
                f"weights: expected one number a client, found the shape {list(values.shape)}."
            )
        if not (np.isfinite(values) & (values >= 0)).all():
            raise CohortError("weights: expected finite numbers that are not negative.")
        if not values.any():
            raise CohortError("no client takes part: every client has weight 0.")
        for name, stack in stacks.items():
            _check_stack(name, stack, len(values))
            if server is not None:
                _check_server(name, stack, server)
        rows = np.flatnonzero(values)
        return cls(stacks, rows, values[rows], server)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shares(self) -> np.ndarray:
        """Each client's share of the mean, float64 of shape (n,); together 1."""
        return shares_of(self.weights)

    def required_server(self, rule: str) -> Mapping[str, np.ndarray]:
        """The server model.

        Raises
        ------
        CohortError
            There is none.
        """
        if self.server is None:
            raise CohortError(f"{rule} needs a server model to start from; the round has none.")
        return self.server


def shares_of(weights: np.ndarray) -> np.ndarray:
    """Weights divided by their sum, which overflows for none."""
    scaled = weights / weights.max()
    return np.asarray(scaled / scaled.sum())


def _check_stack(name: str, stack: Stack, num_clients: int) -> None:
    if stack.ndim == 0 or len(stack) != num_clients:
        message = f"expected {num_clients} clients, found the shape {list(stack.shape)}"
        raise SignatureError(located(message, tensor=name))
    if not TensorSpec("values", (), stack.dtype.name).is_float:
        message = f"expected a float dtype, found {stack.dtype.name}: it has no order or mean"
        raise SignatureError(located(message, tensor=name))


def _check_server(name: str, stack: Stack, server: Mapping[str, np.ndarray]) -> None:
    found = list(np.shape(server[name])) if name in server else "nothing"
    if found != list(stack.shape[1:]):
        message = f"expected {list(stack.shape[1:])} in the server model, found {found}"
        raise SignatureError(located(message, tensor=name))


def require(rule: str, num_clients: int, minimum: int, formula: str) -> None:
    """Refuse a cohort that is too small.

    Raises
    ------
    CohortError
        Fewer clients than the minimum.
    """
    if num_clients < minimum:
        raise CohortError(
            f"{rule} needs {formula}: at least {minimum} clients, found {num_clients}. "
            "Choose smaller parameters or another rule."
        )


@dataclass(frozen=True)
class Block:
    """Some columns of one tensor.

    Attributes
    ----------
    tensor : str
    columns : slice
        Which of the tensor's values, counted in C order.
    values : ndarray of shape (rows, columns), in the tensor's dtype
    server : ndarray of shape (columns,), in the tensor's dtype, or None
    """

    tensor: str
    columns: slice
    values: np.ndarray
    server: np.ndarray | None


def blocks(
    clients: Clients,
    progress: ProgressCallback,
    message: str,
    *,
    rows: np.ndarray | None = None,
    widest: int = 8192,
) -> Iterator[Block]:
    """All tensors of the clients, block by block.

    Parameters
    ----------
    clients : Clients
    progress : callable
        Called about every 32 MB.
    message : str
        What is being done.
    rows : ndarray of int, optional
        Which of the stacks' rows are read; those that take part by default.
    widest : int
        Most columns of a block.
    """
    rows = clients.rows if rows is None else rows
    width = block_width(len(rows), widest)
    total = sum(len(rows) * client_bytes(stack) for stack in clients.stacks.values())
    reports = BlockReports(total, message, progress)
    for name, stack in clients.stacks.items():
        server = None if clients.server is None else np.asarray(clients.server[name]).reshape(-1)
        for columns, values in column_blocks(stack, rows, width):
            reports.before(values.nbytes)
            yield Block(name, columns, values, None if server is None else server[columns])
    reports.end()


def combined(
    clients: Clients,
    rule: Callable[[Block], np.ndarray],
    progress: ProgressCallback,
    message: str,
    *,
    rows: np.ndarray | None = None,
    widest: int = 8192,
) -> dict[str, np.ndarray]:
    """One model, made by a rule of every block.

    Parameters
    ----------
    rule : callable
        Returns the model's values in the block's columns, of shape (columns,). They are rounded to
        the tensor's dtype.
    clients, progress, message, rows, widest
        See :func:`blocks`.
    """
    tensors = {n: np.empty(num_columns(s), s.dtype) for n, s in clients.stacks.items()}
    for block in blocks(clients, progress, message, rows=rows, widest=widest):
        with np.errstate(over="ignore", invalid="ignore"):
            tensors[block.tensor][block.columns] = rule(block)
    return {n: tensors[n].reshape(s.shape[1:]) for n, s in clients.stacks.items()}


def by_row(rows: np.ndarray, values: np.ndarray) -> dict[str, float | None]:
    """Numbers of clients by row, as JSON has them; None where one is not finite."""
    return {
        str(row): value if math.isfinite(value) else None
        for row, value in zip(rows.tolist(), values.tolist(), strict=True)
    }


def count_nonfinite(tensors: Mapping[str, np.ndarray]) -> int:
    """How many values are NaN or infinite."""
    return int(sum((~np.isfinite(array)).sum() for array in tensors.values()))
