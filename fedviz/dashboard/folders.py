"""Where the dashboard finds and keeps datasets. It reads and writes nowhere else."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from pathlib import Path

import platformdirs

from fedviz.dataset import WeightDataset
from fedviz.errors import InvalidArgumentError, UnknownNameError, storage_errors
from fedviz.files import complete_or_absent

__all__ = [
    "data_folder",
    "dataset_path",
    "datasets",
    "first_dataset",
    "free_path",
    "gram_folder",
    "harmless",
    "is_ours",
    "keep_template",
    "keep_upload",
]

SAMPLES = Path(__file__).parents[2] / "sample_data"
FIRST_SAMPLE = "digits-mlp.h5"

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def data_folder() -> Path:
    """The folder for the user's datasets: FEDVIZ_DATA_DIR, or the user's data folder."""
    configured = os.environ.get("FEDVIZ_DATA_DIR")
    folder = Path(configured) if configured else platformdirs.user_data_path("fedviz")
    with storage_errors(folder, "write"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def datasets() -> dict[str, Path]:
    """All datasets by the name that the picker shows: the user's, the samples, the one opened."""
    own = [path for path in data_folder().glob("*.h5") if path.is_file()]
    found = {path.name: path for path in sorted(own, key=_newest_first)}
    for path in sorted(SAMPLES.glob("*.h5"), key=lambda p: (p.name != FIRST_SAMPLE, p.name)):
        found.setdefault(path.name if path.name not in found else f"{path.name} (sample)", path)
    opened = os.environ.get("FEDVIZ_OPEN")
    if opened and Path(opened).is_file():
        found = {Path(opened).name: Path(opened)} | found
    return found


def first_dataset() -> str | None:
    """The dataset to open on: the one named on the command line, the sample, any."""
    names = datasets()
    opened = os.environ.get("FEDVIZ_OPEN")
    if opened and Path(opened).name in names:
        return Path(opened).name
    return FIRST_SAMPLE if FIRST_SAMPLE in names else next(iter(names), None)


def is_ours(path: Path) -> bool:
    """Whether a dataset may be written to: it lies in the data folder."""
    return path.parent == data_folder()


def free_path(name: str) -> Path:
    """A path in the data folder for a dataset of this name; never one that is taken.

    Names come from people and from uploads: they never become paths.

    Raises
    ------
    InvalidArgumentError
        Nothing is left of the name.
    """
    stem = _UNSAFE.sub("-", Path(name).name).removesuffix(".h5").strip("-.")[:80]
    if not stem:
        raise InvalidArgumentError(f"{name!r} cannot name a dataset; use letters and digits.")
    folder = data_folder()
    candidates = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
    taken = set(datasets()) | {path.name for path in folder.iterdir()}
    return folder / next(f"{c}.h5" for c in candidates if f"{c}.h5" not in taken)


def keep_upload(name: str, content: bytes | memoryview) -> Path:
    """Keep an uploaded dataset, if it is one.

    Raises
    ------
    DatasetFormatError
        It is no fedviz file; nothing is kept.
    """
    target = free_path(name)
    with complete_or_absent(target) as temporary:
        temporary.write_bytes(content)
        WeightDataset(temporary).close()
    return target


def keep_template(name: str, content: bytes | memoryview) -> Path:
    """Keep an uploaded model or training data, under a name that its content decides."""
    digest = hashlib.sha256(content).hexdigest()[:12]
    suffix = "".join(_UNSAFE.sub("", part) for part in Path(name).suffixes[-1:])
    stem = _UNSAFE.sub("-", Path(name).stem).strip("-.")[:40] or "upload"
    folder = data_folder() / "uploads"
    with storage_errors(folder, "write"):
        folder.mkdir(exist_ok=True)
    target = folder / f"{stem}-{digest}{suffix}"
    if not target.exists():
        with complete_or_absent(target) as temporary:
            temporary.write_bytes(content)
    return target


def harmless(name: str) -> str:
    """One step of a path from an uploaded file's name, which leads nowhere else."""
    return _UNSAFE.sub("-", name).lstrip(".")[-120:] or "client"


def gram_folder() -> Path:
    """Where Gram matrices are kept: in the data folder, never beside somebody else's file."""
    folder = data_folder() / "cache" / "gram"
    with storage_errors(folder, "write"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def dataset_path(name: str) -> Path:
    """The path of a dataset that the picker shows."""
    try:
        return datasets()[name]
    except KeyError:
        raise UnknownNameError(f"there is no dataset {name} in the data folder.") from None


def _newest_first(path: Path) -> float:
    return -path.stat().st_mtime
