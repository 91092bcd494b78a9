"""Federated weight datasets: :class:`WeightDataset` reads one, :class:`WeightDatasetWriter` writes.

Reading is lazy: opening reads the index, a tensor is read when it is asked for. Writing streams
client by client and is atomic: a reader sees the old file or the new one, never a half.
"""

from fedviz.dataset.places import FileIdentity, StackedTensor
from fedviz.dataset.rounds import Round
from fedviz.dataset.weight_dataset import WeightDataset, opened_dataset
from fedviz.dataset.weights import Aggregate, ClientWeights, WeightMap

__all__ = [
    "Aggregate",
    "ClientWeights",
    "FileIdentity",
    "Round",
    "StackedTensor",
    "WeightDataset",
    "WeightMap",
    "opened_dataset",
]
