"""Rows of small images, one row for each client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fedviz.figures.layout import add_labels, blank_figure, label, text_width
from fedviz.figures.text import escaped, middle_ellipsis
from fedviz.figures.theme import Theme

__all__ = ["image_mosaic_figure"]

_ROW = 38
_GAP = 1
_ROW_GAP = 3


def image_mosaic_figure(
    images: NDArray[Any],
    client_ids: Sequence[str],
    notes: Sequence[str],
    theme: Theme,
) -> go.Figure:
    """Each client's images side by side, with a note at the end of the row.

    Parameters
    ----------
    images : ndarray of shape (clients, count, height, width)
        0 (the page's inset colour) to 1 (ink).
    client_ids, notes : sequence of str
        Plain text, one for each client.
    theme : Theme

    Returns
    -------
    Figure
        One heatmap; NaN between the images.
    """
    clients, count, height, width = images.shape
    names = [middle_ellipsis(client, 14) for client in client_ids]
    canvas = np.full((clients, height + _ROW_GAP, count, width + _GAP), np.nan, np.float32)
    canvas[:, :height, :, :width] = images.transpose(0, 2, 1, 3)
    cells = canvas.reshape(clients * (height + _ROW_GAP), count * (width + _GAP))
    figure = blank_figure(
        theme,
        clients * _ROW + 8,
        l=16 + max((text_width(name, 13) for name in names), default=0.0),
        r=16 + max((text_width(note, 13) for note in notes), default=0.0),
        t=4,
        b=4,
    )
    figure.add_heatmap(
        z=cells,
        zmin=0,
        zmax=1,
        colorscale=[[0, theme.panel], [1, theme.ink]],
        showscale=False,
        hoverinfo="skip",
        hoverongaps=False,
    )
    middles = [i * (height + _ROW_GAP) + (height - 1) / 2 for i in range(clients)]
    figure.update_xaxes(visible=False, range=[-0.5, cells.shape[1] - _GAP - 0.5])
    figure.update_yaxes(
        range=[cells.shape[0] - _ROW_GAP - 0.5 + 1, -1.5],
        tickvals=middles,
        ticktext=[escaped(name) for name in names],
        showgrid=False,
        tickfont={"size": 13, "color": theme.ink},
    )
    add_labels(
        figure,
        [
            label(escaped(note), 1, middle, xref="paper", xshift=8, colour=theme.sub, size=13)
            for note, middle in zip(notes, middles, strict=True)
        ],
    )
    return figure
