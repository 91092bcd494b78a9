"""The sentences of a report: plain text, which the template escapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedviz.analysis.courses import aggregate_scores
from fedviz.figures.text import byte_size, counted, decimals, number
from fedviz.report.contents import ReportContents

__all__ = ["facts", "methods", "metrics", "report_json", "report_text", "sentence"]


def sentence(contents: ReportContents) -> str:
    """What is to be known of the round before all else."""
    health = contents.health
    if not health.clients:
        return f"Round {contents.round.number} has no clients: there is nothing to average."
    if not health.fit:
        return (
            f"{len(health.unfit):,} of {counted(health.clients, 'client')} of round "
            f"{contents.round.number} cannot be averaged as they are."
        )
    concerned = len(contents.check.clients_concerned)
    if concerned:
        differ = "differs" if concerned == 1 else "differ"
        return (
            f"{concerned:,} of {counted(health.clients, 'client')} {differ} from the server model."
        )
    gain = _gain(contents)
    return gain or (
        f"{counted(health.clients, 'client')}, one signature: round {contents.round.number} is "
        "fit to be averaged."
    )


def _gain(contents: ReportContents) -> str:
    metric, name = contents.metric, contents.aggregate
    if metric is None or name is None:
        return ""
    score = aggregate_scores(contents.round, metric).get(name)
    known = contents.aggregates.clients[np.isfinite(contents.aggregates.clients)]
    if score is None or not known.size:
        return ""
    best = known.max() if metric == "accuracy" else known.min()
    return (
        f"The {name} of {counted(contents.health.clients, 'client')} reaches {metric} "
        f"{decimals(score)}; the best client alone reaches {decimals(float(best))}."
    )


def facts(contents: ReportContents) -> list[tuple[str, str]]:
    """Health at a glance: a text and one of fine, know, act."""
    health = contents.health
    agree = health.clients - len(health.divergent)
    found = [
        (
            f"{agree:,} of {health.clients:,} signatures agree",
            "act" if health.divergent else "fine",
        ),
        (f"{counted(len(health.nonfinite), 'client')} with NaN or infinite values", "act")
        if health.nonfinite
        else ("all values finite", "fine"),
        (f"num_examples unknown or 0 for {len(health.unweighted):,}", "know")
        if health.unweighted
        else ("num_examples known, all above 0", "fine"),
    ]
    if len(health.dtypes) > 1:
        found.append((f"mixed dtypes: {', '.join(health.dtypes)}", "know"))
    if health.skewed:
        text = f"two labels make up over 70% in {counted(len(health.skewed), 'client')}"
        found.append((text, "know"))
    if contents.unreadable:
        text = f"{counted(len(contents.unreadable), 'other round')} cannot be read"
        found.append((text, "act"))
    return found


def metrics(contents: ReportContents) -> list[tuple[str, str]]:
    """The numbers that matter: label and value."""
    dataset, round_ = contents.dataset, contents.round
    known = [r.num_examples for r in round_.records if r.num_examples is not None]
    found = [
        ("Clients in this round", f"{len(round_.records):,}"),
        ("Rounds in the file", f"{len(dataset.rounds):,}"),
        (f"Parameters, in {counted(len(dataset.signature), 'tensor')}", _parameters(contents)),
    ]
    if known:
        found.append((f"Examples, {min(known):,} to {max(known):,} each", f"{sum(known):,}"))
    scores = aggregate_scores(round_, contents.metric) if contents.metric else {}
    if contents.aggregate in scores:
        found.append((f"Aggregate's {contents.metric}", decimals(scores[contents.aggregate])))
    distances = contents.summary.distances[np.isfinite(contents.summary.distances)]
    if distances.size:
        found.append(("Mean distance to it", number(float(distances.mean()))))
    return found


def _parameters(contents: ReportContents) -> str:
    return f"{contents.dataset.num_parameters:,}"


def methods(contents: ReportContents) -> list[tuple[str, str]]:
    """How the numbers came about: a term and what it means here."""
    dataset = contents.dataset
    return [
        (
            "File",
            f"{dataset.path.name}, {byte_size(dataset.nbytes)}, written by {dataset.producer}, "
            f"{dataset.created[:10]}; round {contents.round.number} of "
            f"{counted(len(dataset.rounds), 'round')}. Nothing in it was changed.",
        ),
        (
            "Mismatches",
            "Every client of the round against the server model, that is the dataset's own "
            "signature: names, order, rank, shape and dtype, every value for NaN and infinity, "
            "and, where there is a server model, tensors that hold each other's values. Causes "
            "are guesses from the pattern of a difference.",
        ),
        ("Update", "client − server, and its Euclidean norm over all float tensors."),
        ("Distance", "‖client − aggregate‖, over all float tensors."),
        (
            "Spread",
            "the standard deviation across the clients (root of its mean square over the cells), "
            "over the tensor's root mean square.",
        ),
        ("Moved", "‖aggregate − server‖ / ‖server‖."),
        (
            "Influence",
            "how far the weighted mean moves when the client is left out: "
            "w / (1 − w) · ‖client − mean‖, with w the client's share.",
        ),
        (
            "Heatmaps",
            "One scale for all panels of a tensor, up to the 99.5th percentile of the absolute "
            "weights; differences on a scale that is narrower by the factor in their title. "
            "Larger tensors are drawn in blocks that show their value furthest from 0.",
        ),
        ("Precision", "All sums in float64, over the values as they are in the file."),
        ("Versions", ", ".join(f"{name} {version}" for name, version in contents.versions)),
    ]


def report_json(contents: ReportContents, out: Path) -> dict[str, Any]:
    """The JSON of ``fedviz report``."""
    return {
        "out": str(out),
        "bytes": out.stat().st_size,
        "round": contents.round.number,
        "clients": contents.health.clients,
        "consistent": contents.check.consistent,
        "mismatches": len(contents.check.mismatches),
        "aggregate": contents.aggregate,
        "sentence": sentence(contents),
    }


def report_text(contents: ReportContents, out: Path) -> str:
    """What ``fedviz report`` says to people."""
    size = byte_size(out.stat().st_size)
    return f"{out}: {size}, round {contents.round.number}. {sentence(contents)}"
