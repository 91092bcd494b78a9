"""What the engine does for the dashboard. This module knows no Streamlit.

Each task gets plain values and paths and returns the same; its ``folder`` is the job's own.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedviz.analysis.client_gram import path_gram, round_gram
from fedviz.analysis.gram_cache import (
    keep_path_gram,
    keep_round_gram,
    kept_path_gram,
    kept_round_gram,
)
from fedviz.analysis.numpy_averaging import ClientModel
from fedviz.comparison import Comparison, compare, parse_candidate
from fedviz.dataset import FileIdentity, WeightDataset
from fedviz.errors import InvalidArgumentError
from fedviz.generation import GenerateRequest, generate
from fedviz.importers.report import ImportReport
from fedviz.importing import ProposedClient, import_clients
from fedviz.progress import ProgressCallback
from fedviz.repair import RepairPlan, apply_repairs
from fedviz.results import measured, save_average
from fedviz.writer import WeightDatasetWriter

__all__ = [
    "AverageOutcome",
    "CompareOutcome",
    "ReportOutcome",
    "TffAnswer",
    "run_average",
    "run_compare",
    "run_generate",
    "run_grams",
    "run_import",
    "run_repair",
    "run_report",
    "run_tff_verdicts",
]


@dataclass(frozen=True)
class AverageOutcome:
    """An aggregate that was made and not saved yet.

    ``path`` is a dataset with the server model and the aggregate, in the job's folder.
    """

    path: Path
    name: str
    round: int
    clients: tuple[str, ...]
    left_out: tuple[str, ...]
    engine: str
    seconds: float


def run_generate(
    request: GenerateRequest, target: Path, *, folder: Path, progress: ProgressCallback
) -> Path:
    """Generate a dataset."""
    del folder
    return generate(request, target, progress)


def run_import(
    files: Sequence[Path],
    uploads: Path,
    target: Path,
    server: Path | None,
    clients: Sequence[ProposedClient],
    keep_names: bool,
    *,
    folder: Path,
    progress: ProgressCallback,
) -> ImportReport:
    """Make a dataset of uploaded files; their folder is removed then."""
    del folder
    try:
        return import_clients(
            files,
            target,
            server=server,
            keep_names=keep_names,
            clients=clients,
            progress=progress,
        )
    finally:
        shutil.rmtree(uploads, ignore_errors=True)


def run_average(
    path: Path,
    round_number: int,
    aggregator: str,
    parameters: Mapping[str, Any],
    weighting: str,
    leave_out: bool,
    history: bool,
    *,
    folder: Path,
    progress: ProgressCallback,
) -> AverageOutcome:
    """Average a round into a dataset of the job's own, and measure the aggregate if possible."""
    from fedviz.aggregation.average import average

    target = folder / "aggregate.h5"
    with WeightDataset(path) as dataset:
        result = average(
            dataset,
            round_number,
            weighting=weighting,
            aggregator=aggregator,
            parameters=parameters,
            divergent="leave-out" if leave_out else "refuse",
            history=history,
            progress=progress,
        )
        name = save_average(result, dataset, target)
        metrics = measured(result, dataset, name)
    if metrics:
        with WeightDatasetWriter.append(target) as writer:
            writer.write_metrics(0, metrics)
    return AverageOutcome(
        target,
        name,
        result.round,
        result.clients,
        result.left_out,
        result.engine,
        result.seconds,
    )


@dataclass(frozen=True, eq=False)
class CompareOutcome:
    """A comparison, and which clients it is of: by their file, and by what they hold."""

    path: Path
    digests: tuple[str, ...]
    found: Comparison


def run_compare(
    path: Path,
    round_number: int,
    candidates: Sequence[str],
    weighting: str,
    leave_out: bool,
    *,
    folder: Path,
    progress: ProgressCallback,
) -> CompareOutcome:
    """Apply several aggregators to a round; the models themselves are not kept."""
    del folder
    with WeightDataset(path) as dataset:
        found = compare(
            dataset,
            [parse_candidate(text) for text in candidates],
            round_number,
            weighting,
            progress,
            divergent="leave-out" if leave_out else "refuse",
        )
        digests = tuple(record.digest for record in dataset.round(round_number).records)
    return CompareOutcome(path, digests, found.without_models())


def run_grams(
    path: Path, round_number: int, kept_in: Path, *, folder: Path, progress: ProgressCallback
) -> None:
    """Compare a round's clients, and place all rounds in one space; keep what was found."""
    del folder
    with WeightDataset(path) as dataset:
        round_ = dataset.round(round_number)
        if kept_round_gram(kept_in, round_) is None:
            keep_round_gram(kept_in, round_, round_gram(round_, progress))
        if len(dataset.rounds) > 1 and kept_path_gram(kept_in, dataset) is None:
            keep_path_gram(kept_in, dataset, path_gram(dataset, progress))


@dataclass(frozen=True)
class TffAnswer:
    """What TFF says of some clients' models, in plain values.

    As :class:`fedviz.aggregation.frameworks.TffVerdict`, whose module imports TFF.
    """

    refuses: bool
    error: str
    type_error: str
    poisoned: tuple[str, ...]


def run_tff_verdicts(
    path: Path,
    round_number: int,
    models: Sequence[ClientModel],
    *,
    folder: Path,
    progress: ProgressCallback,
) -> tuple[TffAnswer, ...]:
    """Ask TFF what it does with each of these models of a round."""
    from fedviz.aggregation.frameworks import tff_verdict

    del folder, progress
    with WeightDataset(path) as dataset:
        verdicts = tff_verdict(dataset.round(round_number), models=models)
    return tuple(TffAnswer(v.refuses, v.error, v.type_error, v.poisoned) for v in verdicts)


def run_repair(
    planned_for: FileIdentity,
    plan: RepairPlan,
    target: Path,
    *,
    folder: Path,
    progress: ProgressCallback,
) -> Path:
    """Write the repaired dataset.

    Raises
    ------
    InvalidArgumentError
        The file is another one than when the plan was made.
    """
    del folder
    path = Path(planned_for.path)
    if FileIdentity.of(path) != planned_for:
        raise InvalidArgumentError(
            f"{path.name} has changed since the plan was made; look at the plan again."
        )
    with WeightDataset(path) as dataset:
        apply_repairs(plan, dataset, target, progress)
    return target


@dataclass(frozen=True)
class ReportOutcome:
    """A report that was made: its file, in the job's folder, and what it says first."""

    path: Path
    sentence: str


def run_report(
    path: Path, round_number: int, *, folder: Path, progress: ProgressCallback
) -> ReportOutcome:
    """Write the report of a round."""
    from fedviz.report import write_report
    from fedviz.report.wording import sentence

    target = folder / "report.html"
    with WeightDataset(path) as dataset:
        return ReportOutcome(
            target, sentence(write_report(dataset, target, round_number, progress))
        )
