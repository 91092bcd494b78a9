"""Which client differs from the reference signature, in which tensor, and how."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fedviz.figures.layout import UNFADED, add_labels, blank_figure, label, text_width
from fedviz.figures.signature_view import (
    GRAVITY,
    MatrixRow,
    MatrixView,
    gravest,
    gravity,
    kind_name,
)
from fedviz.figures.text import counted, distinct_names, escaped, middle_ellipsis
from fedviz.figures.theme import KIND_LETTER, Theme, readable_on
from fedviz.signature import Mismatch, MismatchKind

__all__ = ["matrix_height", "signature_matrix_figure"]

_NAME_LIMIT, _UPRIGHT_LIMIT = 28, 40
_CLIENT_LIMIT = 18
_NOTE_LIMIT = 34
_MOST_SLANTED, _MOST_NAMES = 16, 60
# In more columns a letter is wider than a cell: neighbours that are alike share one.
_MOST_LETTERED = 90
# In larger matrices only what differs can be pointed at: the page is to stay light.
_MOST_FINE_TARGETS = 2000
# The plot's width is the browser's to decide; labels are laid out for a half page.
_USUAL_WIDTH = 470


def matrix_height(view: MatrixView) -> int:
    """Height of the figure in pixels."""
    return round(_top_margin(view) + len(view.rows) * _row_height(view) + 6)


def signature_matrix_figure(view: MatrixView, theme: Theme) -> go.Figure:
    """Clients × tensors: pale where as expected, a colour and a letter for each mismatch.

    Over the cells lie transparent squares, whose ``customdata`` is ``[client, tensor]``: with
    ``st.plotly_chart(..., on_select="rerun", selection_mode="points")`` a click selects them. Of
    a folded row the first client is named. In a large matrix only cells that differ have one.

    Parameters
    ----------
    view : MatrixView
    theme : Theme

    Returns
    -------
    Figure
        Traces, in this order: the cells, hatching (named ``non-finite``, where there is any),
        letters, the squares.
    """
    figure = blank_figure(
        theme,
        matrix_height(view),
        l=_left_margin(view),
        r=_right_margin(view),
        t=_top_margin(view),
        b=6,
    )
    figure.update_layout(clickmode="event+select", hoverdistance=40, bargap=0, barmode="overlay")
    _draw_cells(figure, view, theme)
    _draw_hatching(figure, view, theme)
    _draw_letters(figure, view, theme)
    _draw_targets(figure, view)
    _draw_notes(figure, view, theme)
    _name_tensors(figure, view, theme)
    figure.update_yaxes(
        tickvals=list(range(len(view.rows))),
        ticktext=[escaped(middle_ellipsis(row.label, _CLIENT_LIMIT)) for row in view.rows],
        range=[len(view.rows) - 0.5, -0.5],
        showgrid=False,
        tickfont={"size": 12 if _row_height(view) >= 20 else 11, "color": theme.ink},
    )
    return figure


def _shown_kind(mismatches: tuple[Mismatch, ...]) -> MismatchKind | None:
    """What a cell is coloured for; non-finite values are hatched over it, or over nothing."""
    coloured = [m for m in mismatches if m.kind is not MismatchKind.NONFINITE]
    return gravest(coloured).kind if coloured else None


def _is_hatched(mismatches: tuple[Mismatch, ...] | None) -> bool:
    return any(m.kind is MismatchKind.NONFINITE for m in mismatches or ())


def _draw_cells(figure: go.Figure, view: MatrixView, theme: Theme) -> None:
    kinds: list[MismatchKind | None] = [None, *GRAVITY]
    numbers: NDArray[np.float32] = np.full(
        (len(view.rows), view.num_columns), np.nan, dtype=np.float32
    )
    # The folded column is one of those that are as expected.
    numbers[:, len(view.tensors) :] = 0
    for i, row in enumerate(view.rows):
        for j, mismatches in enumerate(row.cells):
            if mismatches is not None:
                numbers[i, j] = kinds.index(_shown_kind(mismatches))
    gap = _cell_gap(view)
    figure.add_heatmap(
        z=numbers,
        zmin=-0.5,
        zmax=len(kinds) - 0.5,
        colorscale=_stepped([theme.fine if k is None else theme.kinds[k] for k in kinds]),
        showscale=False,
        xgap=gap,
        ygap=min(gap, 3),
        hoverinfo="skip",
        hoverongaps=False,
    )


def _stepped(colours: Sequence[str]) -> list[tuple[float, str]]:
    count = len(colours)
    return [(edge / count, c) for i, c in enumerate(colours) for edge in (i, i + 1)]


def _draw_hatching(figure: go.Figure, view: MatrixView, theme: Theme) -> None:
    by_colour: dict[str, list[tuple[int, int]]] = {}
    for i, row in enumerate(view.rows):
        for j, mismatches in enumerate(row.cells):
            if mismatches and _is_hatched(mismatches):
                by_colour.setdefault(_cell_colour(mismatches, theme), []).append((i, j))
    # plotly takes the colours of a pattern once for each trace.
    for colour, cells in by_colour.items():
        _add_hatched(figure, cells, colour, theme)


def _add_hatched(
    figure: go.Figure, cells: Sequence[tuple[int, int]], colour: str, theme: Theme
) -> None:
    stripes = theme.faint if colour == theme.fine else readable_on(colour)
    # A heatmap has no patterns. Bars have, and plotly draws them above heatmaps.
    figure.add_bar(
        x=[0.94] * len(cells),
        base=[j - 0.47 for _, j in cells],
        y=[i for i, _ in cells],
        width=0.84,
        orientation="h",
        name="non-finite",
        hoverinfo="skip",
        unselected=UNFADED,
        marker={
            "color": colour,
            "line": {"width": 0},
            "pattern": {
                "shape": "/",
                "size": 6,
                "solidity": 0.35,
                "fgcolor": stripes,
                "bgcolor": colour,
            },
        },
    )


def _cell_colour(mismatches: tuple[Mismatch, ...], theme: Theme) -> str:
    kind = _shown_kind(mismatches)
    return theme.fine if kind is None else theme.kinds[kind]


def _draw_letters(figure: go.Figure, view: MatrixView, theme: Theme) -> None:
    lettered = list(_lettered(view))
    colours = [_cell_colour(mismatches, theme) for *_, mismatches in lettered]
    size = _letter_size(view)
    figure.add_scatter(
        x=[j for _, j, _ in lettered],
        y=[i for i, _, _ in lettered],
        text=[f"<b>{KIND_LETTER[gravest(m).kind]}</b>" for *_, m in lettered],
        mode="markers+text",
        textposition="middle center",
        textfont={
            "size": size,
            "color": [theme.ink if c == theme.fine else readable_on(c) for c in colours],
        },
        # Clears the hatching behind a letter; on plain cells it is not to be seen.
        marker={
            "symbol": "square",
            "size": size + 3,
            "color": colours,
            "opacity": [1.0 if _is_hatched(m) else 0.0 for *_, m in lettered],
            "line": {"width": 0},
        },
        hoverinfo="skip",
        # Without a colour of its own for selected text plotly fades all the other text.
        selected={"textfont": {"color": theme.ink}},
        unselected=UNFADED,
    )


def _lettered(view: MatrixView) -> Iterator[tuple[int, float, tuple[Mismatch, ...]]]:
    """Where a letter stands: row, column, and what it is for."""
    apart = view.num_columns / _MOST_LETTERED
    for i, row in enumerate(view.rows):
        if apart <= 1:
            yield from ((i, j, cell) for j, cell in enumerate(row.cells) if cell)
            continue
        last = -math.inf
        for first, end, mismatches in _runs(row):
            middle = (first + end - 1) / 2
            if middle - last >= apart:
                yield i, middle, mismatches
                last = middle


def _runs(row: MatrixRow) -> Iterator[tuple[int, int, tuple[Mismatch, ...]]]:
    """Neighbouring cells that differ in the same kinds: from, to before, and the first's."""
    at = 0
    for kinds, group in groupby(row.cells, _kinds):
        cells = list(group)
        if kinds and cells[0]:
            yield at, at + len(cells), cells[0]
        at += len(cells)


