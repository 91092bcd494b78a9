"""Files that appear complete or not at all, and are written by one process at a time."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import filelock

from fedviz.errors import LockedFileError, storage_errors

__all__ = [
    "complete_or_absent",
    "copy_content",
    "flush_to_disk",
    "sole_writer",
    "temporary_beside",
]


@contextlib.contextmanager
def complete_or_absent(path: Path) -> Iterator[Path]:
    """A name to write under, in a folder of its own; the file then takes the name it is meant for.

    The temporary name has the same ending, which some libraries choose the format by.
    """
    with (
        storage_errors(path, "write"),
        tempfile.TemporaryDirectory(prefix=".fedviz-", dir=path.parent) as folder,
    ):
        temporary = Path(folder) / path.name
        yield temporary
        temporary.replace(path)


@contextlib.contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Hold the lock of a dataset; it lies beside the file while the file is being written.

    Raises
    ------
    LockedFileError
        Another process holds it.
    """
    lock_path = path.with_name(f".{path.name}.lock")
    lock = filelock.FileLock(lock_path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise LockedFileError(
            f"{path.name} is locked: another process is writing it. Wait until it is done, "
            "or end it."
        ) from error
    try:
        yield
    finally:
        # Whoever opened this very file before it was unlinked finds that it has no name any more
        # and starts over.
        lock_path.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A name to write under. What a killed writer left of its own is removed first."""
    prefix = f".{path.name}."
    for left in path.parent.glob(f"{_escaped(prefix)}*.partial"):
        left.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=".partial", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    temporary.chmod(_mode_for(path))
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _escaped(prefix: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", prefix)


def _mode_for(path: Path) -> int:
    """Permissions of the file that is replaced, or what a new file would get."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def copy_content(source: Path, target: Path) -> None:
    """Copy a file's content; shares the blocks where the file system can."""
    with source.open("rb") as src, target.open("wb") as dst:
        remaining = os.fstat(src.fileno()).st_size
        try:
            while remaining:
                copied = os.copy_file_range(src.fileno(), dst.fileno(), remaining)
                if copied == 0:
                    break
                remaining -= copied
        except OSError:
            src.seek(0)
            dst.seek(0)
            dst.truncate()
            shutil.copyfileobj(src, dst, 16 * 2**20)


def flush_to_disk(path: Path) -> None:
    """Return when what was written to a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
