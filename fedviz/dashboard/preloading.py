"""Loading the dashboard's modules before somebody visits."""

from __future__ import annotations

import importlib
import pkgutil
import threading

import fedviz.dashboard

__all__ = ["start", "wait"]

_thread: threading.Thread | None = None


def start() -> None:
    """Load them in a thread, while the server starts and a browser fetches its scripts.

    They take half of a first visitor's time: plotly, pandas and what draws.
    """
    global _thread  # noqa: PLW0603
    _thread = threading.Thread(target=_load, name="fedviz-preloading", daemon=True)
    _thread.start()


def wait() -> None:
    """Wait until they are loaded, if that has begun.

    Two threads must not load modules that need each other: Python then hands one of them a module
    that is half made.
    """
    if _thread is not None:
        _thread.join()


def _load() -> None:
    names = [module.name for module in pkgutil.iter_modules(fedviz.dashboard.__path__)]
    try:
        for name in sorted(set(names) - {"__main__"}):
            importlib.import_module(f"{fedviz.dashboard.__name__}.{name}")
    except ImportError:
        # Who visits is told, by the page that needs it.
        return
