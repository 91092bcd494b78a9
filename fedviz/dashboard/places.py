"""Cells of a matrix, as they are written by hand and in an address; without Streamlit."""

from __future__ import annotations

from fedviz.analysis.heatmap import MatrixLayout, Window
from fedviz.errors import InvalidArgumentError

__all__ = ["HOW_TO_WRITE", "parse_window", "window_text"]

HOW_TO_WRITE = "row, column, such as 12, 30; or ranges without their ends, such as 10:20, 5:9"

_MOST_DIGITS = 15


def window_text(window: Window) -> str:
    """A window as an address has it: first row, end row, first column, end column."""
    return ",".join(map(str, window))


def parse_window(text: str, layout: MatrixLayout) -> Window:
    """Read a cell, or a range of cells.

    Parameters
    ----------
    text : str
        ``12, 30`` is one cell, ``10:20, 5:9`` ten rows of four, ``12, 5:9`` four cells of a row,
        ``10,20,5,9`` the same as ``10:20, 5:9``. Where there is one row, ``30`` and ``5:9`` do. An
        end that is left out is the matrix's own: ``:, 3`` is a column.
    layout : MatrixLayout

    Returns
    -------
    Window
        Ends are exclusive.

    Raises
    ------
    InvalidArgumentError
        That is neither, or not within the matrix.
    """
    rows, columns = layout.shape
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 4 and all(map(_is_number, parts)):
        parts = [f"{parts[0]}:{parts[1]}", f"{parts[2]}:{parts[3]}"]
    if len(parts) == 1 and rows == 1:
        parts = ["0", *parts]
    if len(parts) != 2:
        raise InvalidArgumentError(f"{text[:60]} is no cell: expected {HOW_TO_WRITE}")
    return *_span(parts[0], rows, "row"), *_span(parts[1], columns, "column")


def _span(part: str, size: int, axis: str) -> tuple[int, int]:
    ends = [end.strip() for end in part.split(":")]
    if len(ends) == 1 and _is_number(part):
        first, end = int(part), int(part) + 1
    elif len(ends) == 2 and all(not each or _is_number(each) for each in ends):
        first, end = int(ends[0] or 0), int(ends[1] or size)
    else:
        raise InvalidArgumentError(
            f"{part[:60]} is no {axis}: expected a number, or a range such as 10:20"
        )
    if not first < end <= size:
        raise InvalidArgumentError(
            f"There is no {axis} {part} among {size:,}: expected 0 to {size - 1:,}"
        )
    return first, end


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS
