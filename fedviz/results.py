"""What becomes of an aggregate: saved, exported, measured on held-out data, told of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedviz.aggregation.average import AverageResult
from fedviz.dataset import WeightDataset
from fedviz.errors import FedvizError, InvalidArgumentError
from fedviz.exporters import NUMPY_FORMATS, export_weights
from fedviz.records import AGGREGATE, Metric
from fedviz.training.architectures import ARCHITECTURES, Architecture
from fedviz.training.data import DIGITS
from fedviz.writer import WeightDatasetWriter

__all__ = [
    "aggregate_name",
    "average_json",
    "average_text",
    "check_output",
    "measured",
    "save_average",
]

KERAS = ".weights.h5"


def aggregate_name(
    aggregator: str, weighting: str, parameters: Mapping[str, Any] | None = None
) -> str:
    """The name of an aggregate in the dataset: ``mean``, ``mean-uniform``, ``krum-faulty=2``."""
    settings = [f"{name}={value}" for name, value in (parameters or {}).items()]
    return "-".join([aggregator, *([weighting] if weighting != "num_examples" else []), *settings])


def check_output(out: Path, dataset: WeightDataset) -> None:
    """Refuse, before anything is computed, what could not be saved.

    Raises
    ------
    InvalidArgumentError
        The name ends in no known format, or Keras's is asked for and the model is not known.
    """
    endings = [".h5", *NUMPY_FORMATS, KERAS]
    if not out.name.endswith(tuple(endings)):
        raise InvalidArgumentError(
            f"{out.name}: expected a name that ends in {', '.join(endings)}."
        )
    if out.name.endswith(KERAS) and _model_source(dataset) is None:
        raise InvalidArgumentError(
            f"{out.name}: Keras's format follows the layers of a model, and "
            f"{dataset.path.name} does not say which model its weights belong to. Choose .npz or "
            ".safetensors."
        )


def save_average(result: AverageResult, dataset: WeightDataset, out: Path) -> str:
    """Save an aggregate; the name's ending decides how.

    Parameters
    ----------
    result : AverageResult
    dataset : WeightDataset
        The dataset that it was made from.
    out : Path
        ``.h5``: a dataset of one round with the server model and the aggregate; the path of
        ``dataset`` itself: the aggregate is added to its round. ``.npz``, ``.safetensors``,
        ``.weights.h5``: the weights alone.

    Returns
    -------
    str
        The aggregate's name in a dataset.
    """
    check_output(out, dataset)
    name = aggregate_name(result.aggregator, result.weighting, result.parameters)
    source = _model_source(dataset)
    if out.name.endswith(KERAS) and source is not None:
        from fedviz.training.keras_files import save_keras_weights

        save_keras_weights(source, result.weights, out)
    elif out.suffix in NUMPY_FORMATS:
        export_weights(out, result.weights)
    elif out.exists() and out.samefile(dataset.path):
        with WeightDatasetWriter.append(out) as writer:
            writer.write_aggregate(result.round, name, result.weights, **_description(result))
    else:
        _save_alone(result, dataset, out, name)
    return name


def _save_alone(result: AverageResult, dataset: WeightDataset, out: Path, name: str) -> None:
    server = dataset.round(result.round).server
    recipe = {**dataset.recipe, "averaged_from": dataset.path.name, "round": result.round}
    with (
        WeightDatasetWriter(out, dataset.signature, recipe) as writer,
        writer.round([], server) as round_,
    ):
        round_.write_aggregate(name, result.weights, **_description(result))


def _description(result: AverageResult) -> dict[str, Any]:
    measurements = {
        **result.measurements,
        "clients": len(result.clients),
        "left_out": list(result.left_out),
        "engine": result.engine,
        "seconds": result.seconds,
    }
    return {
        "aggregator": result.aggregator,
        "weighting": result.weighting,
        "parameters": result.parameters,
        "measurements": measurements,
    }


def _model_source(dataset: WeightDataset) -> Architecture | str | None:
    """The model that the weights belong to, where the recipe tells and it agrees."""
    recipe = dataset.recipe
    if isinstance(recipe.get("keras_json"), str):
        return str(recipe["keras_json"])
    known = ARCHITECTURES.get(str(recipe.get("architecture")))
    return known if known and known.signature.agrees_with(dataset.signature) else None


def measured(result: AverageResult, dataset: WeightDataset, name: str) -> list[Metric]:
    """Loss and accuracy of an aggregate on the data that the dataset's recipe holds out.

    Empty where the recipe does not say, or where the data were the user's own file, which the
    dataset does not carry.
    """
    source = _model_source(dataset)
    if source is None or dataset.recipe.get("data") != DIGITS or not _finite(result):
        return []
    from fedviz.training.evaluation import evaluator

    try:
        found = evaluator(source, DIGITS)(result.weights)
    except FedvizError:
        return []
    values = {"loss": found.loss, "accuracy": found.accuracy}
    return [Metric(AGGREGATE, name, k, v) for k, v in values.items() if v is not None]


def _finite(result: AverageResult) -> bool:
    return not result.measurements.get("nonfinite_values") and np.isfinite(result.l2_norm)


def average_json(result: AverageResult, out: Path) -> dict[str, Any]:
    """The JSON of ``fedviz average``."""
    return {
        "aggregator": result.aggregator,
        "weighting": result.weighting,
        "parameters": result.parameters,
        "round": result.round,
        "clients": len(result.clients),
        "left_out": list(result.left_out),
        "engine": result.engine,
        "seconds": result.seconds,
        "bytes_read": result.bytes_read,
        "l2_norm": result.l2_norm if np.isfinite(result.l2_norm) else None,
        "out": str(out),
        "measurements": result.measurements,
    }


def average_text(result: AverageResult, out: Path) -> str:
    """What ``fedviz average`` says to people."""
    left = f", {len(result.left_out)} left out" if result.left_out else ""
    return (
        f"{out}: {result.aggregator} of {len(result.clients)} clients{left} of round "
        f"{result.round}, weighted by {result.weighting}; {result.bytes_read:,} bytes read in "
        f"{result.seconds:.2f} s by the {result.engine}."
    )
