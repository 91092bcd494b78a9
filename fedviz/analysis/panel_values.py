"""The panels of the heatmaps page in numbers: reduced cells, counts, and how the scale lies.

A large tensor goes by in bands, so that memory does not grow with it. What tells cells apart is
exact (counts beyond the scale, of NaN, of infinite values; extremes; sums of squares, in float64);
the percentile that the scale reaches to and the bars of the histogram are those of about a
quarter of a million cells in evenly spaced rows, of all where there are no more.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from fedviz.analysis.heatmap import Window
from fedviz.analysis.models import Models, Role
from fedviz.analysis.reduction import ReducedMatrix, Reduction, joined, reduce_by
from fedviz.analysis.scales import Histogram, histogram

__all__ = ["PanelSums", "read_panels", "sampled"]

_SAMPLE_CELLS, _SAMPLE_BANDS = 2**18, 8


@dataclass
class PanelSums:
    """What one pass over a panel's values found.

    ``squares`` is the sum over the finite cells, float64; ``pairs`` maps another role to the sum
    of its squares over the cells in which both are finite. ``furthest`` is the finite cell
    (row, column, value) furthest from zero.
    """

    matrix: ReducedMatrix
    finite: int = 0
    nan: int = 0
    positive_infinite: int = 0
    negative_infinite: int = 0
    below: int = 0
    above: int = 0
    squares: float = 0.0
    pairs: dict[Role, float] = field(default_factory=dict)
    furthest: tuple[int, int, float] | None = None

    @property
    def nonfinite(self) -> int:
        """Cells that are NaN or infinite."""
        return self.nan + self.positive_infinite + self.negative_infinite

    @property
    def rms(self) -> float:
        """Root mean square of the finite cells; NaN where there is none."""
        return float(np.sqrt(self.squares / self.finite)) if self.finite else float("nan")

    @property
    def extreme(self) -> float:
        """Magnitude of the finite value furthest from zero; 0 where there is none."""
        return abs(self.furthest[2]) if self.furthest else 0.0

    def histogram(self, sample: np.ndarray, limit: float, *, is_full: bool) -> Histogram:
        """Bars of the sample, between counts of everything."""
        bars = histogram(sample, limit)
        return replace(
            bars,
            below=0 if is_full else self.below,
            above=0 if is_full else self.above,
            nan=self.nan,
            positive_infinite=self.positive_infinite,
            negative_infinite=self.negative_infinite,
            finite=self.finite,
        )


def sampled(models: Models, roles: Sequence[Role], window: Window) -> dict[Role, np.ndarray]:
    """The finite values of each role in evenly spaced rows of a window; all where few."""
    top, bottom, left, right = window
    rows, columns = bottom - top, right - left
    if rows * columns <= _SAMPLE_CELLS or models.layout.region(slice(0, 1), slice(0, 1)) is None:
        found = models.matrices(roles, slice(top, bottom), slice(left, right))
        gap = models.layout.gap
        if gap is not None:
            gap = gap[top:bottom, left:right]
            found = {role: values[~gap] for role, values in found.items()}
    else:
        high = max(1, _SAMPLE_CELLS // columns // _SAMPLE_BANDS)
        starts = np.linspace(top, bottom - high, _SAMPLE_BANDS).round().astype(int).tolist()
        lines = [models.matrices(roles, slice(r, r + high), slice(left, right)) for r in starts]
        found = {role: np.concatenate([line[role] for line in lines]) for role in roles}
    return {role: values[np.isfinite(values)] for role, values in found.items()}


def read_panels(
    models: Models,
    window: Window,
    steps: tuple[int, int],
    how: Reduction,
    limits: Mapping[Role, float],
    pairs: Sequence[tuple[Role, Role]] = (),
) -> dict[Role, PanelSums]:
    """Read a window of each role once.

    Parameters
    ----------
    models : Models
    window : Window
    steps : (int, int)
        Rows and columns of a block that becomes one cell.
    how : {"mean", "signed-extreme"}
    limits : mapping of role to float
        Which roles, and from where on values count as clipped.
    pairs : sequence of (role, role)
        Differences, and the role whose squares are summed where the difference is finite.
    """
    roles = list(limits)
    gap = models.layout.gap

    def tasks() -> Iterator[tuple[dict[Role, np.ndarray], slice, slice]]:
        for rows, columns in models.bands(window, steps[0]):
            yield models.matrices(roles, rows, columns), rows, columns

    def work(task: tuple[dict[Role, np.ndarray], slice, slice]) -> dict[Role, PanelSums]:
        matrices, rows, columns = task
        hidden = None if gap is None else gap[rows, columns]
        origin = (rows.start, columns.start)
        found = {
            role: _sums(matrices[role], steps, how, limits[role], hidden, origin) for role in roles
        }
        for difference, base in pairs:
            both = np.isfinite(matrices[difference])
            is_whole = found[difference].finite == matrices[difference].size
            values = matrices[base] if is_whole else matrices[base][both]
            found[difference].pairs[base] = _squares(values)
        return found

    parts = list(_in_parallel(work, tasks()))
    return {role: _together([part[role] for part in parts]) for role in roles} if parts else {}


def _in_parallel(work, tasks: Iterable) -> Iterator:  # type: ignore[no-untyped-def]
    """Results in order; only a few tasks are in memory at a time."""
    workers = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future] = deque()
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _sums(
    values: np.ndarray,
    steps: tuple[int, int],
    how: Reduction,
    limit: float,
    gap: np.ndarray | None,
    origin: tuple[int, int],
) -> PanelSums:
    matrix = reduce_by(values, steps, how, gap=gap, origin=origin)
    present = values if gap is None else values[~gap]
    finite, nan, positive = present, 0, 0
    if gap is not None or matrix.nonfinite.any():
        finite = present[np.isfinite(present)]
        nan, positive = int(np.isnan(present).sum()), int((present == np.inf).sum())
    return PanelSums(
        matrix,
        finite.size,
        nan,
        positive,
        present.size - finite.size - nan - positive,
        int(np.count_nonzero(finite < -limit)),
        int(np.count_nonzero(finite > limit)),
        _squares(finite),
        furthest=_furthest(values, finite, gap, origin),
    )


def _furthest(
    values: np.ndarray, finite: np.ndarray, gap: np.ndarray | None, origin: tuple[int, int]
) -> tuple[int, int, float] | None:
    if not finite.size:
        return None
    if gap is None and finite.size == values.size:
        high, low = int(values.argmax()), int(values.argmin())
        flat = values.reshape(-1)
        place = high if flat[high] >= -flat[low] else low
        if flat[high] == -flat[low]:
            place = min(high, low)
    else:
        hidden = ~np.isfinite(values) if gap is None else ~np.isfinite(values) | gap
        place = int(np.argmax(np.where(hidden, -1.0, np.abs(values))))
    row, column = divmod(place, values.shape[1])
    return origin[0] + row, origin[1] + column, float(values[row, column])


def _squares(values: np.ndarray) -> float:
    wide = values.astype("f8").reshape(-1)
    # Not with @: BLAS would start threads of its own beside ours.
    return float(np.einsum("i,i->", wide, wide))


def _together(parts: list[PanelSums]) -> PanelSums:
    found = [part.furthest for part in parts if part.furthest]
    return PanelSums(
        joined([part.matrix for part in parts]),
        sum(part.finite for part in parts),
        sum(part.nan for part in parts),
        sum(part.positive_infinite for part in parts),
        sum(part.negative_infinite for part in parts),
        sum(part.below for part in parts),
        sum(part.above for part in parts),
        sum(part.squares for part in parts),
        {role: sum(part.pairs[role] for part in parts) for role in parts[0].pairs},
        max(found, key=lambda cell: abs(cell[2])) if found else None,
    )
