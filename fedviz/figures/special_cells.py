"""Cells without a place on the colour scale: NaN, infinite values, and what lies beyond its ends.

NaN and infinite values are neutral greys with a pattern each, so that neither their hue nor their
pattern alone tells them apart. What lies beyond the scale has a colour that the scale has not; that
costs a browser nothing, since the cells stay those of the heatmap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedviz.analysis.reduction import ReducedMatrix
from fedviz.analysis.scales import Histogram
from fedviz.figures.cells import axis_name, cell_positions
from fedviz.figures.draft import Canvas
from fedviz.figures.layout import UNFADED, add_labels, add_shapes, label, text_width
from fedviz.figures.theme import TRANSPARENT, Theme

__all__ = ["LEGEND_HEIGHT", "Look", "draw_legend", "looks_of", "mark_nonfinite"]

LEGEND_HEIGHT = 24

# More patterned patches than this are slow in a browser; flat colours stand for them.
_MOST_PATCHES = 600

_SWATCH, _SPACE, _LOW = 12, 20, 4


@dataclass(frozen=True)
class Look:
    """How one kind of cell is drawn.

    Parameters
    ----------
    name : str
    ground, lines : str
        Colours.
    pattern : str
        Plotly's; empty where the ground is all there is.
    strokes : tuple of (int, int, int, int)
        The pattern's lines in a legend, from x, y to x, y: pixels in a square of twelve.
    """

    name: str
    ground: str
    lines: str = TRANSPARENT
    pattern: str = ""
    strokes: tuple[tuple[int, int, int, int], ...] = ()


def _looks(theme: Theme) -> tuple[Look, ...]:
    """The one that is seen first comes first: a block that holds several kinds has its look."""
    return (
        Look("+∞", theme.ink, theme.page, "+", ((6, 0, 6, 12), (0, 6, 12, 6))),
        Look("−∞", theme.sub, theme.page, "-", ((0, 4, 12, 4), (0, 8, 12, 8))),
        Look("NaN", theme.faint, theme.ink, "x", ((0, 0, 12, 12), (0, 12, 12, 0))),
    )


def _masks(matrix: ReducedMatrix) -> tuple[NDArray[np.bool_], ...]:
    """Cells of each look, in the looks' order; no cell has two."""
    positive = matrix.positive_infinite
    negative = matrix.negative_infinite & ~positive
    return positive, negative, matrix.nan & ~positive & ~negative


def mark_nonfinite(figure: Canvas, k: int, matrix: ReducedMatrix, theme: Theme) -> None:
    """Cover cells that are not finite, on the k-th axes: one trace, where there are any.

    NaN is crossed, +∞ has plus signs and −∞ minus signs, on greys of their own; where these would
    be more than a browser draws well, the greys alone.
    """
    if not matrix.nonfinite.any():
        return
    masks = _masks(matrix)
    if sum(map(_num_runs, masks)) > _MOST_PATCHES:
        _mark_flat(figure, k, matrix, theme)
        return
    patches = [
        (look, patch)
        for look, mask in zip(_looks(theme), masks, strict=True)
        for patch in _rectangles(mask)
    ]
    _add_patches(figure, k, matrix, patches, theme)


def _add_patches(
    figure: Canvas,
    k: int,
    matrix: ReducedMatrix,
    patches: Sequence[tuple[Look, tuple[int, int, int, int]]],
    theme: Theme,
) -> None:
    (row, column), (high, wide) = matrix.origin, matrix.steps
    looks = [look for look, _ in patches]
    tops, bottoms, lefts, rights = np.array([patch for _, patch in patches]).T
    # A heatmap has no patterns. Bars have, and plotly draws them above heatmaps.
    figure.add_bar(
        x=(rights - lefts) * wide,
        base=column + lefts * wide - 0.5,
        y=row + (tops + bottoms) / 2 * high - 0.5,
        width=(bottoms - tops) * high,
        orientation="h",
        xaxis=axis_name("x", k),
        yaxis=axis_name("y", k),
        name="not finite",
        hovertext=[look.name for look in looks],
        hovertemplate="<b>%{hovertext}</b><extra></extra>",
        unselected=UNFADED,
        marker={
            # One for all: a colour for each would take the place of the patterns' own.
            "color": theme.ink,
            "line": {"width": 1, "color": theme.ink},
            "pattern": {
                "shape": [look.pattern for look in looks],
                "fgcolor": [look.lines for look in looks],
                "bgcolor": [look.ground for look in looks],
                "size": 5,
                "solidity": 0.3,
            },
        },
    )


