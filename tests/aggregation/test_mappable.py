from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from fedviz.aggregation import mappable as module
from fedviz.aggregation.average import average
from fedviz.aggregation.cohort import validated_cohort
from fedviz.aggregation.mappable import mappable, needs_copy
from fedviz.dataset import WeightDataset
from fedviz.errors import StorageError
from fedviz.signature import Signature
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.aggregation.helpers import f32, write_round

CLIENTS = [{"w": f32(1, 2, 3)}, {"w": f32(3, 2, 5)}, {"w": f32(8, 2, 1)}]


def compressed(path):
    """The same dataset with its stacks in compressed pieces, as another program may write it."""
    with h5py.File(path, "r+") as file:
        for round_ in file["rounds"].values():
            stacks = round_["weights"]
            for key in list(stacks):
                values = stacks[key][()]
                del stacks[key]
                stacks.create_dataset(key, data=values, chunks=values.shape, compression="gzip")
    return path


@pytest.fixture
def rounds(tmp_path):
    """Two rounds, in which the server model moves from 0 to 1."""
    path = tmp_path / "clients.h5"
    entries = [ClientEntry(f"c{i}", 1) for i in range(len(CLIENTS))]
    with WeightDatasetWriter(path, Signature.of(CLIENTS[0])) as writer:
        for start in (0, 1):
            with writer.round(entries, {"w": f32(start, start, start)}) as round_:
                for entry, weights in zip(entries, CLIENTS, strict=True):
                    round_.write_client(entry.id, weights)
    return path


def test_what_lies_in_one_piece_is_not_copied(tmp_path):
    with WeightDataset(write_round(tmp_path / "a.h5", CLIENTS)) as dataset:
        cohort = validated_cohort(dataset.round())
        assert not needs_copy(cohort)
        with mappable(cohort) as same:
            assert same is cohort


def test_what_does_not_is_copied_and_the_copy_is_gone_afterwards(tmp_path):
    path = compressed(write_round(tmp_path / "a.h5", CLIENTS, server={"w": f32(0, 0, 0)}))
    with WeightDataset(path) as dataset:
        cohort = validated_cohort(dataset.round())
        assert needs_copy(cohort)
        steps = []
        with mappable(cohort, steps.append) as copy:
            assert [(step.done, step.total) for step in steps] == [(0, 3), (1, 3), (2, 3)]
            folder = copy.round.dataset.path.parent
            assert copy.ids == cohort.ids
            assert not needs_copy(copy)
            np.testing.assert_array_equal(copy.round.read_stack("w"), [c["w"] for c in CLIENTS])
        assert not folder.exists()


def test_no_room_for_the_copy(tmp_path, monkeypatch):
    path = compressed(write_round(tmp_path / "a.h5", CLIENTS))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with (
        WeightDataset(path) as dataset,
        pytest.raises(StorageError, match=r"a\.h5, round 0: .*TMPDIR"),
        mappable(validated_cohort(dataset.round())),
    ):
        pass


@pytest.mark.tff
@pytest.mark.parametrize("aggregator", ["mean", "median", "clipping", "fedavgm"])
def test_a_copied_round_gives_the_same(rounds, aggregator):
    """An optimiser over the rounds too: it must not take the copy for all there is."""
    parameters = {"clipping_norm": 1.5} if aggregator == "clipping" else {}
    straight = average(rounds, aggregator=aggregator, parameters=parameters)
    copied = average(compressed(rounds), aggregator=aggregator, parameters=parameters)

    assert (straight.measurements["copied"], copied.measurements["copied"]) == (False, True)
    np.testing.assert_array_equal(copied.weights["w"], straight.weights["w"])
    assert copied.measurements.get("rounds") == straight.measurements.get("rounds")
    if aggregator == "fedavgm":
        # m = mean − 0, then 0.9 m + (mean − 1), on top of 1; the mean is (4, 2, 3).
        np.testing.assert_allclose(copied.weights["w"], 1 + 0.9 * f32(4, 2, 3) + f32(3, 1, 2), 1e-6)
