"""Models in a zip: which members belong to one, and the names under which they are copied out.

Those names are ours, or match a pattern that leaves no room for tricks: nothing is unpacked under
a name that an archive could have chosen.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fedviz.errors import DatasetFormatError, located
from fedviz.importers.archives import archive_members, archive_reading, copy_member, open_archive
from fedviz.importers.imported import LeftOut
from fedviz.importers.safetensors import shards_of

__all__ = ["PackedModel", "earlier_states", "packed_models"]

STATE = "checkpoint"
"""The file that names the latest checkpoint of a folder."""

_LONGEST_STATE = 1_000_000
_INDEX = ".index"
_SHARDS = ".index.json"
_SAVED_MODEL = re.compile(r"saved_model\.pb|variables/variables\.(index|data-\d{5}-of-\d{5})")
_DATA = re.compile(r"\.data-\d{5}-of-\d{5}")
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,120}")


@dataclass(frozen=True)
class PackedModel:
    """The members of a zip that make one model.

    Parameters
    ----------
    name : str
        What a person is told: the member's name, a SavedModel's folder.
    files : tuple of (str, str)
        Each member, and the path below a folder of ours that it is copied to.
    entry : str
        Which of those paths is read; empty for the folder itself.
    """

    name: str
    files: tuple[tuple[str, str], ...]
    entry: str

    @contextlib.contextmanager
    def copied_out(self, path: Path) -> Iterator[Path]:
        """The file or folder to read, copied out of the zip at ``path``."""
        with tempfile.TemporaryDirectory(prefix="fedviz-") as folder:
            root = Path(folder)
            with open_archive(path) as archive:
                for member, own in self.files:
                    target = root / own
                    target.parent.mkdir(exist_ok=True)
                    copy_member(path, archive, archive.getinfo(member), target)
            yield root / self.entry


def _single(member: str) -> PackedModel:
    # Messages name the file: it keeps the member's last step, cleared of all else.
    own = re.sub(r"[^A-Za-z0-9._-]", "_", PurePosixPath(member).name).lstrip(".")[-100:] or "member"
    return PackedModel(member, ((member, own),), own)


def packed_models(path: Path) -> tuple[list[PackedModel], list[LeftOut]]:
    """The models in a zip; what single members are shows when they are copied out.

    Returns
    -------
    models : list of PackedModel
        In the order of the archive.
    passed_over : list of LeftOut
        Parts of models of several files, and why they are no models of their own.

    Raises
    ------
    DatasetFormatError
        The archive is damaged or not to be trusted, or an index of shards is.
    """
    with open_archive(path) as archive:
        names = [m.filename for m in archive_members(path, archive) if not _hidden(m.filename)]
        found = _Found(path, archive, names)
        for step in (found.saved_models, found.checkpoints, found.shards):
            step()
    models = [found.models.get(n) or _single(n) for n in names if n not in found.parts]
    passed_over = [
        LeftOut(f"{path.name}/{name}", reason) for name, reason in found.parts.items() if reason
    ]
    return models, passed_over


def _hidden(member: str) -> bool:
    return any(step.startswith((".", "__")) for step in PurePosixPath(member).parts)


class _Found:
    """Models of several files: by the member that stands for one, and the parts of all."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, names: Sequence[str]) -> None:
        self.models: dict[str, PackedModel] = {}
        self.parts: dict[str, str] = {}
        self._path, self._archive, self._names = path, archive, names
        self._by_folder: dict[PurePosixPath, list[str]] = {}
        for name in names:
            self._by_folder.setdefault(PurePosixPath(name).parent, []).append(name)

    def saved_models(self) -> None:
        """A folder with a saved_model.pb, and all that is below it."""
        for head in [n for n in self._names if PurePosixPath(n).name == "saved_model.pb"]:
            folder = head[: -len("saved_model.pb")]
            below = [n for n in self._names if n.startswith(folder) and n not in self.parts]
            files = [
                (n, n[len(folder) :]) for n in below if _SAVED_MODEL.fullmatch(n[len(folder) :])
            ]
            self.parts.update(dict.fromkeys(below, ""))
            del self.parts[head]
            self.models[head] = PackedModel(folder.rstrip("/") or head, tuple(files), "")

    def checkpoints(self) -> None:
        """An index and its data; the state file says which of several is the latest."""
        for name in self._free(lambda name: name.endswith(_INDEX)):
            prefix = name[: -len(_INDEX)]
            data = [n for n in self._beside(name) if _DATA.fullmatch(n.removeprefix(prefix))]
            if data:
                files = ((n, f"model.ckpt{n.removeprefix(prefix)}") for n in (name, *data))
                self.models[name] = PackedModel(name, tuple(files), "model.ckpt.index")
                self.parts.update(dict.fromkeys(data, "part of a checkpoint"))
        for state in self._free(lambda name: PurePosixPath(name).name == STATE):
            self._leave_out_earlier(state)

    def _leave_out_earlier(self, state: str) -> None:
        with archive_reading(self._path), self._archive.open(state) as file:
            text = file.read(_LONGEST_STATE).decode("utf-8", "replace")
        if not text.startswith("model_checkpoint_path"):
            return
        self.parts[state] = "it only names a checkpoint"
        for name in earlier_states(text):
            index = str(PurePosixPath(state).with_name(f"{name}{_INDEX}"))
            if self.models.pop(index, None):
                self.parts[index] = "an earlier state of the same checkpoint"

    def shards(self) -> None:
        """An index of safetensors, and the shards that it names."""
        for name in self._free(lambda name: name.endswith(_SHARDS)):
            index = _single(name)
            with index.copied_out(self._path) as copy:
                shards = sorted(shards_of(copy))
            self._check_plain(name, shards)
            beside = {PurePosixPath(n).name: n for n in self._beside(name)}
            # A shard that is not there is missed when the index is read, as in a folder.
            there = [(beside[shard], shard) for shard in shards if shard in beside]
            self.models[name] = PackedModel(name, ((name, index.entry), *there), index.entry)
            self.parts.update((member, "a shard, read by its index") for member, _ in there)

    def _check_plain(self, index: str, shards: Sequence[str]) -> None:
        for shard in shards:
            if not _PLAIN.fullmatch(shard):
                raise DatasetFormatError(
                    located(
                        f"{index}: expected shards named with letters, digits, '.', '_' and '-', "
                        f"found {shard[:120]!r}; unpack the zip and name the folder",
                        file=self._path,
                    )
                )

    def _free(self, wanted: Callable[[str], bool]) -> list[str]:
        return [
            n for n in self._names if wanted(n) and n not in self.parts and n not in self.models
        ]

    def _beside(self, name: str) -> list[str]:
        return self._by_folder[PurePosixPath(name).parent]


def earlier_states(state: str) -> list[str]:
    """Names of the checkpoints that a state file lists before the latest, without folders."""
    named = [re.fullmatch(r'(\w+): "(.+)"', line.strip()) for line in state.splitlines()]
    names = [(m[1], PurePosixPath(m[2]).name) for m in named if m]
    latest = {name for key, name in names if key == "model_checkpoint_path"}
    return [n for key, n in names if key == "all_model_checkpoint_paths" and n not in latest]
