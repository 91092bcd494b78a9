"""One tensor before and after averaging: what the heatmaps page shows, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedviz.analysis.heatmap import (
    Histogram,
    MatrixLayout,
    ReducedMatrix,
    as_matrix,
    furthest_cell,
    histogram,
    layout_for,
    magnification,
    reduce_cells,
    shared_limit,
)
from fedviz.analysis.statistics import contributions, relative_distance, rms
from fedviz.dataset import Round

__all__ = ["BeforeAfter", "CellStory", "PanelValues", "before_after", "cell_story"]

_MOST_CELLS = 256
"""Cells a side of each panel: six of them are one page."""


@dataclass(frozen=True, eq=False)
class PanelValues:
    """One panel: what it shows, and how.

    ``role`` is ``server``, ``client``, ``aggregate``, ``client-aggregate`` or
    ``aggregate-server``; ``client`` is the client's id where it is about one.
    """

    role: str
    client: str
    matrix: ReducedMatrix
    histogram: Histogram
    rms: float
    magnification: int = 1


@dataclass(frozen=True, eq=False)
class BeforeAfter:
    """One tensor of a round, of two clients, and of an aggregate, on one scale.

    Attributes
    ----------
    layout : MatrixLayout
    limit : float
        The scale of the weights reaches from −limit to +limit.
    panels : tuple of PanelValues
    moved : float
        ‖aggregate − server‖ / ‖server‖, NaN without one of them.
    distances : tuple of float
        ‖client − aggregate‖ / ‖aggregate‖ of both clients.
    nonfinite : tuple of int
        NaN and infinite cells of both clients.
    most_moved : tuple of int, or None
        Index in the tensor of the cell that averaging moved most; of the largest value where
        there is no aggregate.
    """

    layout: MatrixLayout
    limit: float
    panels: tuple[PanelValues, ...]
    moved: float
    distances: tuple[float, float]
    nonfinite: tuple[int, int]
    most_moved: tuple[int, ...] | None


def before_after(
    round_: Round,
    tensor: str,
    clients: tuple[str, str],
    aggregate: str | None,
    *,
    percentile: float = 99.5,
    magnified: bool = True,
) -> BeforeAfter:
    """Read one tensor of all the models that are compared, and lay it out.

    Parameters
    ----------
    round_ : Round
    tensor : str
        A tensor of the dataset's signature.
    clients : (str, str)
        Two clients that have it; the same twice is one panel.
    aggregate : str, optional
        Name of an aggregate of the round.
    percentile : float
        Of the absolute weights that the scale reaches to; 100 is the full range.
    magnified : bool
        Whether differences are multiplied by a power of two, so that they can be seen.
    """
    layout = layout_for(round_.dataset.signature[tensor].shape, tensor)
    weights = _weights(round_, tensor, clients, aggregate)
    matrices = {key: as_matrix(array, layout) for key, array in weights.items()}
    limit = _rounded(shared_limit([_values(m, layout) for m in matrices.values()], percentile))
    with np.errstate(invalid="ignore"):
        differences = _differences(matrices, clients[0])
    factor = magnification(limit, differences.values()) if magnified and differences else 1
    panels = [_panel(key, m, layout, limit, 1) for key, m in matrices.items()]
    panels += [_panel(key, m, layout, limit, factor) for key, m in differences.items()]
    chosen = [weights["client", client] for client in clients]
    mean, server = weights.get(("aggregate", "")), weights.get(("server", ""))
    nan = float("nan")
    return BeforeAfter(
        layout,
        limit,
        tuple(panels),
        moved=nan if mean is None or server is None else relative_distance(mean, server),
        distances=tuple(nan if mean is None else relative_distance(c, mean) for c in chosen),  # type: ignore[arg-type]
        nonfinite=tuple(int((~np.isfinite(c)).sum()) for c in chosen),  # type: ignore[arg-type]
        most_moved=_most_moved(matrices, differences, layout),
    )


_Key = tuple[str, str]


def _weights(
    round_: Round, tensor: str, clients: tuple[str, str], aggregate: str | None
) -> dict[_Key, np.ndarray]:
    found: dict[_Key, np.ndarray] = {}
    if round_.server is not None:
        found["server", ""] = round_.server[tensor]
    for client in clients:
        found["client", client] = round_.clients[client][tensor]
    if aggregate is not None:
        found["aggregate", ""] = round_.aggregates[aggregate][tensor]
    return found


def _differences(matrices: Mapping[_Key, np.ndarray], client: str) -> dict[_Key, np.ndarray]:
    mean, server = matrices.get(("aggregate", "")), matrices.get(("server", ""))
    differences: dict[_Key, np.ndarray] = {}
    if mean is not None:
        differences["client-aggregate", client] = matrices["client", client] - mean
    if mean is not None and server is not None:
        differences["aggregate-server", ""] = mean - server
    elif server is not None:
        differences["client-server", client] = matrices["client", client] - server
    return differences


def _values(matrix: np.ndarray, layout: MatrixLayout) -> np.ndarray:
    return matrix if layout.gap is None else matrix[~layout.gap]


def _panel(
    key: _Key, matrix: np.ndarray, layout: MatrixLayout, limit: float, factor: int
) -> PanelValues:
    return PanelValues(
        *key,
        matrix=reduce_cells(matrix, _MOST_CELLS, "signed-extreme", gap=layout.gap),
        histogram=histogram(matrix, limit / factor, gap=layout.gap),
        rms=rms(_values(matrix, layout)),
        magnification=factor,
    )


def _rounded(limit: float) -> float:
    """Two digits, rounded up: a scale that can be read and clips no more than it says."""
    step = 10.0 ** (np.floor(np.log10(limit)) - 1)
    return float(f"{np.ceil(limit / step - 1e-9) * step:.2g}")


def _most_moved(
    matrices: Mapping[_Key, np.ndarray],
    differences: Mapping[_Key, np.ndarray],
    layout: MatrixLayout,
) -> tuple[int, ...] | None:
    candidates = [differences.get(("aggregate-server", "")), *matrices.values()]
    cell = next((furthest_cell(m) for m in candidates if m is not None), None)
    return None if cell is None else layout.index_at(*cell)


@dataclass(frozen=True, eq=False)
class CellStory:
    """One cell: its value in every model, and which client moved it.

    ``contributions`` is float64 of shape (conforming clients,), NaN throughout without a server
    model; together with the clients that were left out they are the mean's move.
    """

    index: tuple[int, ...]
    values: tuple[tuple[str, float], ...]
    clients: tuple[str, ...]
    contributions: np.ndarray
    total: float


def cell_story(
    round_: Round,
    tensor: str,
    index: tuple[int, ...],
    clients: tuple[str, str],
    aggregate: str | None,
) -> CellStory:
    """Follow one cell of a tensor through the round.

    The shares are those of the aggregate's weighting, by ``num_examples`` unless it is uniform.
    """
    weights = _weights(round_, tensor, clients, aggregate)
    values = [(" ".join(filter(None, key)), float(w[index])) for key, w in weights.items()]
    weighting = round_.aggregates[aggregate].weighting if aggregate else "num_examples"
    moved = contributions(round_, tensor, index, _shares(round_, weighting))
    if round_.server is None:
        moved = np.full(moved.shape, np.nan)
    ids = tuple(record.id for record in round_.conforming)
    return CellStory(index, tuple(values), ids, moved, float(moved.sum()))


def _shares(round_: Round, weighting: str) -> np.ndarray:
    records = round_.conforming
    examples = np.array([float(r.num_examples or 0) for r in records])
    weights = examples if weighting == "num_examples" and examples.sum() else np.ones(len(records))
    return weights / max(1.0, weights.sum())
