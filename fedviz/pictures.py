"""Pictures of a dataset, each in one call: a notebook's way to what the dashboard draws."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

import plotly.graph_objects as go

from fedviz.analysis.before_after import BeforeAfter, HeatmapView, PanelValues, before_after
from fedviz.dataset import Round, WeightDataset, opened_dataset
from fedviz.errors import CohortError, InvalidArgumentError, UnknownNameError, located
from fedviz.figures.heatmaps import HeatmapPanel, heatmap_grid
from fedviz.figures.text import number, panel_title
from fedviz.figures.theme import DARK, LIGHT, Theme, client_colour

__all__ = ["heatmap", "heatmap_panels", "panel_colour"]

_THEMES = {"light": LIGHT, "dark": DARK}


def heatmap(
    dataset: WeightDataset | str | os.PathLike[str],
    tensor: str,
    round: int = -1,
    clients: str | Sequence[str] = (),
    *,
    aggregate: str | None = None,
    view: HeatmapView | None = None,
    symlog: bool = False,
    theme: Literal["light", "dark"] = "light",
    width: int = 1200,
) -> go.Figure:
    """One tensor before and after averaging: the server model, two clients, an aggregate.

    Vectors are strips, kernels of convolutions are tiled by filter; of other shapes
    ``HeatmapView.plane`` chooses two axes. More cells than can be seen are reduced to blocks;
    ``HeatmapView.window`` looks closer.

    Parameters
    ----------
    dataset : WeightDataset or path
    tensor : str
    round : int, default -1
        Number of the round; -1 is the last.
    clients : str or sequence of str, optional
        One or two clients that have this tensor; by default the first and the last of those with
        the dataset's signature.
    aggregate : str, optional
        Name of one of the round's aggregates; by default the newest, if there is one.
    view : HeatmapView, optional
        Which panels, which part of the tensor, and what scale.
    symlog : bool
        Whether the colours go with the logarithm of the values, beyond a hundredth of the limit.
    theme : {"light", "dark"}
    width : int
        Pixels that the figure is made for; it is drawn as wide as there is room.

    Returns
    -------
    plotly.graph_objects.Figure
        Of :func:`fedviz.figures.heatmaps.heatmap_grid`.

    Raises
    ------
    UnknownNameError
        There is no such round, tensor, client or aggregate.
    InvalidArgumentError
        More than two clients, an unknown theme, or a view that does not fit the tensor.
    CohortError
        The round has no clients with the dataset's signature, and none were named.
    """
    if theme not in _THEMES:
        raise InvalidArgumentError(f"theme: expected light or dark, found {theme}.")
    with opened_dataset(dataset) as opened:
        chosen = opened.round(round)
        _check_names(chosen, tensor, aggregate)
        values = before_after(
            chosen,
            tensor,
            _pair([clients] if isinstance(clients, str) else clients, chosen),
            aggregate or next(iter(reversed(list(chosen.aggregates))), None),
            view,
        )
        is_shared = view is None or view.is_shared
        panels = heatmap_panels(values, chosen, _THEMES[theme], is_shared=is_shared)
    return heatmap_grid(
        panels, values.limit, values.layout, _THEMES[theme], is_symlog=symlog, width=width
    )


def heatmap_panels(
    view: BeforeAfter, round_: Round, theme: Theme, *, is_shared: bool = True
) -> list[HeatmapPanel]:
    """The panels of a view with their titles and colours.

    Parameters
    ----------
    view : BeforeAfter
    round_ : Round
        Whose clients they are.
    theme : Theme
    is_shared : bool
        Whether all of them, but for a spread, have one scale.
    """
    return [
        HeatmapPanel(
            title=panel_title(panel.role, panel.client),
            colour=panel_colour(panel, round_, theme),
            matrix=panel.matrix,
            histogram=panel.histogram,
            subtitle=f"rms {number(panel.rms)}",
            magnification=panel.magnification,
            own_limit=panel.limit if panel.role == "spread" or not is_shared else None,
            is_spread=panel.role == "spread",
        )
        for panel in view.panels
    ]


def panel_colour(panel: PanelValues, round_: Round, theme: Theme) -> str:
    """The colour that stands for whose values a panel shows."""
    if panel.client:
        ids = [record.id for record in round_.records]
        return client_colour(theme, ids.index(panel.client))
    return {"server": theme.server, "spread": theme.faint}.get(panel.role, theme.aggregate)


def _check_names(round_: Round, tensor: str, aggregate: str | None) -> None:
    known = round_.dataset.signature.names
    for kind, name, there in (
        ("tensor", tensor, known),
        ("aggregate", aggregate, tuple(round_.aggregates)),
    ):
        if name is not None and name not in there:
            shown = ", ".join(there[:12]) + (" …" if len(there) > 12 else "")
            raise UnknownNameError(
                located(
                    f"there is no {kind} {name}; there are {shown or 'none'}",
                    file=round_.dataset.path,
                    round=round_.number,
                )
            )


def _pair(clients: Sequence[str], round_: Round) -> tuple[str, str]:
    if len(clients) > 2:
        raise InvalidArgumentError(f"clients: expected one or two, found {len(clients)}.")
    ids = list(clients) or [record.id for record in round_.conforming]
    if not ids:
        raise CohortError(
            located(
                "expected a client with the dataset's signature, found none; name one",
                file=round_.dataset.path,
                round=round_.number,
            )
        )
    return ids[0], ids[-1]
