"""Any tensor as a matrix: vectors as strips, kernels as tiles, or a plane of two picked axes.

What is laid out here is reduced to a drawable number of cells in ``reduction`` and gets its
colours' range in ``scales``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedviz.errors import InvalidArgumentError

__all__ = ["Form", "MatrixLayout", "Plane", "Ticks", "Window", "as_matrix", "layout_for"]

Window = tuple[int, int, int, int]
"""First row, end row, first column, end column of a matrix; ends are exclusive."""

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


@dataclass(frozen=True)
class Plane:
    """Two axes of a tensor, and where the others are held.

    Parameters
    ----------
    rows, columns : int
        Two different axes.
    at : tuple of int
        An index for each axis; those of the two axes do not matter.
    """

    rows: int
    columns: int
    at: tuple[int, ...]

    def index(self, row: int, column: int) -> tuple[int, ...]:
        """The tensor's index of a cell."""
        index = list(self.at)
        index[self.rows], index[self.columns] = row, column
        return tuple(index)


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
        is the tensor, reshaped, or a plane of it.
    plane : Plane or None
        Where only two of the tensor's axes are laid out.
    """

    tensor_shape: tuple[int, ...]
    shape: tuple[int, int]
    form: Form
    axis_titles: tuple[str, str]
    row_ticks: Ticks | None = None
    column_ticks: Ticks | None = None
    places: NDArray[np.int64] | None = None
    plane: Plane | None = None

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
        if self.plane is not None:
            return self.plane.index(row, column)
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
        if self.plane is not None:
            return index[self.plane.rows], index[self.plane.columns]
        place = 0
        for i, size in zip(index, self.tensor_shape, strict=True):
            place = place * size + i
        if self.places is not None:
            place = int(np.argmax(self.places == place))
        row, column = divmod(place, self.shape[1])
        return row, column

    def region(self, rows: slice, columns: slice) -> tuple[slice, ...] | None:
        """The part of the tensor that a window of the matrix shows.

        Parameters
        ----------
        rows, columns : slice
            Of the matrix, without a step.

        Returns
        -------
        tuple of slice, or None
            One for each axis; None where the window is no box of the tensor.
        """
        if self.plane is not None:
            parts = [slice(i, i + 1) for i in self.plane.at]
            parts[self.plane.rows], parts[self.plane.columns] = rows, columns
            return tuple(parts)
        return (rows, columns) if self.places is None and len(self.tensor_shape) == 2 else None

    def arranged(self, part: NDArray[Any]) -> NDArray[Any]:
        """What was read of :meth:`region`, as a matrix."""
        if self.plane is None:
            return part
        front = np.moveaxis(part, (self.plane.rows, self.plane.columns), (0, 1))
        return front.reshape(front.shape[:2])

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
    shape: Sequence[int],
    name: str = "",
    image: tuple[int, int] | None = None,
    plane: Plane | None = None,
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
    plane : Plane, optional
        Lay out these two axes, and hold the others.

    Raises
    ------
    InvalidArgumentError
        The image's size does not divide the matrix's rows, or the plane is not the tensor's.
    """
    sizes = tuple(int(size) for size in shape)
    if plane is not None:
        return _plane_layout(sizes, plane)
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
    if layout.plane is not None:
        return layout.arranged(array[layout.region(slice(None), slice(None))])
    if layout.places is None:
        return array.reshape(layout.shape)
    if array.size == 0:
        return np.full(layout.shape, np.nan, array.dtype)
    values = array.reshape(-1)[layout.places]
    values[layout.places < 0] = np.nan
    return values


def _plane_layout(sizes: tuple[int, ...], plane: Plane) -> MatrixLayout:
    axes = range(len(sizes))
    held = len(plane.at) == len(sizes) and all(
        0 <= plane.at[axis] < sizes[axis]
        for axis in axes
        if axis not in (plane.rows, plane.columns)
    )
    if plane.rows == plane.columns or not {plane.rows, plane.columns} <= set(axes) or not held:
        raise InvalidArgumentError(
            f"axes {plane.rows} and {plane.columns} at {list(plane.at)} are no plane of a tensor "
            f"of shape {list(sizes)}"
        )
    shape = (sizes[plane.rows], sizes[plane.columns])
    titles = (f"axis {plane.rows}", f"axis {plane.columns}")
    return MatrixLayout(sizes, shape, Form.MATRIX, titles, plane=plane)


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
