"""Uploaded files of an import, kept on the disk until somebody takes them over."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from fedviz.dashboard.folders import data_folder, harmless
from fedviz.errors import storage_errors

__all__ = ["KeptUploads", "Upload"]

# A name that says nothing of clients: a random one might happen to look like a number of examples.
_INNER = "uploaded"
_MOST_STEPS = 8


class Upload(Protocol):
    """What Streamlit hands out for an uploaded file; of a folder's, ``name`` is the path."""

    @property
    def name(self) -> str:
        """As the browser says it."""

    def getbuffer(self) -> memoryview:
        """The content."""


class KeptUploads:
    """Uploaded clients' files in a folder of their own.

    It goes with this object, and so with the visitor's session, unless :meth:`release` leaves it
    to an import. Names, which become the clients' ids, are reduced to harmless ones and made
    different.

    Parameters
    ----------
    uploads : sequence of Upload
        At least one; hidden files of a folder are passed over.

    Attributes
    ----------
    folder : Path
        Where they are.
    files : tuple of Path
        What is to be imported: the files, or the folder that was uploaded.
    """

    def __init__(self, uploads: Sequence[Upload]) -> None:
        parent = data_folder() / "uploads"
        with storage_errors(parent, "write"):
            parent.mkdir(exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix="import-", dir=parent))
            self._removal = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
            self.files = tuple(self._written(self.folder / _INNER, uploads))

    def _written(self, root: Path, uploads: Sequence[Upload]) -> list[Path]:
        root.mkdir()
        taken: set[Path] = set()
        for steps, upload in _named(uploads):
            target = root.joinpath(*steps)
            while target in taken:
                target = target.with_name(f"{len(taken)}-{target.name}")
            taken.add(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(upload.getbuffer())
        return sorted(root.iterdir())

    def release(self) -> None:
        """Leave the folder to somebody who removes it."""
        self._removal.detach()

    def remove(self) -> None:
        """Remove the folder now."""
        self._removal()


def _named(uploads: Sequence[Upload]) -> Iterator[tuple[list[str], Upload]]:
    """The steps of each upload's harmless path."""
    for upload in uploads:
        path = PurePosixPath(upload.name.replace("\\", "/"))
        steps = [step for step in path.parts if step not in ("/", "..")][-_MOST_STEPS:]
        if not _is_hidden(steps):
            yield [harmless(step) for step in steps] or ["client"], upload


def _is_hidden(steps: Sequence[str]) -> bool:
    """Of a folder, such as .DS_Store or __MACOSX; a file that was named itself is meant."""
    return len(steps) > 1 and any(step.startswith((".", "__")) for step in steps)
