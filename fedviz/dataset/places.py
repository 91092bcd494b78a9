"""A dataset's file and what lies where in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FileIdentity", "StackedTensor"]


@dataclass(frozen=True)
class FileIdentity:
    """What tells one state of a file from another: the key of every cache."""

    path: str
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        """The identity of the file as it is now."""
        status = path.stat()
        return cls(str(path), status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class StackedTensor:
    """Where one tensor of all conforming clients lies, for those who map it into memory.

    ``offset`` is the byte in the file at which the first client's values begin, a multiple of
    4,096; None where the values are not one contiguous block. ``shape`` is (clients, …).
    """

    path: Path
    offset: int | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def contiguous(self) -> bool:
        """Whether all values lie in one piece."""
        return self.offset is not None
