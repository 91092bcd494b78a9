"""What a heatmap needs: any tensor as a matrix, fewer cells, one scale, counts.

A tensor is laid out as a matrix (:func:`layout_for`, :func:`as_matrix`), the matrix is reduced to
a drawable number of cells (:func:`reduce_cells`), and all panels that are compared share one
zero-centred range (:func:`shared_limit`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedviz.errors import InvalidArgumentError

__all__ = [
    "TINY_LIMIT",
    "Form",
    "Histogram",
    "MatrixLayout",
    "ReducedMatrix",
    "Spike",
    "Ticks",
    "as_matrix",
    "clipped_share",
    "furthest_cell",
    "histogram",
    "layout_for",
    "magnification",
    "reduce_cells",
    "shared_limit",
    "spikes",
]

TINY_LIMIT = 1e-6
"""The limit of a scale on which every value is zero."""

_STRIP_WIDTH = 128
_MOST_TICKS = 8
_MOST_NAMES = 10_000


class Form(StrEnum):
    """How a tensor is laid out."""

    SCALAR = "scalar"
    STRIP = "strip"
    MATRIX = "matrix"
    TILES = "tiles"


@dataclass(frozen=True)
class Ticks:
    """Labels along an axis whose cells are not the tensor's own indices."""

    positions: tuple[float, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class MatrixLayout:
    """Where each value of a tensor lies in the matrix that is drawn.

    Parameters
    ----------
    tensor_shape : tuple of int
    shape : (rows, columns)
        Of the matrix, gaps between tiles included.
    form : Form
    axis_titles : (str, str)
        What the rows and the columns are; empty where that says nothing.
    row_ticks, column_ticks : Ticks or None
        None where the axis counts a tensor's own index.
    places : ndarray of shape (rows, columns), int64, or None
        For each cell the position in the flattened tensor, −1 in a gap. None where the matrix
        is the tensor, reshaped.
    """

    tensor_shape: tuple[int, ...]
    shape: tuple[int, int]
    form: Form
    axis_titles: tuple[str, str]
    row_ticks: Ticks | None = None
    column_ticks: Ticks | None = None
    places: NDArray[np.int64] | None = None

    @property
    def gap(self) -> NDArray[np.bool_] | None:
        """Cells that hold no value of the tensor; None where there are none."""
        return None if self.places is None else self.places < 0

    def index_at(self, row: int, column: int) -> tuple[int, ...] | None:
        """The tensor's index that a cell shows; None in a gap.

        Raises
        ------
        InvalidArgumentError
            The cell is outside the matrix.
        """
        rows, columns = self.shape
        if not (0 <= row < rows and 0 <= column < columns):
            raise InvalidArgumentError(
                f"cell [{row}, {column}] is outside the matrix of {rows} × {columns} cells"
            )
        place = row * columns + column if self.places is None else int(self.places[row, column])
        if place < 0:
            return None
        return tuple(int(i) for i in np.unravel_index(place, self.tensor_shape))

    def cell_of(self, index: Sequence[int]) -> tuple[int, int]:
        """The cell (row, column) that shows ``tensor[index]``.

        Raises
        ------
        InvalidArgumentError
            The tensor has no such index.
        """
        inside = len(index) == len(self.tensor_shape) and all(
            0 <= i < size for i, size in zip(index, self.tensor_shape, strict=True)
        )
        if not inside:
            raise InvalidArgumentError(
                f"index {list(index)} is outside a tensor of shape {list(self.tensor_shape)}"
            )
        place = 0
        for i, size in zip(index, self.tensor_shape, strict=True):
            place = place * size + i
        if self.places is not None:
            place = int(np.argmax(self.places == place))
        row, column = divmod(place, self.shape[1])
        return row, column

    def cell_names(self) -> NDArray[np.str_] | None:
        """The tensor's index of every cell, as text; empty in gaps.

        Returns
        -------
        ndarray of shape (rows, columns), str, or None
            None where the axes say it already, and above 10,000 cells, which would weigh more
            than the numbers.
        """
        if self.places is None or self.places.size > _MOST_NAMES:
            return None
        indices = np.unravel_index(np.maximum(self.places, 0), self.tensor_shape)
        names = [
            ", ".join(map(str, index)) for index in zip(*(i.flat for i in indices), strict=True)
        ]
        text = np.array([f"[{name}]" for name in names]).reshape(self.shape)
        return np.where(self.places >= 0, text, "")


def layout_for(
    shape: Sequence[int], name: str = "", image: tuple[int, int] | None = None
) -> MatrixLayout:
    """The 2-D layout of a tensor of any rank.

    A scalar is one cell. A vector is a strip, wrapped where it is longer than 128. A matrix is
    itself. A tensor of rank 3 is one tile for each index of its first axis. Of a tensor of
    rank 4 or more, as convolution kernels are (height, width, input channels, filters), each
    pair of input channel and filter is a tile, a column of tiles for each filter.

    Parameters
    ----------
    shape : sequence of int
        The tensor's.
    name : str, optional
        The tensor's; kernels have their axes named for what they are.
    image : (height, width), optional
        Of the images that a matrix (pixels × channels, units) reads: each unit is then drawn
        as an image.

    Raises
    ------
    InvalidArgumentError
        The image's size does not divide the matrix's rows.
    """
    sizes = tuple(int(size) for size in shape)
    if image is not None:
        return _image_tiles(sizes, image)
    if not sizes:
        return MatrixLayout((), (1, 1), Form.SCALAR, ("", ""))
    if len(sizes) == 1:
        return _strip(sizes[0])
    if len(sizes) == 2:
        titles = ("input", "unit") if name.endswith("kernel") else ("row", "column")
        return MatrixLayout(sizes, (sizes[0], sizes[1]), Form.MATRIX, titles)
    if len(sizes) == 3:
        return _stacked_matrices(sizes)
    return _kernels(sizes)


def as_matrix(tensor: NDArray[Any], layout: MatrixLayout) -> NDArray[Any]:
    """The tensor's values in their layout.

    Parameters
    ----------
    tensor : ndarray of shape ``layout.tensor_shape``
        Any dtype that weights may have.
    layout : MatrixLayout

    Returns
    -------
    ndarray of shape ``layout.shape``, float32 or float64
        Other dtypes become float32. NaN in gaps, which ``layout.gap`` tells from values.

    Raises
    ------
    InvalidArgumentError
        The tensor has another shape.
    """
    array = np.asarray(tensor)
    if array.shape != layout.tensor_shape:
        raise InvalidArgumentError(
            f"expected a tensor of shape {list(layout.tensor_shape)}, found {list(array.shape)}"
        )
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    if layout.places is None:
        return array.reshape(layout.shape)
    if array.size == 0:
        return np.full(layout.shape, np.nan, array.dtype)
    values = array.reshape(-1)[layout.places]
    values[layout.places < 0] = np.nan
    return values


def _strip(size: int) -> MatrixLayout:
    if size <= _STRIP_WIDTH:
        return MatrixLayout((size,), (1, size), Form.STRIP, ("", "index"), row_ticks=Ticks((), ()))
    # About eight times as wide as high, in widths that are easy to count by.
    columns = 64 * max(2, round(math.sqrt(8 * size) / 64))
    rows = -(-size // columns)
    places = np.full(rows * columns, -1, np.int64)
    places[:size] = np.arange(size)
    starts = _thinned(rows)
    return MatrixLayout(
        (size,),
        (rows, columns),
        Form.STRIP,
        ("first index", "index in the row"),
        row_ticks=Ticks(tuple(map(float, starts)), tuple(f"{r * columns:,}" for r in starts)),
        places=places.reshape(rows, columns),
    )


def _stacked_matrices(sizes: tuple[int, ...]) -> MatrixLayout:
    if sizes[0] == 1:
        return MatrixLayout(sizes, (sizes[1], sizes[2]), Form.MATRIX, ("row", "column"))
    places = np.arange(math.prod(sizes)).reshape(sizes).transpose(1, 2, 0)[:, :, None, :]
    return _tiles(sizes, places, ("", "index of axis 0"))


def _kernels(sizes: tuple[int, ...]) -> MatrixLayout:
    height, width, inputs, filters = math.prod(sizes[:-3]), *sizes[-3:]
    titles = ("input channel", "filter")
    if height * width == 1:
        return MatrixLayout(sizes, (inputs, filters), Form.MATRIX, titles)
    places = np.arange(math.prod(sizes)).reshape(height, width, inputs, filters)
    return _tiles(sizes, places, titles)


def _image_tiles(sizes: tuple[int, ...], image: tuple[int, int]) -> MatrixLayout:
    pixels = image[0] * image[1]
    if len(sizes) != 2 or min(image) < 1 or sizes[0] % pixels:
        raise InvalidArgumentError(
            f"images of {image[0]} × {image[1]} pixels do not make up the inputs "
            f"of a tensor of shape {list(sizes)}"
        )
    places = np.arange(math.prod(sizes)).reshape(*image, sizes[0] // pixels, sizes[1])
    return _tiles(sizes, places, ("input channel", "unit"))


def _tiles(
    sizes: tuple[int, ...], places: NDArray[np.int64], titles: tuple[str, str]
) -> MatrixLayout:
    """Tiles with a gap of one cell; a row of tiles for each input, a column for each output.

    ``places`` has the axes (height, width, inputs, outputs). Where few inputs make one long
    line of tiles, the line is wrapped.
    """
    height, width, inputs, outputs = places.shape
    lines = _lines_of_tiles(outputs * (width + 1), inputs * (height + 1))
    per_line = -(-outputs // lines)
    lines = -(-outputs // per_line) if per_line else 1
    padded = np.full((height, width, inputs, lines * per_line), -1, np.int64)
    padded[..., :outputs] = places
    tiles = padded.reshape(height, width, inputs, lines, per_line).transpose(3, 2, 0, 4, 1)
    canvas = np.full((lines * inputs, height + 1, per_line, width + 1), -1, np.int64)
    canvas[:, :height, :, :width] = tiles.reshape(lines * inputs, height, per_line, width)
    # The last tiles need no gap behind them.
    cells = canvas.reshape(lines * inputs * (height + 1), per_line * (width + 1))[:-1, :-1]
    if lines > 1:
        starts = tuple(str(line * per_line) for line in range(lines))
        row_ticks, column_ticks = _tile_ticks(starts, inputs * (height + 1)), Ticks((), ())
        titles = (f"first {titles[1]}", "")
    else:
        row_names = tuple(map(str, range(inputs))) if inputs > 1 else ()
        row_ticks = _tile_ticks(row_names, height + 1)
        column_ticks = _tile_ticks(tuple(map(str, range(outputs))), width + 1)
        titles = (titles[0] if inputs > 1 else "", titles[1])
    shape = (cells.shape[0], cells.shape[1])
    return MatrixLayout(sizes, shape, Form.TILES, titles, row_ticks, column_ticks, cells)


def _lines_of_tiles(width: int, height: int) -> int:
    """How many lines make tiles that are ``width`` × ``height`` in one line no more than 4:1."""
    aspect = width / height if height else 1.0
    return 1 if aspect <= 4 else max(1, round(math.sqrt(aspect / 2)))


def _tile_ticks(labels: Sequence[str], pitch: int) -> Ticks:
    shown = _thinned(len(labels))
    return Ticks(tuple(i * pitch + (pitch - 2) / 2 for i in shown), tuple(labels[i] for i in shown))


def _thinned(count: int) -> range:
    """Every k-th of ``count`` places, k a round number, eight at most."""
    for step in (1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100, 128, 200, 256, 500):
        if count <= _MOST_TICKS * step:
            return range(0, count, step)
    return range(0, count, -(-count // _MOST_TICKS))


@dataclass(frozen=True, eq=False)
class ReducedMatrix:
    """A matrix with few enough cells to be drawn; each stands for a block of the original's.

    Parameters
    ----------
    values : ndarray of shape (r, c), float32
        Of the finite cells of each block; NaN where there is none.
    nan, infinite : ndarray of shape (r, c), bool
        Whether the block holds a NaN, or an infinite value.
    gap : ndarray of shape (r, c), bool
        Whether the block holds no value at all.
    steps : (int, int)
        Rows and columns of one block. The last blocks may be cut off by the edge.
    extent : (int, int)
        Rows and columns of the matrix that was reduced.
    origin : (int, int)
        Where in the whole matrix its first cell lies.
    """

    values: NDArray[np.float32]
    nan: NDArray[np.bool_]
    infinite: NDArray[np.bool_]
    gap: NDArray[np.bool_]
    steps: tuple[int, int]
    extent: tuple[int, int]
    origin: tuple[int, int] = (0, 0)

    @property
    def is_reduced(self) -> bool:
        """Whether any cell stands for more than one value."""
        return self.steps != (1, 1)


def reduce_cells(
    matrix: NDArray[Any],
    limit: int = 512,
    how: Literal["mean", "signed-extreme"] = "mean",
    *,
    gap: NDArray[np.bool_] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> ReducedMatrix:
    """Blocks of a matrix, so that no axis has more than ``limit`` of them.

    Parameters
    ----------
    matrix : ndarray of shape (rows, columns), float
    limit : int
        At least 1. A matrix that is small enough keeps its cells.
    how : {"mean", "signed-extreme"}
        What a block shows: the mean of its finite values, or the one that is furthest from
        zero with its sign, by which a single spike survives. Of two that are equally far the
        positive one.
    gap : ndarray of shape (rows, columns), bool, optional
        Cells that are no values: left out, and not counted as NaN.
    origin : (int, int), optional
        Where in the whole tensor's matrix this one begins, when it is a window of it.

    Returns
    -------
    ReducedMatrix
        Blocks at the edges cover the cells that are there: nothing is padded.

    Raises
    ------
    InvalidArgumentError
        Not a matrix, a limit below 1, or an unknown ``how``.
    """
    values = np.asarray(matrix)
    if values.ndim != 2:
        raise InvalidArgumentError(f"expected a matrix, found shape {list(values.shape)}")
    if limit < 1:
        raise InvalidArgumentError(f"a drawing has at least 1 cell an axis, limit is {limit}")
    if how not in ("mean", "signed-extreme"):
        raise InvalidArgumentError(f"expected mean or signed-extreme, found {how}")
    absent = np.zeros(values.shape, bool) if gap is None else gap
    nan, infinite = np.isnan(values) & ~absent, np.isinf(values) & ~absent
    rows, columns = values.shape
    steps = (max(1, -(-rows // limit)), max(1, -(-columns // limit)))
    finite = np.isfinite(values) & ~absent
    if steps == (1, 1):
        reduced = np.where(finite, values, np.nan)
    else:
        block = _block_means if how == "mean" else _block_extremes
        reduced = block(values, finite, steps)
        nan, infinite = (_blocks(np.logical_or, m, steps) for m in (nan, infinite))
        absent = _blocks(np.logical_and, absent, steps)
    return ReducedMatrix(
        _single_precision(reduced), nan, infinite, absent, steps, (rows, columns), origin
    )


def _blocks(
    operation: np.ufunc, matrix: NDArray[Any], steps: tuple[int, int], dtype: Any = None
) -> NDArray[Any]:
    # Along the rows first: that reads memory in order and leaves little for the columns.
    for axis, step in ((1, steps[1]), (0, steps[0])):
        if matrix.shape[axis]:
            starts = np.arange(0, matrix.shape[axis], step)
            matrix = operation.reduceat(matrix, starts, axis=axis, dtype=dtype)
    return matrix


def _block_means(
    values: NDArray[Any], finite: NDArray[np.bool_], steps: tuple[int, int]
) -> NDArray[np.float64]:
    sums = _blocks(np.add, np.where(finite, values, 0), steps, np.float64)
    counts = _blocks(np.add, finite, steps, np.int64)
    means = np.full(sums.shape, np.nan)
    return np.divide(sums, counts, out=means, where=counts > 0)


def _block_extremes(
    values: NDArray[Any], finite: NDArray[np.bool_], steps: tuple[int, int]
) -> NDArray[Any]:
    highest = _blocks(np.maximum, np.where(finite, values, -np.inf), steps)
    lowest = _blocks(np.minimum, np.where(finite, values, np.inf), steps)
    extremes = np.where(highest >= -lowest, highest, lowest)
    return np.where(np.isfinite(extremes), extremes, np.nan)


def _single_precision(values: NDArray[Any]) -> NDArray[np.float32]:
    """Browsers take float32; what is beyond its range becomes its end, never infinite."""
    most = np.finfo(np.float32).max
    return np.clip(values, -most, most).astype(np.float32)


def shared_limit(arrays: Iterable[NDArray[Any]], percentile: float = 99.5) -> float:
    """One zero-centred limit for the colours of all arrays that are compared.

    Parameters
    ----------
    arrays : iterable of ndarray
        Any shapes. NaN and infinite values are left out.
    percentile : float
        Of the absolute values, all arrays together; 100 for the full range.

    Returns
    -------
    float
        Above 0. Where the percentile is 0 (nearly all values are), the largest value; where
        that is 0 too, or nothing is finite, :data:`TINY_LIMIT`.

    Raises
    ------
    InvalidArgumentError
        The percentile is not above 0 and at most 100.
    """
    if not 0 < percentile <= 100:
        raise InvalidArgumentError(f"expected a percentile in (0, 100], found {percentile}")
    magnitudes = [np.abs(a[np.isfinite(a)]) for a in map(_as_float, arrays)]
    together = np.concatenate([m.ravel() for m in magnitudes]) if magnitudes else np.empty(0)
    if not together.size:
        return TINY_LIMIT
    limit = float(np.percentile(together, percentile)) or float(together.max())
    return limit or TINY_LIMIT


def _as_float(array: NDArray[Any]) -> NDArray[Any]:
    values = np.asarray(array)
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)


def clipped_share(values: NDArray[Any], limit: float) -> float:
    """Share of the finite values that lie beyond ±``limit``; 0 where none is finite."""
    finite = values[np.isfinite(values)]
    return float(np.mean(np.abs(finite) > limit)) if finite.size else 0.0


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many values lie where between −limit and +limit.

    Parameters
    ----------
    counts : ndarray of shape (bins,), int64
        Finite values. Those beyond a limit are counted in the bin at that end.
    edges : ndarray of shape (bins + 1,), float64
    below, above : int
        Values beyond the limits.
    nan, infinite : int
    """

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]
    below: int
    above: int
    nan: int
    infinite: int

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middle of each bin."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    @property
    def total(self) -> int:
        """All values, those that are not finite included."""
        return int(self.counts.sum()) + self.nan + self.infinite

    @property
    def clipped(self) -> float:
        """Share of the finite values beyond the limits."""
        finite = int(self.counts.sum())
        return (self.below + self.above) / finite if finite else 0.0


def histogram(
    values: NDArray[Any],
    limit: float,
    bins: int = 41,
    *,
    gap: NDArray[np.bool_] | None = None,
) -> Histogram:
    """Counts of values in even bins from −limit to +limit; an odd number has zero in the middle.

    Parameters
    ----------
    values : ndarray of any shape, float
    limit : float
        Above 0.
    bins : int
    gap : ndarray of the shape of ``values``, bool, optional
        Cells that are no values.

    Raises
    ------
    InvalidArgumentError
        The limit is not above 0, or there is no bin.
    """
    if not limit > 0 or bins < 1:
        raise InvalidArgumentError(
            f"expected a limit above 0 and at least 1 bin, found {limit} and {bins}"
        )
    present = values.ravel() if gap is None else values[~gap]
    finite = present[np.isfinite(present)]
    counts, edges = np.histogram(np.clip(finite, -limit, limit), bins, range=(-limit, limit))
    nan = int(np.isnan(present).sum())
    return Histogram(
        counts.astype(np.int64),
        edges.astype(np.float64),
        below=int((finite < -limit).sum()),
        above=int((finite > limit).sum()),
        nan=nan,
        infinite=present.size - finite.size - nan,
    )


def magnification(limit: float, differences: Iterable[NDArray[Any]]) -> int:
    """The power of two that differences are multiplied by to be seen on the weights' scale.

    Parameters
    ----------
    limit : float
        Of the weights' scale.
    differences : iterable of ndarray
        Those that share the factor.

    Returns
    -------
    int
        The largest power of two that keeps their 99.5th percentile within the limit, from 1
        to 2²⁰; 1 where all differences are zero.
    """
    reach = shared_limit(differences)
    if reach == TINY_LIMIT or reach >= limit:
        return 1
    return 1 << min(20, math.floor(math.log2(limit / reach)))


@dataclass(frozen=True)
class Spike:
    """A single value far outside the scale."""

    row: int
    column: int
    value: float


def spikes(matrix: NDArray[Any], limit: float, factor: float = 4.0, most: int = 3) -> list[Spike]:
    """The few finite cells that lie more than ``factor`` × ``limit`` from zero, furthest first.

    Returns
    -------
    list of Spike
        At most ``most``. Empty where more than 32 cells are so far out: that is a wide
        distribution, not spikes.
    """
    rows, columns = np.nonzero(np.isfinite(matrix) & (np.abs(matrix) > factor * limit))
    if rows.size > 32:
        return []
    values = matrix[rows, columns]
    order = np.argsort(-np.abs(values), kind="stable")[:most]
    return [Spike(int(rows[i]), int(columns[i]), float(values[i])) for i in order]


def furthest_cell(matrix: NDArray[Any]) -> tuple[int, int] | None:
    """The cell whose finite value is furthest from zero; None where none is finite."""
    magnitude = np.where(np.isfinite(matrix), np.abs(matrix), -1.0)
    if not magnitude.size or magnitude.max() < 0:
        return None
    row, column = divmod(int(np.argmax(magnitude)), matrix.shape[1])
    return row, column
