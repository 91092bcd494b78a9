"""Values in another dtype, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["cast_values"]


def cast_values(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray | None:
    """The values in another dtype; None where that makes values that are no numbers."""
    wide = values.astype("f8") if values.dtype.kind == "V" else values
    is_integer = dtype.kind in "iu"
    if is_integer and not _fits_integers(wide, np.iinfo(dtype)):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.rint(wide) if is_integer and wide.dtype.kind == "f" else wide
        cast = np.asarray(rounded).astype(dtype)
    before = np.isfinite(wide.astype("f8"))
    after = np.isfinite(cast.astype("f8"))
    return cast if bool((before <= after).all()) else None


def _fits_integers(values: np.ndarray, limits: np.iinfo[Any]) -> bool:
    wide = values.astype("f8")
    # float64 has no 2^63 - 1: the comparison must be strict.
    return bool(
        np.isfinite(wide).all() and (wide >= limits.min).all() and (wide < limits.max + 1.0).all()
    )
