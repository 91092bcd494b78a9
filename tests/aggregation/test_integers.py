import numpy as np
import pytest

from fedviz.aggregation.cohort import validated_cohort
from fedviz.aggregation.integers import integer_tensors
from fedviz.dataset import WeightDataset
from tests.aggregation.helpers import f32, write_round

LARGE = 2**62
CLIENTS = [
    {"w": f32(0), "steps": np.array([1, -3, LARGE]), "mask": np.array([True, False, True])},
    {"w": f32(0), "steps": np.array([2, -4, LARGE]), "mask": np.array([True, True, False])},
]
SERVER = {"w": f32(0), "steps": np.array([9, 9, 9]), "mask": np.array([False] * 3)}


def tensors_of(path, policy, weights, server=None):
    with WeightDataset(write_round(path / "a.h5", CLIENTS, weights, server)) as dataset:
        return integer_tensors(validated_cohort(dataset.round()), policy)


def test_kept_from_the_server_model(tmp_path):
    tensors, told = tensors_of(tmp_path, "keep", [1, 1], SERVER)

    assert told["kept_from"] == "server"
    assert tensors["steps"].tolist() == [9, 9, 9]
    assert tensors["mask"].tolist() == [False] * 3


def test_kept_from_the_heaviest_client_without_one(tmp_path):
    tensors, told = tensors_of(tmp_path, "keep", [1, 5])

    assert told == {"kept_tensors": ["steps", "mask"], "kept_from": "c01", "rounded_tensors": []}
    assert tensors["steps"].tolist() == [2, -4, LARGE]


@pytest.mark.parametrize(
    ("weights", "steps", "mask"),
    [
        # 1.5 and -3.5 go to the even neighbour; half of the weight is not more than half.
        ([1, 1], [2, -4, LARGE], [True, False, False]),
        ([3, 1], [1, -3, LARGE], [True, False, True]),
        ([1, 3], [2, -4, LARGE], [True, True, False]),
    ],
)
def test_rounded(tmp_path, weights, steps, mask):
    tensors, told = tensors_of(tmp_path, "round", weights, SERVER)

    assert told["rounded_tensors"] == ["steps", "mask"]
    assert (tensors["steps"].dtype, tensors["mask"].dtype) == (np.int64, np.bool_)
    assert tensors["steps"].tolist() == steps
    assert tensors["mask"].tolist() == mask
