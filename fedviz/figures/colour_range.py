"""Colour scales with limits, whose ends have colours of their own for values beyond these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedviz.figures.colour import colourscale, symlog_colourscale
from fedviz.figures.theme import Theme

__all__ = ["ColourRange", "spread_range", "weights_range"]

Stops = Sequence[tuple[float, str]]

# An end's share of what lies between the limits: wide enough to be seen on the bar of the scale.
_END = 0.03

# A value at the limit is within it, also where float32 rounds it up.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class ColourRange:
    """Colours from ``low`` to ``high``, as plotly takes them."""

    stops: Stops
    low: float
    high: float

    @property
    def on_axis(self) -> dict[str, Any]:
        """Options of a ``coloraxis``, or of a ``marker``."""
        return {"colorscale": self.stops, "cmin": self.low, "cmax": self.high}

    @property
    def on_heatmap(self) -> dict[str, Any]:
        """Options of a heatmap."""
        return {"colorscale": self.stops, "zmin": self.low, "zmax": self.high}


def weights_range(limit: float, theme: Theme, *, is_symlog: bool = False) -> ColourRange:
    """Zero-centred colours from −limit to +limit, and one beyond each of these."""
    stops = symlog_colourscale(theme.diverging) if is_symlog else colourscale(theme.diverging)
    return _with_ends(stops, -limit, limit, *theme.beyond)


def spread_range(limit: float, theme: Theme) -> ColourRange:
    """Colours from 0 to limit, and one above it."""
    return _with_ends(colourscale(theme.sequential), 0.0, limit, None, theme.beyond_spread)


def _with_ends(stops: Stops, low: float, high: float, below: str | None, above: str) -> ColourRange:
    end, rounding = (high - low) * _END, (high - low) * _ROUNDING
    first, bottom = (low, low) if below is None else (low - end, low - rounding)
    last, top = high + end, high + rounding

    def place(share: float) -> float:
        return (bottom + share * (top - bottom) - first) / (last - first)

    lower = [] if below is None else [(0.0, below), (place(0), below)]
    upper = [(place(1), above), (1.0, above)]
    return ColourRange([*lower, *((place(at), c) for at, c in stops), *upper], first, last)
