"""What Python's search for garbage has to look at."""

from __future__ import annotations

import gc
import sys

__all__ = ["set_modules_aside"]

_set_aside = 0


def set_modules_aside() -> None:
    """Leave what modules consist of out of all searches from now on; call it after each run.

    Streamlit has Python search all objects after each run of a script, 0.1 s in which no other
    script runs. Nearly all of them belong to modules, which stay. (What else there is at this
    moment stays too if it becomes garbage in a circle: once for each time that a page has loaded
    modules.)
    """
    global _set_aside  # noqa: PLW0603
    if len(sys.modules) > _set_aside:
        _set_aside = len(sys.modules)
        gc.collect()
        gc.freeze()