def _mark_flat(figure: Canvas, k: int, matrix: ReducedMatrix, theme: Theme) -> None:
    """One byte a cell; nothing is drawn where it is 0."""
    grounds = [look.ground for look in _looks(theme)]
    codes = np.select(_masks(matrix), [1, 2, 3], 0).astype(np.uint8)
    figure.add_heatmap(
        z=codes,
        **cell_positions(matrix),
        zmin=0,
        zmax=3,
        colorscale=[(i / 3, colour) for i, colour in enumerate([TRANSPARENT, *grounds])],
        showscale=False,
        xaxis=axis_name("x", k),
        yaxis=axis_name("y", k),
        name="not finite",
        # The cells below are pointed at through it.
        hoverinfo="skip",
    )


def _num_runs(mask: NDArray[np.bool_]) -> int:
    before = np.zeros_like(mask)
    before[:, 1:] = mask[:, :-1]
    return int((mask & ~before).sum())


def _rectangles(mask: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """Rectangles (top, bottom, left, right) that cover a mask: equal runs joined downwards."""
    if not mask.any():
        return []
    started: dict[tuple[int, int], int] = {}
    rectangles = []
    for i in range(mask.shape[0] + 1):
        runs = _runs(mask[i]) if i < mask.shape[0] else []
        for run in [run for run in started if run not in runs]:
            rectangles.append((started.pop(run), i, *run))
        for run in runs:
            started.setdefault(run, i)
    return rectangles


def _runs(line: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], line.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def looks_of(
    matrices: Sequence[ReducedMatrix],
    signed: Sequence[Histogram],
    spreads: Sequence[Histogram],
    theme: Theme,
) -> list[Look]:
    """What a legend has to explain: the special cells that occur.

    Parameters
    ----------
    matrices : sequence of ReducedMatrix
    signed : sequence of Histogram
        Of the panels whose scale has two ends.
    spreads : sequence of Histogram
        Of those whose scale begins at 0.
    theme : Theme
    """
    below, above = theme.beyond
    beyond = (
        (any(each.below for each in signed), Look("below the scale", below)),
        (any(each.above for each in signed), Look("above the scale", above)),
        (any(each.above for each in spreads), Look("above the spread's", theme.beyond_spread)),
    )
    masks = zip(*map(_masks, matrices), strict=True)
    nonfinite = [
        look
        for look, each in zip(_looks(theme), masks, strict=True)
        if any(mask.any() for mask in each)
    ]
    return [look for occurs, look in beyond if occurs] + nonfinite


def draw_legend(figure: Canvas, looks: Sequence[Look], theme: Theme) -> None:
    """Explain special cells in one line, in the :data:`LEGEND_HEIGHT` lowest pixels."""
    swatches, names, left = [], [], 0
    for look in looks:
        swatches.append(_swatch(look, left))
        left += _SWATCH + 6
        place = {"xref": "paper", "yref": "paper", "xshift": left, "yshift": _LOW + _SWATCH / 2}
        names.append(label(look.name, 0, 0, **place, colour=theme.sub, size=11))
        left += round(text_width(look.name, 11)) + _SPACE
    add_shapes(figure, swatches)
    add_labels(figure, names)


def _swatch(look: Look, left: int) -> dict[str, Any]:
    """A square with its pattern, placed in pixels."""
    right, high = left + _SWATCH, _LOW + _SWATCH
    strokes = [
        f"M{left + x0},{_LOW + y0}L{left + x1},{_LOW + y1}" for x0, y0, x1, y1 in look.strokes
    ]
    return {
        "type": "path",
        "path": f"M{left},{_LOW}H{right}V{high}H{left}Z{''.join(strokes)}",
        "fillcolor": look.ground,
        "line": {"width": 1.5 if look.strokes else 0, "color": look.lines},
        "xref": "paper",
        "yref": "paper",
        "xsizemode": "pixel",
        "ysizemode": "pixel",
        "xanchor": 0,
        "yanchor": 0,
    }
