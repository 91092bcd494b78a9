"""The histograms of all clients: the same numbers as one by one, and never too many."""

from __future__ import annotations

import numpy as np
import pytest

from fedviz.analysis import client_histograms as module
from fedviz.analysis.client_histograms import client_histograms
from fedviz.analysis.heatmap import Plane, layout_for
from fedviz.analysis.models import Models
from fedviz.analysis.scales import histogram
from fedviz.dataset import WeightDataset
from fedviz.signature import Signature, TensorSpec
from tests.dashboard.datasets import write

SIGNATURE = Signature(
    (
        TensorSpec("w", (20, 30), "float32"),
        TensorSpec("conv", (3, 3, 2, 4), "float32"),
        TensorSpec("bias", (200,), "float64"),
        TensorSpec("empty", (0, 3), "float32"),
    )
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("clients") / "many.h5"
    clients = [f"c{i:02d}" for i in range(48)]
    with WeightDataset(write(path, clients, signature=SIGNATURE)) as opened:
        yield opened


def models(dataset, tensor, plane=None):
    layout = layout_for(SIGNATURE[tensor].shape, tensor, plane=plane)
    return Models(dataset.round(), tensor, layout, ("", ""), None)


@pytest.mark.parametrize("tensor", ["w", "conv", "bias"])
def test_every_client_is_counted_as_it_is_alone(dataset, tensor):
    of = models(dataset, tensor)
    found = client_histograms(of, (0, of.layout.shape[0], 0, of.layout.shape[1]), 0.5)
    assert (len(found.shares), found.cohort) == (48, 48)
    for client in (0, 17, 47):
        values = dataset.round().clients[f"c{client:02d}"][tensor]
        alone = histogram(values, 0.5)
        np.testing.assert_allclose(found.shares[client], alone.shares)
        np.testing.assert_allclose(found.centres, alone.centres, rtol=1e-6)


def test_a_window_of_a_plane(dataset):
    of = models(dataset, "conv", Plane(3, 1, (2, 0, 1, 0)))
    found = client_histograms(of, (1, 3, 0, 2), 0.5)
    values = dataset.round().clients["c05"]["conv"][2, 0:2, 1, 1:3]
    np.testing.assert_allclose(found.shares[5], histogram(values, 0.5).shares)


def test_large_tensors_are_sampled_and_that_is_told(dataset, monkeypatch):
    monkeypatch.setattr(module, "_MOST_CELLS", 240)
    monkeypatch.setattr(module, "_BANDS", 4)
    monkeypatch.setattr(module, "_MOST_VALUES", 240 * 12)
    found = client_histograms(models(dataset, "w"), (0, 20, 0, 30), 0.5)
    assert (found.cells, found.window_cells) == (240, 600)
    assert (len(found.shares), found.cohort) == (12, 48)
    rows = dataset.round().clients["c04"]["w"][[0, 1, 6, 7, 12, 13, 18, 19]]
    np.testing.assert_allclose(found.shares[1], histogram(rows, 0.5).shares)
    # Of a tensor that cannot be read in part no fewer than eight clients.
    assert len(client_histograms(models(dataset, "conv"), (0, 7, 0, 15), 0.5).shares) == 24
    monkeypatch.setattr(module, "_MOST_VALUES", 1)
    assert len(client_histograms(models(dataset, "conv"), (0, 7, 0, 15), 0.5).shares) == 8


def test_few_are_curves_and_many_bands(dataset):
    found = client_histograms(models(dataset, "w"), (0, 20, 0, 30), 0.5)
    assert len(found.curves) == 0
    (least, most), (tenth, ninetieth) = found.bands
    np.testing.assert_array_equal(least, found.shares.min(axis=0))
    np.testing.assert_array_equal(most, found.shares.max(axis=0))
    assert (least <= tenth).all()
    assert (tenth <= ninetieth).all()
    assert (ninetieth <= most).all()


def test_nothing_to_count(dataset):
    assert client_histograms(models(dataset, "empty"), (0, 0, 0, 3), 0.5) is None
