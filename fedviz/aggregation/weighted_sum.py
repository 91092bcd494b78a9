"""The weighted sum of consecutive rows of a mapped stack, as a TensorFlow graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

__all__ = ["Tiling", "tiling_for", "weighted_sum"]


@dataclass(frozen=True)
class Tiling:
    """In which pieces a stack is summed: tiles of columns, each in blocks of clients.

    The values of ``clients`` clients are cast to ``dtype``, weighted and summed in it, and so are
    ``sums`` of these sums: a block. The blocks' sums are added in float64, ``blocks`` at a time.
    Where ``scaled``, the weights of the blocks of one time are multiplied by a number of its own,
    and their sum is divided by that: clients that are alike would make the same rounding errors in
    every block, which add up where others' cancel. (Four equal values are summed without an error.)
    """

    clients: int
    values: int
    dtype: tf.DType
    sums: int = 1
    blocks: int = 1
    scaled: bool = False

    @property
    def block(self) -> int:
        """Clients of a block."""
        return self.clients * self.sums

    @property
    def step(self) -> int:
        """Clients of the blocks that are added at a time."""
        return self.block * self.blocks


# 64 clients by 8,192 values take 4 MB in float64, so that a block stays in the processor's cache
# between the steps that read, widen and sum it. Measured; half or double is no better. Of fewer
# clients a block is wider: each step costs some microseconds, whatever it has to do.
_CLIENTS, _BLOCK = 64, 64 * 8192

# Widening float32 takes five times as long as summing it. Sums of a few clients in float32 stay
# within 1 ulp of the largest value if there are enough blocks for their errors to cancel: of four
# clients measured 0.95 ulp at 100 clients, 0.75 at 300, but 1.4 at 32; of two times eight, 0.90 at
# 600 and 0.82 at 1,000, of four times eight 0.99, of sixteen in one 2. The larger a block, the less
# is added in float64, which takes longer than all sums in float32; four blocks at a time took a
# tenth less of the whole than one (0.37 and 0.41 s; two 0.38, eight 0.37). Whole rows are taken
# where they lie in the file, pieces of rows would be copied first.
_FAST = {
    800: Tiling(8, 4 << 20, tf.float32, sums=2, blocks=4, scaled=True),
    96: Tiling(4, 4 << 20, tf.float32),
}


def tiling_for(dtype: str, num_clients: int) -> Tiling:
    """How to sum values of a dtype (as in :data:`fedviz.signature.DTYPES`) of so many clients."""
    if dtype == "float32":
        for fewest, fast in _FAST.items():
            if num_clients >= fewest:
                return fast
    # In float64 nothing is rounded that matters. Half precision is exact in float32, and a sum of
    # 64 is far finer than its last place.
    wide = tf.float64 if dtype in ("float32", "float64") else tf.float32
    clients = min(num_clients, _CLIENTS)
    return Tiling(clients, _BLOCK // clients, wide)


def _scale_of(row: Any, tiling: Tiling) -> Any:
    """The number for the blocks that begin with a row: from a half to below 1, float64.

    It has eight bits, so that a number of examples below 2^16 stays exact in float32, and is below
    1, so that no sum can overflow.
    """
    steps = tf.math.floormod(row // tiling.step * 79, 128)
    return 0.5 + tf.cast(steps, tf.float64) / 256


def weighted_sum(
    rows: Any, first_row: Any, weights: Any, columns: tuple[int, int], tiling: Tiling
) -> Any:
    """Weighted sum of some columns of consecutive rows; call it while a graph is built.

    Parameters
    ----------
    rows : tf.Tensor of shape (num_rows, size), float
    first_row : tf.Tensor, int64 scalar
    weights : tf.Tensor of shape (k,), float64
        The weights of the rows from ``first_row`` on.
    columns : tuple of two int
        First and last, the last not included.
    tiling : Tiling

    Returns
    -------
    tf.Tensor of shape (last - first,), float64
    """
    first, last = columns
    if first == last:
        return tf.zeros([0], tf.float64)
    if last - first <= tiling.values:
        whole = (tf.constant(first, tf.int64), tf.constant(last - first, tf.int64))
        return tf.ensure_shape(_tile_sum(rows, first_row, weights, *whole, tiling), [last - first])

    def tile_sum(position: Any, sums: Any) -> Any:
        width = tf.minimum(tf.constant(tiling.values, tf.int64), last - position)
        tile = _tile_sum(rows, first_row, weights, position, width, tiling)
        return position + width, sums.write(sums.size(), tile)

    sums = tf.TensorArray(tf.float64, 0, dynamic_size=True, infer_shape=False, element_shape=[None])
    _, sums = tf.while_loop(
        lambda position, _: position < last,
        tile_sum,
        [tf.constant(first, tf.int64), sums],
        parallel_iterations=1,
    )
    return tf.ensure_shape(sums.concat(), [last - first])


def _tile_sum(
    rows: Any, first_row: Any, weights: Any, position: Any, width: Any, tiling: Tiling
) -> Any:
    """Weighted sum of some columns of consecutive rows, a block of clients at a time."""
    num_rows = tf.size(weights, out_type=tf.int64)

    def few(start: Any, scale: Any) -> Any:
        start = tf.minimum(start, num_rows)
        count = tf.minimum(tf.constant(tiling.clients, tf.int64), num_rows - start)
        values = tf.cast(
            tf.slice(rows, [first_row + start, position], [count, width]), tiling.dtype
        )
        factors = tf.cast(scale * tf.slice(weights, [start], [count]), tiling.dtype)
        # A column of factors, transposed: TensorFlow multiplies a row by way of two more copies.
        return tf.matmul(factors[:, tf.newaxis], values, transpose_a=True)[0]

    def block_sum(start: Any, scale: Any) -> Any:
        sums = [few(start + i * tiling.clients, scale) for i in range(tiling.sums)]
        return tf.cast(tf.add_n(sums), tf.float64)

    def step_sum(done: Any) -> Any:
        scale = _scale_of(first_row + done, tiling) if tiling.scaled else 1.0
        blocks = [block_sum(done + i * tiling.block, scale) for i in range(tiling.blocks)]
        total = tf.add_n(blocks)
        return total * (1 / scale) if tiling.scaled else total

    # Without zeros to begin with: of 100 clients they took as long as two blocks of 25.
    _, total = tf.while_loop(
        lambda done, _: done < num_rows,
        lambda done, total: (done + tiling.step, total + step_sum(done)),
        [tf.constant(tiling.step, tf.int64), step_sum(tf.constant(0, tf.int64))],
        shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])],
        parallel_iterations=1,
    )
    return total
