import numpy as np
import pytest

from fedviz.errors import DatasetFormatError, UnknownNameError
from fedviz.importers.fedviz_file import clients_of, open_fedviz_file
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.importers.keras_layouts import BIAS, KERNEL

SIGNATURE = Signature(
    (
        TensorSpec("dense/kernel", (2, 3), "float32", True),
        TensorSpec("dense/bias", (3,), "float32", False),
    )
)


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "run.h5"
    with WeightDatasetWriter(path, SIGNATURE) as writer:
        for number in range(2):
            with writer.round([ClientEntry("c00", 7)], [KERNEL + number, BIAS]) as round_:
                round_.write_client("c00", [KERNEL + 10 + number, BIAS])
                aggregate = [KERNEL + 20 + number, BIAS]
                round_.write_aggregate("mean", aggregate, aggregator="mean", weighting="uniform")
    return path


@pytest.mark.parametrize(
    ("part", "first"),
    [(None, 0), ("server", 1), ("c00", 11), ("mean", 21), ("0:c00", 10), ("0:mean", 20)],
)
def test_a_part_of_a_round(dataset, part, first):
    with open_fedviz_file(dataset, part) as found:
        assert found.weights["dense/kernel"][0, 0] == first
        assert found.signature == SIGNATURE
        assert found.num_examples == (7 if part and "c00" in part else None)


@pytest.mark.parametrize("part", ["c99", "7:server", ""])
def test_a_part_that_is_not_there(dataset, part):
    with (
        pytest.raises(UnknownNameError, match=r"run\.h5.*there is no"),
        open_fedviz_file(dataset, part),
    ):
        pass


def test_an_average_stands_for_a_dataset_without_a_server_model(tmp_path):
    path = tmp_path / "mean.h5"
    with WeightDatasetWriter(path, SIGNATURE) as writer, writer.round([]) as round_:
        round_.write_aggregate("mean", [KERNEL, BIAS], aggregator="mean", weighting="uniform")
    assert clients_of(path) == ()
    with open_fedviz_file(path) as found:
        np.testing.assert_array_equal(found.weights["dense/kernel"], KERNEL)


def test_a_dataset_that_does_not_say_which_model_is_meant(tmp_path):
    path = tmp_path / "run.h5"
    entries = [ClientEntry("a"), ClientEntry("b")]
    with WeightDatasetWriter(path, SIGNATURE) as writer, writer.round(entries) as round_:
        for entry in entries:
            round_.write_client(entry.id, [KERNEL, BIAS])
    with (
        pytest.raises(DatasetFormatError, match=r"name a part of the file: run\.h5#CLIENT"),
        open_fedviz_file(path),
    ):
        pass
