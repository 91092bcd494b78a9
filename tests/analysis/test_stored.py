"""Stacks that stay in their file: numbers as of arrays, and an error where the file shrinks."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from fedviz.analysis.client_gram import path_gram, round_gram
from fedviz.analysis.gram import gram_matrix
from fedviz.analysis.stacks import column_blocks, one_client, values_of_client
from fedviz.analysis.stored import StoredStack, stacks_of_round
from fedviz.dataset import WeightDataset
from fedviz.errors import StorageError
from fedviz.robust import RULES, aggregate
from fedviz.signature import Signature, TensorSpec

CLIENTS = 11
DTYPES = ("float16", "bfloat16", "float32", "float64")


def _shapes(size):
    return {"kernel": (size, 3), "none": (0,), "b": ()}


def written(write_dataset, dtype="float32", size=700):
    """A dataset of random clients with a server model; and its stacks as arrays."""
    signature = Signature(
        tuple(
            TensorSpec(n, s, dtype) for n, s in (("kernel", (size, 3)), ("none", (0,)), ("b", ()))
        )
    )
    rng = np.random.default_rng(5)
    stacks = {
        spec.name: np.asarray(rng.standard_normal((CLIENTS, *spec.shape)), spec.numpy_dtype)
        for spec in signature
    }
    clients = {f"c{i:02d}": [stack[i] for stack in stacks.values()] for i in range(CLIENTS)}
    server = [stack[0] for stack in stacks.values()]
    return write_dataset(clients, signature=signature, server=server), stacks


def compress(path: Path) -> None:
    """Put the stacks into compressed pieces, as another program may write them."""
    with h5py.File(path, "r+") as file:
        group = file["rounds/000000/weights"]
        for key in list(group):
            values = group[key][()]
            if values.size:
                del group[key]
                group.create_dataset(key, data=values, chunks=values.shape, compression="gzip")


@pytest.mark.parametrize(
    ("dtype", "compressed"), [*((dtype, False) for dtype in DTYPES), ("float32", True)]
)
def test_blocks_are_those_of_the_array(write_dataset, dtype, compressed):
    path, arrays = written(write_dataset, dtype)
    if compressed:
        compress(path)
    with WeightDataset(path) as dataset, stacks_of_round(dataset.round(), arrays) as stacks:
        for rows in (np.arange(CLIENTS), np.array([7, 2, 2, 10])):
            for name, array in arrays.items():
                found = [
                    (columns, values.copy())
                    for columns, values in column_blocks(stacks[name], rows, 101)
                ]
                expected = list(column_blocks(array, rows, 101))
                assert [c for c, _ in found] == [c for c, _ in expected]
                for (_, values), (_, wanted) in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(values, wanted)
                    assert values.dtype == wanted.dtype
        assert isinstance(stacks["kernel"], StoredStack)
        np.testing.assert_array_equal(values_of_client(stacks["kernel"], 4), arrays["kernel"][4])
        one = one_client(stacks["kernel"], 4)
        assert one.shape == (1, *arrays["kernel"].shape[1:])
        np.testing.assert_array_equal(values_of_client(one, 0), arrays["kernel"][4])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gram_matrix_is_that_of_the_arrays(write_dataset, dtype):
    path, arrays = written(write_dataset, dtype)
    centre = {name: stack[0] for name, stack in arrays.items()}
    with WeightDataset(path) as dataset, stacks_of_round(dataset.round(), arrays) as stacks:
        for given in (None, centre):
            found, expected = gram_matrix(stacks, given), gram_matrix(arrays, given)
            np.testing.assert_allclose(found.total, expected.total, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_rule_makes_the_same_of_them(write_dataset, rule):
    path, arrays = written(write_dataset)
    with WeightDataset(path) as dataset, stacks_of_round(dataset.round(), arrays) as stacks:
        server = dataset.round().server
        found = aggregate(rule, stacks, np.ones(CLIENTS), server)
        expected = aggregate(rule, arrays, np.ones(CLIENTS), server)
    for name in arrays:
        np.testing.assert_array_equal(found.tensors[name], expected.tensors[name])
    assert found.measurements == expected.measurements


def cutting(path):
    """A callback that cuts the file short."""
    return lambda _: os.truncate(path, 8192)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_file_that_is_cut_short_is_an_error(write_dataset, rule):
    """To map it would end the process."""
    path, arrays = written(write_dataset, size=40_000)

    with (
        WeightDataset(path) as dataset,
        pytest.raises(StorageError, match=r"clients\.h5, round 0, tensor \w+: .*became shorter"),
        stacks_of_round(dataset.round(), arrays) as stacks,
    ):
        aggregate(rule, stacks, np.ones(CLIENTS), dataset.round().server, progress=cutting(path))


@pytest.mark.parametrize("compare", [lambda d, p: round_gram(d.round(), p), path_gram])
def test_clients_are_compared_while_their_file_is_cut_short(write_dataset, compare):
    path, _ = written(write_dataset, size=40_000)

    with (
        WeightDataset(path) as dataset,
        pytest.raises(StorageError, match=r"clients\.h5, round 0, tensor \w+: .*became shorter"),
    ):
        compare(dataset, cutting(path))


def test_a_file_that_changes_meanwhile_is_an_error(write_dataset):
    path, arrays = written(write_dataset)
    with (
        WeightDataset(path) as dataset,
        pytest.raises(StorageError, match=r"clients\.h5: the file was replaced"),
        stacks_of_round(dataset.round(), arrays),
    ):
        os.utime(path, (1, 1))


def test_nothing_stays_open_and_copies_are_gone(write_dataset, tmp_path, monkeypatch):
    path, arrays = written(write_dataset)
    compress(path)
    (folder := tmp_path / "copies").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with WeightDataset(path) as dataset:
        before = len(list(Path("/proc/self/fd").iterdir()))
        with stacks_of_round(dataset.round(), arrays):
            assert len(list(Path("/proc/self/fd").iterdir())) == before + 2
            assert len(list(folder.glob("*/*"))) == 2
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        assert list(folder.iterdir()) == []
