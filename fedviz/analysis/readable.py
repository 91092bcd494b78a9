"""Which rounds of a dataset can be read: damage in one is no reason not to look at the others."""

from __future__ import annotations

from fedviz.dataset import Round, WeightDataset
from fedviz.errors import DatasetFormatError, StorageError

__all__ = ["readable_rounds"]


def readable_rounds(dataset: WeightDataset) -> tuple[tuple[Round, ...], tuple[str, ...]]:
    """The rounds whose tables can be read, and what is wrong with each of the others.

    Reads every round's table of clients, metrics and list of aggregates; no weights.
    """
    readable, problems = [], []
    for each in dataset.rounds:
        try:
            _ = each.records, each.metrics, each.aggregates
        except (DatasetFormatError, StorageError) as error:
            problems.append(str(error))
        else:
            readable.append(each)
    return tuple(readable), tuple(problems)
