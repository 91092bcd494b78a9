"""The order in which people count: client2 before client10."""

from __future__ import annotations

import re

__all__ = ["natural_key"]

_DIGITS = re.compile(r"([0-9]+)")


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key for sorting in which runs of digits count as numbers.

    >>> sorted(["client10.h5", "client2.h5"], key=natural_key)
    ['client2.h5', 'client10.h5']
    """
    parts = _DIGITS.split(text)
    # A number with more digits is larger; text decides between "01" and "1".
    keys = [
        (1, len(part.lstrip("0")), part.lstrip("0")) if i % 2 else (0, 0, part)
        for i, part in enumerate(parts)
    ]
    return (*keys, (0, 0, text))
