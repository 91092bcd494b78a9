from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedviz.aggregation import context
from fedviz.aggregation.tf_dataset import element_type
from fedviz.dataset import WeightDataset
from fedviz.errors import CohortError, SignatureError, UnknownNameError
from fedviz.signature import DTYPES
from tests.aggregation.helpers import f32, write_round

pytestmark = pytest.mark.tff


def client_of_every_dtype(i):
    weights = {f"t/{name}": np.arange(6).reshape(2, 3).astype(dt) for name, dt in DTYPES.items()}
    weights["t/float32"] = weights["t/float32"] + np.float32(i)
    return {**weights, "scalar": np.float32(10 * i), "empty": np.zeros((0, 2), np.float64)}


@pytest.fixture
def dataset(tmp_path):
    clients = [client_of_every_dtype(i) for i in range(4)]
    with WeightDataset.open(write_round(tmp_path / "clients.h5", clients)) as opened:
        yield opened


def test_elements_are_the_clients_bit_by_bit(dataset):
    elements = list(dataset.round().to_tf_dataset().as_numpy_iterator())

    assert len(elements) == 4
    for i, element in enumerate(elements):
        assert list(element) == list(dataset.signature.names)
        for name, array in client_of_every_dtype(i).items():
            assert element[name].dtype == array.dtype
            np.testing.assert_array_equal(element[name], array)


def test_element_type_is_the_signature(dataset):
    spec = dataset.round().to_tf_dataset().element_spec

    assert isinstance(spec, OrderedDict)
    assert str(element_type(dataset.signature)) == str(dataset.signature)
    assert {n: (s.dtype.name, tuple(s.shape)) for n, s in spec.items()} == {
        t.name: (t.dtype, t.shape) for t in dataset.signature
    }


def test_travels_into_a_worker_and_is_read_there(dataset):
    def sum_of_kernels(clients):
        zero = tf.zeros([2, 3], tf.float32)
        return clients.reduce(zero, lambda total, weights: total + weights["t/float32"])

    computation = tff.tensorflow.computation(
        sum_of_kernels, tff.SequenceType(element_type(dataset.signature))
    )
    total = context.run(computation, dataset.round().to_tf_dataset())

    np.testing.assert_array_equal(total, [[6, 10, 14], [18, 22, 26]])


def test_chosen_clients_in_the_order_given(dataset):
    chosen = dataset.round().to_tf_dataset(clients=["c03", "c01"])

    assert [float(e["scalar"]) for e in chosen.as_numpy_iterator()] == [30.0, 10.0]


def test_divergent_clients_are_refused_unless_others_are_named(tmp_path):
    path = write_round(
        tmp_path / "clients.h5",
        [{"w": f32(1)}],
        divergent={"c07": {"w": np.array([2], ml_dtypes.bfloat16)}},
    )
    with WeightDataset.open(path) as dataset:
        with pytest.raises(SignatureError, match=r"1 of 2 clients .*\(c07\)"):
            dataset.round().to_tf_dataset()
        (element,) = dataset.round().to_tf_dataset(clients=["c00"]).as_numpy_iterator()
    assert element["w"].tolist() == [1.0]


def test_unknown_and_no_clients(dataset):
    with pytest.raises(UnknownNameError, match="no client c99"):
        dataset.round().to_tf_dataset(clients=["c99"])
    with pytest.raises(CohortError, match="no clients"):
        dataset.round().to_tf_dataset(clients=[])
