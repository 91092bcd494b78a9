"""Who moved these cells: each client's part in what averaging did to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedviz.analysis.blocks import BLOCK_BYTES
from fedviz.analysis.heatmap import MatrixLayout, Window
from fedviz.dataset import Round, WeightMap
from fedviz.errors import InvalidArgumentError

__all__ = ["MOST_CELLS", "Movers", "movers"]

MOST_CELLS = 2**14
"""How many cells can be asked about at once."""


@dataclass(frozen=True, eq=False)
class Movers:
    """Some cells of a tensor, and who moved them.

    Attributes
    ----------
    indices : tuple of tuple of int
        The first and the last of the cells, as indices in the tensor; one twice where it is alone.
    num_cells : int
    values : tuple of (str, float)
        Each model's value in the one cell, or its mean over the cells.
    clients : tuple of str
        The conforming clients.
    contributions : ndarray of shape (clients,), float64
        One cell: share × (client − server). Several: the length of that along the direction in
        which the mean moved. They add up to ``total``; NaN throughout without a server model.
    total : float
        The mean's move: signed for one cell, its length for several.
    """

    indices: tuple[tuple[int, ...], tuple[int, ...]]
    num_cells: int
    values: tuple[tuple[str, float], ...]
    clients: tuple[str, ...]
    contributions: np.ndarray
    total: float

    @property
    def aggregate_move(self) -> float | None:
        """Aggregate − server in the one cell, where it is not the mean's move: of other rules."""
        known = dict(self.values)
        if self.num_cells > 1 or not {"aggregate", "server"} <= set(known):
            return None
        move, size = known["aggregate"] - known["server"], abs(known["server"])
        # Stored in single precision, the mean is off by as much.
        near = np.isclose(move, self.total, rtol=1e-3, atol=1e-5 * size, equal_nan=True)
        return None if near else move


def movers(
    round_: Round,
    tensor: str,
    layout: MatrixLayout,
    cells: Window,
    clients: tuple[str, str],
    aggregate: str | None,
) -> Movers:
    """Follow some cells of a tensor through the round, reading nothing else of it.

    The shares are those of the aggregate's weighting, by ``num_examples`` unless it is uniform.

    Parameters
    ----------
    round_ : Round
    tensor : str
    layout : MatrixLayout
        Of the tensor.
    cells : Window
        Of its matrix.
    clients : (str, str)
        Whose values are told too.
    aggregate : str, optional

    Raises
    ------
    InvalidArgumentError
        There is no value in these cells, or there are more than 16,384.
    """
    indices = _indices(layout, cells)
    region, inside = _region(indices)
    weights = _weights(round_, clients, aggregate)
    values = {
        name: np.asarray(each.window(tensor, region), "f8")[inside]
        for name, each in weights.items()
    }
    weighting = round_.aggregates[aggregate].weighting if aggregate else "num_examples"
    parts = _contributions(
        round_, tensor, region, inside, values.get("server"), _shares(round_, weighting)
    )
    return Movers(
        (indices[0], indices[-1]),
        len(indices),
        tuple((name, float(each.mean())) for name, each in values.items()),
        tuple(record.id for record in round_.conforming),
        parts,
        float(parts.sum()),
    )


def _indices(layout: MatrixLayout, cells: Window) -> list[tuple[int, ...]]:
    top, bottom, left, right = cells
    if (bottom - top) * (right - left) > MOST_CELLS:
        raise InvalidArgumentError(
            f"{(bottom - top) * (right - left):,} cells are selected; {MOST_CELLS:,} are the most"
        )
    found = [layout.index_at(r, c) for r in range(top, bottom) for c in range(left, right)]
    indices = [index for index in found if index is not None]
    if not indices:
        raise InvalidArgumentError(f"there is no value of the tensor in the cells {list(cells)}")
    return indices


def _region(
    indices: Sequence[tuple[int, ...]],
) -> tuple[tuple[slice, ...], tuple[np.ndarray, ...]]:
    """The smallest box of the tensor that holds the indices, and where they are in it."""
    table = np.array(indices, dtype="i8").reshape(len(indices), -1)
    first, last = table.min(axis=0), table.max(axis=0)
    region = tuple(slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
    return region, tuple((table - first).T)


def _weights(
    round_: Round, clients: tuple[str, str], aggregate: str | None
) -> dict[str, WeightMap]:
    found: dict[str, WeightMap] = {}
    if round_.server is not None:
        found["server"] = round_.server
    for client in clients:
        found[f"client {client}"] = round_.clients[client]
    if aggregate is not None:
        found["aggregate"] = round_.aggregates[aggregate]
    return found


def _contributions(
    round_: Round,
    tensor: str,
    region: tuple[slice, ...],
    inside: tuple[np.ndarray, ...],
    server: np.ndarray | None,
    shares: np.ndarray,
) -> np.ndarray:
    count = len(round_.conforming)
    if server is None:
        return np.full(count, np.nan)
    one = max(1, math.prod(part.stop - part.start for part in region) * 8)
    step = max(1, BLOCK_BYTES // one)
    moves = np.empty((count, server.size))
    for first in range(0, count, step):
        rows = slice(first, min(first + step, count))
        stack = np.asarray(round_.read_stack_window(tensor, rows, region), "f8")
        moves[rows] = [client[inside].reshape(-1) for client in stack]
    with np.errstate(invalid="ignore"):
        moves = shares[:, None] * (moves - server.reshape(1, -1))
        if server.size == 1:
            return moves[:, 0]
        whole = moves.sum(axis=0)
        length = np.linalg.norm(whole)
        return moves @ whole / length if length else np.zeros(count)


def _shares(round_: Round, weighting: str) -> np.ndarray:
    records = round_.conforming
    examples = np.array([float(r.num_examples or 0) for r in records])
    weights = examples if weighting == "num_examples" and examples.sum() else np.ones(len(records))
    return weights / max(1.0, weights.sum())
