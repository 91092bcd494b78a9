"""How long work reports how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Progress", "ProgressCallback", "silent"]


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` steps are behind us; ``message`` says what comes next."""

    done: int
    total: int
    message: str

    @property
    def fraction(self) -> float:
        """Share of the work that is done, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 1.0


ProgressCallback = Callable[[Progress], None]
"""Called at every step. It may raise ``JobCancelledError``: the work stops, nothing is written."""


def silent(progress: Progress) -> None:
    """The callback of those who do not watch."""
