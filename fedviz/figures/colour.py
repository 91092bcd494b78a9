"""Arithmetic on colours: contrast, mixing, and reading a colour scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = [
    "INK",
    "SYMLOG_LINEAR",
    "WHITE",
    "blend",
    "colour_at",
    "colourscale",
    "contrast_ratio",
    "readable_on",
    "symlog_colourscale",
    "symlog_place",
]

SYMLOG_LINEAR = 0.01
"""A symmetric logarithmic scale is linear up to this share of its limit."""

INK = "#1B2126"
WHITE = "#FFFFFF"


def contrast_ratio(one: str, other: str) -> float:
    """Contrast of two colours, from 1 (the same) to 21 (black on white).

    Parameters
    ----------
    one, other : str
        Colours as ``#RRGGBB``.

    References
    ----------
    Web Content Accessibility Guidelines 2.1, "contrast ratio" and "relative luminance".
    """
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def readable_on(colour: str) -> str:
    """Ink or white, the one that contrasts more with ``colour``; at least 4.5:1.

    On a few mid greys neither does, and black takes the place of ink.
    """
    best = max((INK, WHITE), key=lambda text: contrast_ratio(text, colour))
    return best if contrast_ratio(best, colour) >= 4.5 else _furthest(colour)


def blend(colour: str, share: float, other: str) -> str:
    """``share`` of one colour mixed with the rest of another.

    >>> blend("#FFFFFF", 0.25, "#000000")
    '#404040'
    """
    pairs = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02X}" for a, b in pairs)


def _furthest(colour: str) -> str:
    return max(("#000000", WHITE), key=lambda text: contrast_ratio(text, colour))


def colour_at(stops: Sequence[str], fraction: float) -> str:
    """The colour of an even scale at ``fraction``, which is held within 0 and 1."""
    place = min(1.0, max(0.0, fraction)) * (len(stops) - 1)
    left = min(int(place), len(stops) - 2)
    return blend(stops[left + 1], place - left, stops[left])


def colourscale(stops: Sequence[str]) -> list[tuple[float, str]]:
    """Even stops as plotly takes a colour scale."""
    return [(i / (len(stops) - 1), stop) for i, stop in enumerate(stops)]


def symlog_place(share: float) -> float:
    """Where a value lies on a symmetric logarithmic scale, both as shares of the limit, signed."""
    reach = math.log1p(abs(share) / SYMLOG_LINEAR) / math.log1p(1 / SYMLOG_LINEAR)
    return math.copysign(reach, share)


def symlog_colourscale(stops: Sequence[str], each_side: int = 24) -> list[tuple[float, str]]:
    """A zero-centred scale whose colours go with the logarithm, for values that stay as they are.

    Hovering tells the true value, and a panel weighs no more than on a linear scale.
    """
    scale = []
    for i in range(-each_side, each_side + 1):
        place = i / each_side
        share = SYMLOG_LINEAR * math.expm1(abs(place) * math.log1p(1 / SYMLOG_LINEAR))
        value = min(1.0, max(0.0, 0.5 + math.copysign(share, place) / 2)) if i else 0.5
        scale.append((value, colour_at(stops, (place + 1) / 2)))
    return [(0.0, scale[0][1]), *scale[1:-1], (1.0, scale[-1][1])]


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(colour: str) -> float:
    red, green, blue = (_linear(channel / 255) for channel in _channels(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
