"""Zip archives, read without trusting what they say of themselves.

Nothing is ever unpacked under a name from the archive: a member is read in memory, or copied to a
file whose name the caller chose.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fedviz.errors import DatasetFormatError, located, storage_errors
from fedviz.importers.imported import MAX_TENSORS

__all__ = ["archive_members", "archive_reading", "copy_member", "open_archive"]

_MAX_RATIO = 100
_ALWAYS_ALLOWED = 256 * 2**20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1

# The end records: number of members and bytes of their list; the wider one for large archives,
# for which the older says "all ones". A comment of 65,535 bytes may follow them.
_END = struct.Struct("<10xHI")
_END_64 = struct.Struct("<32xQQ")
_UNKNOWN = {_END.size: (0xFFFF, 0xFFFFFFFF), _END_64.size: (-1, -1)}
_TAIL = 65_535 + 22 + 20 + 56
_MAX_DIRECTORY = 24 * 2**20
# What zipfile and zlib raise over damaged archives; RuntimeError for a missing password.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError),
    *(ValueError, RuntimeError, OverflowError),
)


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive, opened for reading.

    Raises
    ------
    StorageError
        The file cannot be read.
    DatasetFormatError
        It is no zip archive, or damaged, wherever in the block that shows.
    """
    with storage_errors(path, "read"), archive_reading(path):
        _refuse_large_directory(path)
        with zipfile.ZipFile(path) as archive:
            yield archive


def _refuse_large_directory(path: Path) -> None:
    """Look at how long the list of members is before zipfile makes an object of each.

    Every mark of an end record in the last bytes counts: which of them zipfile takes is its own
    affair.

    References
    ----------
    PKWARE, .ZIP File Format Specification (APPNOTE), sections 4.3.14 and 4.3.16.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        tail = file.read()
    for mark, record in ((b"PK\x05\x06", _END), (b"PK\x06\x06", _END_64)):
        at = tail.find(mark)
        while at >= 0:
            if at + record.size <= len(tail):
                count, size = record.unpack_from(tail, at)
                _refuse_counts(path, count, size, *_UNKNOWN[record.size])
            at = tail.find(mark, at + 1)


def _refuse_counts(path: Path, count: int, size: int, no_count: int, no_size: int) -> None:
    too_many = count > MAX_TENSORS and count != no_count
    too_long = size > _MAX_DIRECTORY and size != no_size
    if too_many or too_long:
        raise _too_many_members(path, count)


def _too_many_members(path: Path, count: int) -> DatasetFormatError:
    return DatasetFormatError(
        located(
            f"expected an archive of at most {MAX_TENSORS:,} files, found {count:,}; is it a "
            "model's weights?",
            file=path,
        )
    )


@contextlib.contextmanager
def archive_reading(path: Path, what: str = "it") -> Iterator[None]:
    """Name the archive, and what was to be read, where the zip format fails us."""
    try:
        yield
    except OSError as error:
        # A place before the file's begin, or beyond what the system can count to.
        if error.errno not in (errno.EINVAL, None):
            raise
        raise _damaged(path, what, error) from error
    except _DAMAGE as error:
        raise _damaged(path, what, error) from error


def _damaged(path: Path, what: str, error: Exception) -> DatasetFormatError:
    said = " ".join(str(error).split())[:200]
    return DatasetFormatError(
        located(
            f"the archive is damaged or cut short: cannot read {what} ({said}); copy the file "
            "again",
            file=path,
        )
    )


def archive_members(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files in an archive, after all that it declares has been checked.

    Raises
    ------
    DatasetFormatError
        Too many members, a name that is absolute, has ``..`` or is used twice, a link, a
        password, an unusual compression, or more bytes than such an archive can honestly hold.
    """
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > MAX_TENSORS:
        raise _too_many_members(path, len(members))
    names: set[str] = set()
    for member in members:
        problem = _problem(member, names)
        if problem:
            raise DatasetFormatError(
                located(f"member {_shown(member.filename)}: {problem}", file=path)
            )
        names.add(member.filename)
    _refuse_bomb(path, members)
    return members


def _problem(member: zipfile.ZipInfo, names: set[str]) -> str:
    name = member.filename
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0]:
        return "its name leads out of the archive; pack it anew with plain relative names"
    if name in names:
        return "the name is used by more than one member; pack it anew"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "it is a link; pack the files themselves"
    if member.flag_bits & _ENCRYPTED:
        return "it is encrypted; pack it anew without a password"
    if member.compress_type not in _METHODS:
        return "expected it stored or deflated; pack it anew as an ordinary zip"
    return ""


def _refuse_bomb(path: Path, members: list[zipfile.ZipInfo]) -> None:
    size = path.stat().st_size
    packed = sum(member.compress_size for member in members)
    declared = sum(member.file_size for member in members)
    if packed > size:
        raise DatasetFormatError(
            located(
                f"its members overlap: {packed:,} bytes in a file of {size:,}; pack it anew",
                file=path,
            )
        )
    if declared > max(_ALWAYS_ALLOWED, _MAX_RATIO * size):
        raise DatasetFormatError(
            located(
                f"it would unpack to {declared:,} bytes from {size:,}, as zip bombs do; save it "
                "without compression if it is sound",
                file=path,
            )
        )


def copy_member(
    path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path
) -> None:
    """Copy a member to a file of the caller's own naming.

    Raises
    ------
    DatasetFormatError
        The member is damaged, or longer than it declares.
    """
    name = _shown(member.filename)
    with archive_reading(path, name), archive.open(member) as packed, target.open("wb") as file:
        # zipfile gives no more than the declared bytes, and holds them against their checksum.
        shutil.copyfileobj(packed, file, 2**20)
    if target.stat().st_size != member.file_size:
        raise DatasetFormatError(
            located(
                f"member {name}: expected {member.file_size:,} bytes as declared, found "
                f"{target.stat().st_size:,}; copy the file again",
                file=path,
            )
        )


def _shown(name: str) -> str:
    line = "".join(c if c.isprintable() else "?" for c in name)
    return line if len(line) <= 120 else f"{line[:80]}…{line[-30:]}"
