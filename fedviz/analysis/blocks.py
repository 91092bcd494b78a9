"""Reading the stacked clients of a round in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fedviz.dataset import Round

__all__ = ["BLOCK_BYTES", "client_blocks"]

BLOCK_BYTES = 32 * 2**20
"""Bytes of a block as it lies in the file; in float64 it is up to four times that."""


def client_blocks(round_: Round, tensor: str) -> Iterator[tuple[slice, np.ndarray]]:
    """A tensor of the conforming clients, block by block.

    Yields
    ------
    rows : slice
        The rows of this block.
    values : ndarray of shape (rows, size), in the tensor's own dtype
        One client a row.
    """
    clients = len(round_.conforming)
    spec = round_.dataset.signature[tensor]
    step = max(1, BLOCK_BYTES // max(1, spec.nbytes))
    for first in range(0, clients, step):
        rows = slice(first, min(first + step, clients))
        block = round_.read_stack(tensor, rows)
        yield rows, block.reshape(block.shape[0], spec.size)
