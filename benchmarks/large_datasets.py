"""Datasets as large as those that federated learning is used for, and ways to have them ready.

They are kept in the folder of a run: topics that measure on the same one share it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.datasets import model_of
from fedviz import hdf5_format as layout
from fedviz._version import PRODUCER
from fedviz.dataset import WeightDataset
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter

__all__ = ["CNN", "MLP", "large_dataset", "mapped_stacks", "read_through", "sparse_dataset"]


def _model(**shapes: tuple[int, ...]) -> Signature:
    specs = (TensorSpec(n.replace("__", "/"), s, "float32", True) for n, s in shapes.items())
    return Signature(tuple(specs))


MLP = _model(
    dense__kernel=(784, 1024), dense__bias=(1024,), dense_1__kernel=(1024, 10), dense_1__bias=(10,)
)
"""784-1024-10: 814,090 parameters."""

CNN = _model(
    conv2d__kernel=(5, 5, 1, 32),
    conv2d__bias=(32,),
    conv2d_1__kernel=(5, 5, 32, 64),
    conv2d_1__bias=(64,),
    dense__kernel=(3136, 512),
    dense__bias=(512,),
    dense_1__kernel=(512, 10),
    dense_1__bias=(10,),
)
"""The CNN of McMahan et al., 2017, for MNIST: 1,663,370 parameters."""

NOISES = 4096
BUFFER_BYTES = 8 << 20


def large_dataset(folder: Path, name: str, model: Signature, num_clients: int) -> Path:
    """A dataset of random clients near a random model, in the page cache.

    It is made once in a folder. It is then read from the disk, as a file is that was not written a
    moment ago: the system keeps it in larger pieces so.
    """
    path = folder / f"{name}.h5"
    if not path.exists():
        _write(path, model, num_clients)
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    read_through(path)
    return path


def _write(path: Path, model: Signature, num_clients: int) -> None:
    rng = np.random.default_rng(0)
    size = sum(spec.size for spec in model)
    server = rng.standard_normal(size, dtype="f4")
    # Drawing every client's noise would take longer than writing it.
    noise = np.float32(0.01) * rng.standard_normal(size + NOISES, dtype="f4")
    examples = rng.integers(1, 1000, num_clients)
    entries = [ClientEntry(f"c{i}", int(n)) for i, n in enumerate(examples)]
    with (
        WeightDatasetWriter(path, model) as writer,
        writer.round(entries, list(_split(server, model))) as round_,
    ):
        for i, entry in enumerate(entries):
            first = i % NOISES
            round_.write_client(entry.id, list(_split(server + noise[first : first + size], model)))


def _split(values: np.ndarray, model: Signature) -> Iterator[np.ndarray]:
    first = 0
    for spec in model:
        yield values[first : first + spec.size].reshape(spec.shape)
        first += spec.size


def read_through(path: Path) -> None:
    """Read a file to its end, so that the system has it in memory."""
    buffer = bytearray(BUFFER_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def mapped_stacks(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Each tensor's clients as a mapped matrix, and float32 weights that sum to 1."""
    with WeightDataset(path) as dataset:
        round_ = dataset.round()
        stacks = [round_.stack(name) for name in dataset.signature.names]
        examples = np.array([record.num_examples for record in round_.conforming], "f8")
    mapped = [np.memmap(s.path, s.dtype, "r", s.offset or 0, s.shape) for s in stacks]
    weights = (examples / examples.sum()).astype("f4")
    return [each.reshape(len(examples), -1) for each in mapped], weights


def sparse_dataset(
    path: Path, num_clients: int, size: int, written: dict[tuple[int, int], np.ndarray]
) -> None:
    """A dataset of one tensor that is larger than the disk: of zeros but for a few blocks.

    Parameters
    ----------
    path : Path
    num_clients, size : int
        Clients, and float32 values of each.
    written : dict of (client, first value) to ndarray
        What is written; the rest takes no room on the disk.
    """
    zeros = hashlib.sha256(bytes(4 * size)).hexdigest()
    model = model_of(1, size)
    with layout.create_file(path, "w") as file:
        layout.write_text_attributes(
            file, format=layout.FORMAT, created="2000-01-01T00:00:00+00:00", producer=PRODUCER
        )
        file.attrs["format_version"] = layout.FORMAT_VERSION
        layout.write_signature(file, model)
        round_ = file.create_group("rounds").create_group(layout.round_key(0))
        weights = round_.create_group("weights")
        region = layout.create_tensor(
            weights, layout.tensor_key(0), (num_clients, size), np.dtype("f4")
        )
        for (client, first), values in written.items():
            os.pwrite(
                region.descriptor,
                layout.stored_bytes(values),
                (region.offset or 0) + 4 * (client * size + first),
            )
        rows = [(f"c{i}", 1 + i % 7, zeros, True, i) for i in range(num_clients)]
        layout.write_table(round_, "clients", rows)
