from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedviz.importers.reading import open_weights


@dataclass(frozen=True)
class Opened:
    """What an importer found, read whole."""

    format: str
    arrays: dict[str, np.ndarray]
    took: dict[str, str]
    left_out: dict[str, str]
    notes: tuple[str, ...]
    trainable: list[bool | None]

    @property
    def names(self) -> list[str]:
        return list(self.arrays)


def opened(path: Path) -> Opened:
    with open_weights(path) as found:
        return Opened(
            str(found.format),
            {name: found.weights[name] for name in found.weights},
            {taken.source: taken.tensor for taken in found.took},
            {item.source: item.reason for item in found.left_out},
            found.notes,
            [spec.trainable for spec in found.signature],
        )
