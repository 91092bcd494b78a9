"""What the command says of a dataset and of a check, as JSON and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from fedviz.analysis.check import CheckReport
from fedviz.dataset import WeightDataset
from fedviz.hdf5_format import FORMAT_VERSION
from fedviz.signature import tff_type_of_round

__all__ = ["check_text", "dataset_info", "dataset_text", "table_text"]

_MOST_ROWS = 200


def dataset_info(dataset: WeightDataset) -> dict[str, Any]:
    """The index of a dataset: the JSON of ``fedviz info``.

    ``num_examples`` is that of the latest round the client took part in, null where unknown.
    """
    examples: dict[str, int | None] = {}
    for each in dataset.rounds:
        for record in each.records:
            examples[record.id] = record.num_examples
    return {
        "file": str(dataset.path),
        "format_version": FORMAT_VERSION,
        "producer": dataset.producer,
        "created": dataset.created,
        "recipe": dataset.recipe,
        "rounds": [each.number for each in dataset.rounds],
        "clients": [{"id": c, "num_examples": n} for c, n in examples.items()],
        "tensors": [
            {"name": t.name, "shape": list(t.shape), "dtype": t.dtype, "trainable": t.trainable}
            for t in dataset.signature
        ],
        "num_parameters": dataset.num_parameters,
        "bytes": dataset.nbytes,
        "tff_type": tff_type_of_round(dataset.signature),
        "divergent": {
            str(each.number): [record.id for record in each.divergent]
            for each in dataset.rounds
            if each.divergent
        },
        "aggregates": {
            str(each.number): list(each.aggregates) for each in dataset.rounds if each.aggregates
        },
    }


def dataset_text(dataset: WeightDataset) -> str:
    """The index of a dataset, for people."""
    info = dataset_info(dataset)
    known = [c["num_examples"] for c in info["clients"] if c["num_examples"] is not None]
    rounds = f"{len(info['rounds'])} round{'s' if len(info['rounds']) != 1 else ''}"
    head = (
        f"{dataset.path.name}: {rounds}, {len(info['clients'])} clients, "
        f"{info['num_parameters']:,} parameters in {len(info['tensors'])} tensors, "
        f"{info['bytes']:,} bytes"
    )
    lines = [head]
    if known:
        lines.append(f"examples: {sum(known):,} in all, {min(known):,} to {max(known):,} a client")
    accuracy = _accuracy_line(dataset)
    if accuracy:
        lines.append(accuracy)
    tensors = [
        (t.name, t.tff_type, {True: "trainable", False: "not trainable", None: ""}[t.trainable])
        for t in dataset.signature
    ]
    return "\n".join([*lines, "", *table_text(("tensor", "type", ""), tensors)])


def _accuracy_line(dataset: WeightDataset) -> str:
    """What averaging gained in the last round, where it was measured on held-out data."""
    if not dataset.rounds:
        return ""
    last = dataset.round()
    clients = [m.value for m in last.metrics if (m.role, m.name) == ("client", "accuracy")]
    aggregates = {
        m.subject: m.value for m in last.metrics if (m.role, m.name) == ("aggregate", "accuracy")
    }
    if not clients or not aggregates:
        return ""
    name, value = max(aggregates.items(), key=lambda item: item[1])
    return (
        f"held-out accuracy in round {last.number}: {name} {value:.3f}, "
        f"clients {sum(clients) / len(clients):.3f} on average, {max(clients):.3f} at best"
    )


def check_text(report: CheckReport) -> str:
    """The findings of a check, for people: a line each, then the count."""
    if report.consistent:
        return f"{report.clients} clients agree with the reference ({report.reference})."
    kinds = Counter(found.mismatch.kind.value for found in report.mismatches)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    lines = [str(found) for found in report.mismatches[:_MOST_ROWS]]
    if len(report.mismatches) > _MOST_ROWS:
        lines.append(f"… and {len(report.mismatches) - _MOST_ROWS:,} more; --json has them all")
    concerned = len(report.clients_concerned)
    return "\n".join(
        [
            *lines,
            f"{concerned} of {report.clients} clients differ from the reference "
            f"({report.reference}): {counted}.",
        ]
    )


def table_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table with aligned columns."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
