"""Saving from the dashboard: into the dataset, or into a copy of a sample; and downloads."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from fedviz.dashboard import folders
from fedviz.dashboard.tasks import AverageOutcome
from fedviz.dataset import Aggregate, WeightDataset
from fedviz.errors import storage_errors
from fedviz.exporters import export_weights
from fedviz.files import complete_or_absent
from fedviz.writer import WeightDatasetWriter

__all__ = ["exported", "save_aggregate"]


def save_aggregate(dataset: WeightDataset, outcome: AverageOutcome) -> Path:
    """Add an aggregate to its dataset, or to a copy of it in the data folder.

    Returns
    -------
    Path
        The dataset that has it now: a copy where the dataset ships with fedviz.
    """
    target = dataset.path if folders.is_ours(dataset.path) else _copied(dataset.path)
    with WeightDataset(outcome.path) as made, WeightDatasetWriter.append(target) as writer:
        aggregate = made.round().aggregates[outcome.name]
        writer.write_aggregate(
            outcome.round,
            outcome.name,
            aggregate,
            aggregator=aggregate.aggregator,
            weighting=aggregate.weighting,
            parameters=aggregate.parameters,
            measurements=aggregate.measurements,
        )
        writer.write_metrics(outcome.round, made.round().metrics)
    return target


def _copied(source: Path) -> Path:
    target = folders.free_path(source.name)
    with storage_errors(target, "write"), complete_or_absent(target) as temporary:
        shutil.copyfile(source, temporary)
    return target


def exported(aggregate: Aggregate, ending: str) -> bytes:
    """An aggregate's weights as a file of the format that the ending names."""
    with tempfile.TemporaryDirectory(prefix="fedviz-") as folder:
        path = Path(folder) / f"aggregate{ending}"
        export_weights(path, aggregate)
        return path.read_bytes()
