"""One tensor before and after averaging: what the heatmaps page shows, in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedviz.analysis.heatmap import MatrixLayout, Plane, Window, layout_for
from fedviz.analysis.models import Models, Role
from fedviz.analysis.panel_values import PanelSums, read_panels, sampled
from fedviz.analysis.reduction import ReducedMatrix, Reduction, block_steps
from fedviz.analysis.scales import Histogram, magnification_for, shared_limit
from fedviz.dataset import Round
from fedviz.errors import InvalidArgumentError

__all__ = ["BeforeAfter", "HeatmapView", "PanelValues", "before_after", "whole_window"]

_FEW, _FEW_REDUCED, _MANY, _MANY_REDUCED = 512, 376, 320, 256
"""Cells a side, drawn whole and reduced: of one or two panels, and of each of more."""

_MOST_CELLS = _FEW_REDUCED**2
"""Of a panel, so that it weighs no more than 1.1 MB, as text too: four bytes a cell, and one more
where many are not finite, in base64, in which plotly writes each slash with six letters."""

_FACTS: tuple[tuple[Role, Role], ...] = (
    ("aggregate-server", "server"),
    ("client-aggregate", "aggregate"),
    ("other-aggregate", "aggregate"),
)


@dataclass(frozen=True)
class HeatmapView:
    """What is drawn, and how: one part of the selection that all pages share.

    Parameters
    ----------
    roles : tuple of Role, optional
        Panels, in the order of ``ROLES``; by default the usual six.
    window : Window, optional
        Of the matrix; all of it by default.
    how : {"signed-extreme", "mean"}
        What a cell shows that stands for several values.
    percentile : float
        Of the absolute weights that the scale reaches to; 100 is the full range.
    limit : float, optional
        The scale reaches to this value instead.
    is_shared : bool
        Whether all panels have one scale; else each has its own.
    is_magnified : bool
        On a shared scale: whether differences are multiplied by a power of two, to be seen.
    plane : Plane, optional
        Two axes of the tensor that are drawn, and where the others are held.
    """

    roles: tuple[Role, ...] | None = None
    window: Window | None = None
    how: Reduction = "signed-extreme"
    percentile: float = 99.5
    limit: float | None = None
    is_shared: bool = True
    is_magnified: bool = True
    plane: Plane | None = None


@dataclass(frozen=True, eq=False)
class PanelValues:
    """One panel: what it shows, and how.

    ``client`` is the client's id where it is about one. ``limit`` is how far its own colours reach:
    the shared limit over the magnification, or its own. A spread is never negative.
    """

    role: Role
    client: str
    matrix: ReducedMatrix
    histogram: Histogram
    rms: float
    limit: float
    magnification: int = 1


@dataclass(frozen=True, eq=False)
class BeforeAfter:
    """One tensor of a round, of two clients, and of an aggregate.

    Attributes
    ----------
    layout : MatrixLayout
    window : Window
        The part of the matrix that is drawn.
    limit : float
        The scale of the weights reaches from −limit to +limit.
    panels : tuple of PanelValues
    moved : float
        ‖aggregate − server‖ / ‖server‖ in the window, NaN without one of them.
    distances : tuple of float
        ‖client − aggregate‖ / ‖aggregate‖ of both clients.
    nonfinite : tuple of int
        NaN and infinite cells of both clients.
    most_moved : tuple of int, or None
        Index in the tensor of the cell that averaging moved most; of the largest value where
        there is no aggregate.
    limits : mapping of role to float
        How far the colours of each role reach.
    factor : int
        By which differences are magnified.
    """

    layout: MatrixLayout
    window: Window
    limit: float
    panels: tuple[PanelValues, ...]
    moved: float
    distances: tuple[float, float]
    nonfinite: tuple[int, int]
    most_moved: tuple[int, ...] | None
    limits: Mapping[Role, float]
    factor: int

    @property
    def is_whole(self) -> bool:
        """Whether all of the matrix is in view."""
        return self.window == whole_window(self.layout)


def whole_window(layout: MatrixLayout) -> Window:
    """The window that is the whole matrix."""
    return (0, layout.shape[0], 0, layout.shape[1])


def before_after(
    round_: Round,
    tensor: str,
    clients: tuple[str, str],
    aggregate: str | None,
    view: HeatmapView | None = None,
    whole: BeforeAfter | None = None,
) -> BeforeAfter:
    """Read one tensor of all the models that are compared, lay it out and reduce it.

    Parameters
    ----------
    round_ : Round
    tensor : str
        A tensor of the dataset's signature.
    clients : (str, str)
        Two clients that have it; the same twice is one panel.
    aggregate : str, optional
        Name of an aggregate of the round.
    view : HeatmapView, optional
    whole : BeforeAfter, optional
        The same without a window: a window keeps its colours. Found where it is not given.

    Raises
    ------
    InvalidArgumentError
        The window is not within the matrix, the plane is not the tensor's, or the limit is not a
        number above 0.
    """
    view = view or HeatmapView()
    layout = layout_for(round_.dataset.signature[tensor].shape, tensor, plane=view.plane)
    window = _checked(view, layout)
    models = Models(round_, tensor, layout, clients, aggregate)
    roles = models.available(view.roles)
    pairs = [(d, b) for d, b in _FACTS if all(p in models.weights for p in d.split("-"))]
    everything = tuple(dict.fromkeys([*roles, *models.weights, *(d for d, _ in pairs)]))
    sample = sampled(models, everything, window)
    if window == whole_window(layout):
        limits, factor = _limits(models, view, sample, everything, window)
    else:
        whole = whole or before_after(
            round_, tensor, clients, aggregate, replace(view, window=None)
        )
        limits, factor = dict(whole.limits), whole.factor
    steps = _steps(window, len(roles))
    sums = read_panels(
        models, window, steps, view.how, {role: limits[role] for role in everything}, pairs
    )
    is_full = view.percentile == 100 and view.limit is None
    panels = [
        _panel(models, role, sums[role], sample[role], limits, factor, is_full) for role in roles
    ]
    return BeforeAfter(
        layout,
        window,
        limits["client"],
        tuple(panels),
        moved=_relative(sums, "aggregate-server", "server"),
        distances=_distances(sums),
        nonfinite=(_nonfinite(sums, "client"), _nonfinite(sums, "other")),
        most_moved=_most_moved(sums, layout),
        limits=limits,
        factor=factor,
    )


def _checked(view: HeatmapView, layout: MatrixLayout) -> Window:
    if view.limit is not None and not 0 < view.limit < np.inf:
        raise InvalidArgumentError(f"expected a limit above 0, found {view.limit}")
    if view.window is None:
        return whole_window(layout)
    top, bottom, left, right = view.window
    if not (0 <= top < bottom <= layout.shape[0] and 0 <= left < right <= layout.shape[1]):
        raise InvalidArgumentError(
            f"the window {list(view.window)} is not within {layout.shape[0]} × "
            f"{layout.shape[1]} cells"
        )
    return view.window


def _steps(window: Window, count: int) -> tuple[int, int]:
    extent = (window[1] - window[0], window[3] - window[2])
    most, reduced = (_FEW, _FEW_REDUCED) if count <= 2 else (_MANY, _MANY_REDUCED)
    if max(extent) > most:
        return block_steps(extent, reduced)
    return (1, 2) if extent[0] * extent[1] > _MOST_CELLS else (1, 1)


def _limits(
    models: Models,
    view: HeatmapView,
    sample: Mapping[Role, np.ndarray],
    roles: Sequence[Role],
    window: Window,
) -> tuple[dict[Role, float], int]:
    """How far the colours of each role reach, and by how much differences are magnified."""
    if view.percentile == 100 and view.limit is None:
        sums = read_panels(models, window, (1, 1), view.how, dict.fromkeys(roles, np.inf))
        sample = {role: np.array([sums[role].extreme]) for role in roles}
    own = {role for role in roles if role == "spread" or not view.is_shared}
    if view.limit is not None and not view.is_shared:
        return dict.fromkeys(roles, view.limit), 1
    reach = {role: _rounded(shared_limit([sample[role]], view.percentile)) for role in own}
    shared = _rounded(shared_limit([sample[role] for role in models.weights], view.percentile))
    shared = shared if view.limit is None else view.limit
    differences = [sample[role] for role in roles if "-" in role]
    magnified = view.is_magnified and view.is_shared and differences
    factor = magnification_for(shared, shared_limit(differences)) if magnified else 1
    shared_by = {role: shared / factor if "-" in role else shared for role in roles}
    return shared_by | reach, factor


def _panel(
    models: Models,
    role: Role,
    sums: PanelSums,
    sample: np.ndarray,
    limits: Mapping[Role, float],
    factor: int,
    is_full: bool,
) -> PanelValues:
    return PanelValues(
        role,
        models.client_of(role),
        sums.matrix,
        sums.histogram(sample, limits[role], is_full=is_full),
        sums.rms,
        limits[role],
        factor if "-" in role else 1,
    )


def _relative(sums: Mapping[Role, PanelSums], difference: Role, base: Role) -> float:
    found = sums.get(difference)
    if found is None or not found.pairs.get(base):
        return float("nan")
    return float(np.sqrt(found.squares / found.pairs[base]))


def _distances(sums: Mapping[Role, PanelSums]) -> tuple[float, float]:
    first = _relative(sums, "client-aggregate", "aggregate")
    if "other" not in sums:
        return first, first
    return first, _relative(sums, "other-aggregate", "aggregate")


def _nonfinite(sums: Mapping[Role, PanelSums], role: Role) -> int:
    found = sums.get(role, sums["client"])
    return found.nonfinite


def _rounded(limit: float) -> float:
    """Two digits, rounded up: a scale that can be read and clips no more than it says."""
    step = 10.0 ** (np.floor(np.log10(limit)) - 1)
    return float(f"{np.ceil(limit / step - 1e-9) * step:.2g}")


def _most_moved(sums: Mapping[Role, PanelSums], layout: MatrixLayout) -> tuple[int, ...] | None:
    candidates: tuple[Role, ...] = ("aggregate-server", "server", "client")
    role = next(role for role in candidates if role in sums)
    cell = sums[role].furthest
    return None if cell is None else layout.index_at(cell[0], cell[1])
