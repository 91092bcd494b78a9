"""What the command says of a dataset and of a check, as JSON and as text."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from fedviz.aggregation.aggregators import AGGREGATORS, Aggregator
from fedviz.analysis.check_report import (
    CheckReport,
    ClientMismatch,
    MismatchGroup,
    Observation,
    group_by_pattern,
    mismatch_text,
)
from fedviz.dataset import WeightDataset
from fedviz.errors import located
from fedviz.hdf5_format import FORMAT_VERSION
from fedviz.signature import Mismatch, tff_type_of_round

__all__ = [
    "aggregators_json",
    "aggregators_text",
    "check_github",
    "check_junit",
    "check_text",
    "dataset_info",
    "dataset_text",
    "table_text",
]

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
    """The findings of a check, for people: a line each, alike clients together; then the count."""
    lines = [_observation_line(observation) for observation in report.observations]
    if report.consistent:
        return "\n".join(
            [
                *_first_lines(lines),
                f"{report.clients} clients agree with the reference ({report.reference}).",
            ]
        )
    kinds = Counter(found.mismatch.kind.value for found in report.mismatches)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    lines = [
        _group_line(group, mismatch)
        for group in group_by_pattern(report)
        for mismatch in group.mismatches
    ] + lines
    concerned = len(report.clients_concerned)
    return "\n".join(
        [
            *_first_lines(lines),
            f"{concerned} of {report.clients} clients differ from the reference "
            f"({report.reference}): {counted}.",
        ]
    )


def _first_lines(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - _MOST_ROWS
    more = [f"… and {rest:,} more; --json has them all"] if rest > 0 else []
    return [*lines[:_MOST_ROWS], *more]


def _observation_line(observation: Observation) -> str:
    return _printable(f"note: {observation}")


def _group_line(group: MismatchGroup, mismatch: Mismatch) -> str:
    """One mismatch of a group of clients: where, expected, found, and why."""
    if len(group.places) > 1 and mismatch.nonfinite is not None:
        # How many values, and where, is each client's own.
        mismatch = dataclasses.replace(mismatch, actual="NaN or infinite ones")
    if len(group.places) == 1:
        number, client = group.places[0]
        return _printable(str(ClientMismatch(number, client, mismatch)))
    what = _printable(located(mismatch_text(mismatch), tensor=mismatch.tensor))
    return f"{_places(group)}, {what}"


def _places(group: MismatchGroup) -> str:
    rounds, clients = group.rounds, group.clients
    numbers = f"round {rounds[0]}" if len(rounds) == 1 else f"rounds {_listed(map(str, rounds))}"
    if len(clients) == 1:
        return f"{numbers}, client {_printable(clients[0])}"
    return f"{numbers}, {len(clients):,} clients ({_listed(map(_printable, clients))})"


def _listed(names: Iterable[str], limit: int = 6) -> str:
    listed = list(names)
    return ", ".join(listed[:limit]) + (" …" if len(listed) > limit else "")


def _printable(text: str) -> str:
    """A text in one line, and fit for XML: control characters are shown as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def check_junit(report: CheckReport, file: str | Path) -> str:
    """The findings of a check as JUnit XML: a test case for each client.

    Parameters
    ----------
    report : CheckReport
    file : path
        What was checked; names the test suite.

    Returns
    -------
    str
        A whole document; a client with mismatches is a failed test case that lists them all.
    """
    lines: dict[str, list[str]] = {client: [] for client in report.client_ids}
    kinds: dict[str, list[str]] = {client: [] for client in report.client_ids}
    for found in report.mismatches:
        lines[found.client].append(_printable(str(found)))
        kinds[found.client].append(found.mismatch.kind.value)
    counts = {
        "tests": str(len(lines)),
        "failures": str(len(report.clients_concerned)),
        "errors": "0",
        "skipped": "0",
    }
    suites = ElementTree.Element("testsuites", counts)
    name = _printable(f"fedviz check {file} --reference {report.reference}")
    suite = ElementTree.SubElement(suites, "testsuite", {"name": name, **counts})
    for client, said in lines.items():
        names = {"classname": _printable(str(file)), "name": _printable(client)}
        case = ElementTree.SubElement(suite, "testcase", names)
        if said:
            failure = ElementTree.SubElement(
                case,
                "failure",
                {"type": kinds[client][0], "message": said[0] + _and_more(len(said) - 1)},
            )
            failure.text = "\n".join(said)
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'


def _and_more(count: int) -> str:
    return f" (and {count:,} more)" if count else ""


def check_github(report: CheckReport, file: str | Path) -> str:
    """The findings of a check as annotations of a GitHub workflow, one for each pattern.

    References
    ----------
    GitHub, Workflow commands for GitHub Actions, "Setting an error message".
    """
    place = f"file={_github_property(str(file))}"
    if report.consistent:
        return f"::notice {place}::{_github_text(check_text(report))}"
    annotations = []
    for group in group_by_pattern(report):
        title = _github_property(f"{group}, against {report.reference}")
        lines = [_group_line(group, mismatch) for mismatch in group.mismatches]
        text = _github_text("\n".join(_first_lines(lines)))
        annotations.append(f"::error {place},title={title}::{text}")
    return "\n".join(annotations)


def _github_text(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _github_property(text: str) -> str:
    return _github_text(text).replace(":", "%3A").replace(",", "%2C")


def table_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table with aligned columns."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]


def aggregators_json() -> dict[str, Any]:
    """The JSON of ``fedviz aggregators``."""
    return {"aggregators": list(map(_aggregator_json, AGGREGATORS.values()))}


def _aggregator_json(each: Aggregator) -> dict[str, Any]:
    return {
        "name": each.name,
        "title": each.title,
        "description": each.description,
        "formula": each.formula,
        "source": each.source,
        "protects_against": each.protects_against,
        "engine": each.engine,
        "cohort": each.cohort,
        "weighted": each.weighted,
        "needs_server": each.needs_server,
        "history": each.history,
        "parameters": [
            {"name": p.name, "default": p.default, "range": p.range, "help": p.help}
            for p in each.parameters
        ],
    }


def aggregators_text() -> str:
    """Every aggregator with its formula and its parameters, for people."""
    return "\n\n".join(map(_aggregator_text, AGGREGATORS.values()))


def _aggregator_text(each: Aggregator) -> str:
    lines = [
        f"{each.name}: {each.description}",
        f"  {each.formula}",
        f"  {each.cohort}; protects against {each.protects_against}",
        f"  {each.source}",
    ]
    settings = [f"    {p.name} = {p.default} ({p.range}): {p.help}" for p in each.parameters]
    return "\n".join([*lines, *settings])
