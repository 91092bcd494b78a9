"""The models that heatmaps compare: one tensor of each, as a matrix, read a window at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from fedviz.analysis.blocks import BLOCK_BYTES
from fedviz.analysis.heatmap import MatrixLayout, Window, as_matrix
from fedviz.dataset import Round, WeightMap
from fedviz.errors import InvalidArgumentError

__all__ = ["DEFAULT_ROLES", "ROLES", "Models", "Role"]

Role = Literal[
    "server",
    "client",
    "other",
    "aggregate",
    "client-aggregate",
    "client-server",
    "other-aggregate",
    "other-server",
    "aggregate-server",
    "spread",
]
"""What a panel shows; ``client`` is client A, ``other`` client B."""

ROLES: tuple[Role, ...] = (
    "server",
    "client",
    "other",
    "aggregate",
    "client-aggregate",
    "client-server",
    "other-aggregate",
    "other-server",
    "aggregate-server",
    "spread",
)

DEFAULT_ROLES: tuple[Role, ...] = (*ROLES[:5], "aggregate-server")

_BAND_CELLS = 2**19


@dataclass(frozen=True)
class Models:
    """One tensor of a round: of the server model, two clients, an aggregate, and what follows.

    Parameters
    ----------
    round_ : Round
    tensor : str
        A tensor of the dataset's signature.
    layout : MatrixLayout
        How it is laid out.
    clients : (str, str)
        Two clients that have it; the same twice is one.
    aggregate : str, optional
        Name of an aggregate of the round.
    """

    round_: Round
    tensor: str
    layout: MatrixLayout
    clients: tuple[str, str]
    aggregate: str | None

    @cached_property
    def weights(self) -> dict[Role, WeightMap]:
        """Where the weights of each model are read."""
        found: dict[Role, WeightMap] = {}
        if self.round_.server is not None:
            found["server"] = self.round_.server
        found["client"] = self.round_.clients[self.clients[0]]
        if self.clients[1] != self.clients[0]:
            found["other"] = self.round_.clients[self.clients[1]]
        if self.aggregate is not None:
            found["aggregate"] = self.round_.aggregates[self.aggregate]
        return found

    def available(self, wanted: Sequence[Role] | None) -> tuple[Role, ...]:
        """Those of the roles that this round has; the usual ones where none are asked for."""
        roles = DEFAULT_ROLES if wanted is None else tuple(wanted)
        if wanted is None and self.aggregate is None:
            roles = ("server", "client", "other", "client-server")
        return tuple(role for role in ROLES if role in roles and self._has(role))

    def _has(self, role: Role) -> bool:
        if role == "spread":
            return len(self.round_.conforming) > 1
        return all(part in self.weights for part in role.split("-"))

    def client_of(self, role: Role) -> str:
        """The client that a role is about; empty where it is about none."""
        if role.startswith("other"):
            return self.clients[1]
        return self.clients[0] if role.startswith("client") else ""

    def read(self, role: Role, rows: slice, columns: slice) -> np.ndarray:
        """A window of a model's matrix: float32 or float64, of shape (rows, columns)."""
        weights = self.weights[role]
        region = self.layout.region(rows, columns)
        if region is None:
            return as_matrix(weights[self.tensor], self.layout)[rows, columns]
        shape = weights.signature[self.tensor].shape
        if shape != self.layout.tensor_shape:
            raise InvalidArgumentError(
                f"expected a tensor of shape {list(self.layout.tensor_shape)}, found {list(shape)}"
            )
        return _as_float(self.layout.arranged(weights.window(self.tensor, region)))

    def matrices(
        self, roles: Sequence[Role], rows: slice, columns: slice
    ) -> dict[Role, np.ndarray]:
        """A window of each role's matrix; a model that several roles need is read once."""
        needed = dict.fromkeys(part for role in roles if role != "spread" for part in _parts(role))
        read = {part: self.read(part, rows, columns) for part in needed}
        found: dict[Role, np.ndarray] = {}
        with np.errstate(invalid="ignore", over="ignore"):
            for role in roles:
                if role == "spread":
                    found[role] = self._spread(rows, columns)
                elif role in read:
                    found[role] = read[role]
                else:
                    minuend, subtrahend = _parts(role)
                    found[role] = read[minuend] - read[subtrahend]
        return found

    def _spread(self, rows: slice, columns: slice) -> np.ndarray:
        """Standard deviation across the conforming clients, float64; NaN where one is not finite.

        Sums are of the differences from the first client: clients lie close together.
        """
        origin = None
        total = squares = np.zeros(())
        for block in self.cohort(rows, columns):
            values = block.astype("f8")
            origin = values[0] if origin is None else origin
            values -= origin
            total = total + values.sum(axis=0)
            squares = squares + np.einsum("i...,i...->...", values, values)
        count = len(self.round_.conforming)
        variance = squares / count - (total / count) ** 2
        return np.sqrt(np.maximum(variance, 0))

    def cohort(self, rows: slice, columns: slice, every: int = 1) -> Iterator[np.ndarray]:
        """A window of all conforming clients, some at a time; or of one in ``every``.

        Yields
        ------
        ndarray of shape (clients, rows, columns)
        """
        region = self.layout.region(rows, columns)
        spec = self.round_.dataset.signature[self.tensor]
        sizes = self.layout.tensor_shape if region is None else [s.stop - s.start for s in region]
        one = max(1, int(np.prod(sizes, dtype="i8")) * 8)
        count, block = len(self.round_.conforming), max(1, BLOCK_BYTES // one)
        size, step = (block, block) if every == 1 else (1, every)
        for first in range(0, count, step):
            clients = slice(first, min(first + size, count))
            if region is None:
                stack = self.round_.read_stack(spec.name, clients)
                yield np.stack([as_matrix(each, self.layout)[rows, columns] for each in stack])
            else:
                stack = self.round_.read_stack_window(spec.name, clients, region)
                yield np.stack([_as_float(self.layout.arranged(each)) for each in stack])

    def bands(self, window: Window, step: int) -> Iterator[tuple[slice, slice]]:
        """A window in bands of whole blocks, each of half a million cells or so."""
        top, bottom, left, right = window
        rows = bottom - top
        if self.layout.region(slice(0, 1), slice(0, 1)) is not None:
            rows = max(1, _BAND_CELLS // max(1, right - left) // step) * step
        # A window without cells is one band without cells.
        for first in range(top, max(bottom, top + 1), max(1, rows)):
            yield slice(first, min(first + rows, bottom)), slice(left, right)


def _parts(role: Role) -> list[Role]:
    return role.split("-")  # type: ignore[return-value]


def _as_float(values: np.ndarray) -> np.ndarray:
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)