def _kinds(cell: tuple[Mismatch, ...] | None) -> frozenset[MismatchKind]:
    return frozenset(m.kind for m in cell or ())


def _draw_targets(figure: go.Figure, view: MatrixView) -> None:
    cells = [
        (i, j, row, row.cells[j]) for i, row in enumerate(view.rows) for j in _targets(row, view)
    ]
    invisible = {"marker": {"opacity": 0}}
    figure.add_scatter(
        x=[j for _, j, _, _ in cells],
        y=[i for i, *_ in cells],
        mode="markers",
        marker={"symbol": "square", "size": _row_height(view), "opacity": 0},
        selected=invisible,
        unselected=invisible,
        customdata=[[row.clients[0], view.tensors[j]] for _, j, row, _ in cells],
        hovertext=[_hover(row, view.tensors[j], found or ()) for _, j, row, found in cells],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _targets(row: MatrixRow, view: MatrixView) -> list[int]:
    """Columns of a row that can be pointed at and clicked."""
    wide_enough = view.num_columns <= _MOST_LETTERED
    if wide_enough and len(view.rows) * len(view.tensors) <= _MOST_FINE_TARGETS:
        return [j for j, cell in enumerate(row.cells) if cell is not None]
    # Cells that are a pixel or two wide cannot be told apart: every few of those alike will do.
    step = max(1, view.num_columns // _MOST_LETTERED)
    return [j for first, end, _ in _runs(row) for j in range(first, end, step)]


def _hover(row: MatrixRow, tensor: str, mismatches: tuple[Mismatch, ...]) -> str:
    head = f"<b>{escaped(row.label)}</b> {escaped(tensor)}"
    if not mismatches:
        return f"{head}<br>as expected"
    lines = [_difference(m) for m in sorted(mismatches, key=gravity)]
    if len(lines) > 1:
        head += f"<br>{counted(len(lines), 'mismatch', 'mismatches')}"
    return "<br>".join([head, *lines])


def _difference(mismatch: Mismatch) -> str:
    letter, kind = KIND_LETTER[mismatch.kind], kind_name(mismatch.kind)
    line = (
        f"<b>{letter}</b> {kind}: expected {escaped(mismatch.expected)}, "
        f"found {escaped(mismatch.actual)}"
    )
    return f"{line}<br>  {escaped(mismatch.cause)}" if mismatch.cause else line


def _draw_notes(figure: go.Figure, view: MatrixView, theme: Theme) -> None:
    add_labels(figure, [_note(i, row, view, theme) for i, row in enumerate(view.rows)])


def _note(i: int, row: MatrixRow, view: MatrixView, theme: Theme) -> dict[str, Any]:
    return label(
        escaped(middle_ellipsis(row.note, _NOTE_LIMIT)),
        1,
        i,
        xref="paper",
        xshift=8,
        colour=theme.sub if row.is_fine else theme.ink,
        size=12 if _row_height(view) >= 20 else 11,
        hovertext=escaped(row.note) if len(row.note) > _NOTE_LIMIT else None,
    )


def _name_tensors(figure: go.Figure, view: MatrixView, theme: Theme) -> None:
    shown, names, angle = _named_columns(view), _column_names(view), _name_angle(view)
    figure.update_xaxes(
        side="top",
        tickvals=shown,
        ticktext=[
            _column_text(names[j], is_italic=j >= view.num_reference, angle=angle) for j in shown
        ],
        range=[-0.5, view.num_columns - 0.5],
        showgrid=False,
        tickangle=angle,
        tickfont={"size": 12 if angle == 0 else 11, "color": theme.ink},
    )


def _column_text(name: str, *, is_italic: bool, angle: int) -> str:
    layer, slash, variable = name.rpartition("/")
    # Two short lines stay apart where one long line would run into its neighbour.
    between = f"{slash}<br>" if slash and angle == 0 else slash
    text = f"{escaped(layer)}{between}{escaped(variable)}"
    return f"<i>{text}</i>" if is_italic else text


def _column_names(view: MatrixView) -> list[str]:
    upright = view.num_columns > _MOST_SLANTED
    names = distinct_names(view.tensors, _UPRIGHT_LIMIT if upright else _NAME_LIMIT)
    folded = view.num_folded_tensors
    return [*names, f"{folded:,} as expected"] if folded else names


def _named_columns(view: MatrixView) -> list[int]:
    """Columns that are named: all, or those with a mismatch, or every k-th."""
    count = view.num_columns
    step = -(-count // _MOST_NAMES)
    affected = [j for j in range(len(view.tensors)) if any(row.cells[j] for row in view.rows)]
    if step == 1 or not 0 < len(affected) <= _MOST_NAMES // 2:
        return list(range(0, count, step))
    named: list[int] = []
    for j in affected:
        if not named or j - named[-1] >= step:
            named.append(j)
    return named


def _name_angle(view: MatrixView) -> int:
    parts = [part for name in _column_names(view) for part in name.split("/")]
    widest = max((text_width(part) for part in parts), default=0.0)
    if (widest + 8) * view.num_columns <= _USUAL_WIDTH:
        return 0
    return -45 if view.num_columns <= _MOST_SLANTED else -90


def _name_length(view: MatrixView) -> float:
    """Pixels that the longest name of a tensor takes."""
    return max((text_width(name, 11.5) for name in _column_names(view)), default=0.0)


def _top_margin(view: MatrixView) -> float:
    angle = _name_angle(view)
    if angle == 0:
        return 40.0
    return 16 + 0.75 * _name_length(view) if angle == -45 else 14 + _name_length(view)


def _left_margin(view: MatrixView) -> float:
    names = [middle_ellipsis(row.label, _CLIENT_LIMIT) for row in view.rows]
    return 12 + max((text_width(name) for name in names), default=0.0)


def _right_margin(view: MatrixView) -> float:
    notes = [middle_ellipsis(row.note, _NOTE_LIMIT) for row in view.rows]
    room = 14 + max((text_width(note) for note in notes), default=0.0)
    # Slanted names lean over the last column.
    return max(room, 0.7 * _name_length(view)) if _name_angle(view) == -45 else room


def _row_height(view: MatrixView) -> float:
    return 26.0 if len(view.rows) <= 14 else 22.0 if len(view.rows) <= 25 else 17.0


def _cell_gap(view: MatrixView) -> int:
    count = view.num_columns
    return 4 if count <= 12 else 2 if count <= 60 else 1 if count <= 150 else 0


def _letter_size(view: MatrixView) -> int:
    count = view.num_columns
    return 12 if count <= 24 else 10 if count <= 45 else 8
