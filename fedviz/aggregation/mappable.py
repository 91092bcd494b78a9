"""Rounds that can be mapped into memory, copied once where they cannot.

fedviz writes every tensor of all clients in one aligned piece. A file from elsewhere may hold it
compressed or in pieces.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fedviz.aggregation.cohort import Cohort
from fedviz.dataset import Round, WeightDataset
from fedviz.errors import StorageError, located
from fedviz.progress import Progress, ProgressCallback, silent
from fedviz.signature import TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter

__all__ = ["is_mappable", "mappable", "needs_copy"]

# What TensorFlow aligns its own buffers to. Where a slice of a mapped file is aligned so, it is
# used where it lies; elsewhere TensorFlow copies all of it first.
ALIGNMENT_BYTES = 64


def is_mappable(round_: Round, spec: TensorSpec) -> bool:
    """Whether one tensor of all clients lies in one aligned piece of the file."""
    stack = round_.stack(spec.name)
    # A tensor without values lies nowhere, and there is nothing to map.
    return 0 in stack.shape or (stack.offset is not None and not stack.offset % ALIGNMENT_BYTES)


def needs_copy(cohort: Cohort) -> bool:
    """Whether a float tensor of the round cannot be mapped."""
    floats = (spec for spec in cohort.round.dataset.signature if spec.is_float)
    return not all(is_mappable(cohort.round, spec) for spec in floats)


@contextlib.contextmanager
def mappable(cohort: Cohort, progress: ProgressCallback = silent) -> Iterator[Cohort]:
    """The cohort, or the same clients in a copy of their round that can be mapped.

    The copy is in the system's folder for temporary files and is gone afterwards. It is made client
    by client.

    Raises
    ------
    StorageError
        There is no room for the copy.
    """
    if not needs_copy(cohort):
        yield cohort
        return
    with tempfile.TemporaryDirectory(prefix="fedviz-copy-") as folder:
        path = Path(folder, "round.h5")
        _check_room(cohort, path.parent)
        _copy(cohort, path, progress)
        with WeightDataset(path) as copy:
            round_ = copy.round()
            yield dataclasses.replace(cohort, round=round_, records=round_.conforming)


def _check_room(cohort: Cohort, folder: Path) -> None:
    dataset = cohort.round.dataset
    needed = (len(cohort.records) + 1) * sum(spec.nbytes for spec in dataset.signature)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            located(
                "its tensors are not in one piece each, so they must be copied before they can be "
                f"averaged: expected {needed >> 20:,} MB free in {folder.parent}, found "
                f"{free >> 20:,} MB. Name a larger folder in TMPDIR",
                file=dataset.path,
                round=cohort.round.number,
            )
        )


def _copy(cohort: Cohort, path: Path, progress: ProgressCallback) -> None:
    entries = [ClientEntry(record.id, record.num_examples) for record in cohort.records]
    with (
        WeightDatasetWriter(path, cohort.round.dataset.signature) as writer,
        writer.round(entries, cohort.round.server) as copy,
    ):
        for done, entry in enumerate(entries):
            progress(Progress(done, len(entries), "copying the clients into one piece"))
            copy.write_client(entry.id, cohort.round.clients[entry.id])
