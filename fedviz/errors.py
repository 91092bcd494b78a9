"""What can go wrong, as one family of exceptions.

Every error that a user can cause is a :class:`FedvizError`. Its message says where (file, round,
client, tensor), what was expected, what was found, and what to do. The library raises it, the
command prints it in one line and exits with 2, the dashboard shows it in place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "CohortError",
    "DatasetFormatError",
    "EngineError",
    "FedvizError",
    "InvalidArgumentError",
    "JobCancelledError",
    "LockedFileError",
    "NewerFormatError",
    "SignatureError",
    "StorageError",
    "UnknownNameError",
    "located",
    "storage_errors",
]


class FedvizError(Exception):
    """Base of all errors that fedviz raises on purpose."""


class DatasetFormatError(FedvizError):
    """The file is not HDF5, not a fedviz file, truncated, or not what the format says."""


class NewerFormatError(DatasetFormatError):
    """The file was written in a newer version of the format than this program reads."""


class StorageError(FedvizError):
    """The file or its folder cannot be read or written: absent, read-only, full."""


class LockedFileError(StorageError):
    """Another process is writing the file."""


class SignatureError(FedvizError):
    """Weights do not have the tensors, shapes or dtypes that were declared for them."""


class InvalidArgumentError(FedvizError, ValueError):
    """An argument is outside its range."""


class UnknownNameError(FedvizError, KeyError):
    """There is no round, client, tensor, aggregate or architecture of that name."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class CohortError(FedvizError):
    """The clients of a round cannot be averaged: none, too few, or weights that make no mean."""


class EngineError(FedvizError):
    """TensorFlow or a TFF worker failed or ended while it worked for us."""


class JobCancelledError(FedvizError):
    """The user cancelled the job; nothing was written."""


def located(
    message: str,
    *,
    file: str | os.PathLike[str] | None = None,
    round: int | None = None,
    client: str | None = None,
    tensor: str | None = None,
) -> str:
    """``message`` with its place before it.

    >>> located("expected float32[32], found float32[1,32]", file="a.h5", round=3, client="c07")
    'a.h5, round 3, client c07: expected float32[32], found float32[1,32]'
    """
    places = []
    if file is not None:
        places.append(Path(file).name)
    if round is not None:
        places.append(f"round {round}")
    if client is not None:
        places.append(f"client {_short(client)}")
    if tensor is not None:
        places.append(f"tensor {_short(tensor)}")
    return f"{', '.join(places)}: {message}" if places else message


def _short(name: str, limit: int = 120) -> str:
    """A name that is fit for one line: control characters escaped, the middle left out."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
    return line if len(line) <= limit else f"{line[:80]}…{line[-30:]} ({len(name):,} characters)"


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
# The HDF5 library reports the system's error only within its own text.
_HDF5_ERRNO = re.compile(r"errno = (\d+)")


def _system_error_number(error: OSError) -> int | None:
    if error.errno is not None:
        return error.errno
    found = _HDF5_ERRNO.search(str(error))
    return int(found.group(1)) if found else None


@contextlib.contextmanager
def storage_errors(path: str | os.PathLike[str], action: str) -> Iterator[None]:
    """Turn the system's errors into ours.

    Parameters
    ----------
    path : path
        The file that is read or written; named in the message.
    action : str
        ``"read"`` or ``"write"``; named in the message.

    Raises
    ------
    StorageError
        Absent file or folder, no permission, read-only file system, disk full.
    LockedFileError
        Another process holds the file's lock.
    """
    try:
        yield
    except OSError as error:
        number = _system_error_number(error)
        if number is None:
            raise
        raise _storage_error(Path(path), action, number) from error


def _storage_error(path: Path, action: str, number: int) -> StorageError:
    name = path.name
    if number in (errno.EAGAIN, errno.EWOULDBLOCK):
        return LockedFileError(
            f"{name} is locked: another process is writing it. Wait until it is done, or end it."
        )
    if number in _FULL:
        return StorageError(
            f"cannot {action} {name}: no space left in {path.parent}. "
            "Free some space or choose another folder; nothing was changed."
        )
    if number in _FORBIDDEN:
        return StorageError(
            f"cannot {action} {name}: {path.parent} does not allow it ({os.strerror(number)}). "
            "Choose another folder or change its permissions."
        )
    if number == errno.ENOENT:
        missing = path if path.parent.is_dir() else path.parent
        return StorageError(f"cannot {action} {name}: there is no {missing}.")
    return StorageError(f"cannot {action} {name}: {os.strerror(number)}.")
