"""A report as HTML: one file that asks nobody for anything.

Names in it come from files that are not trusted. Jinja2 escapes all text; figures are JSON in
which no ``<`` is left; and a content security policy in the file itself forbids the browser to
load anything or to send anything anywhere.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from fedviz.dataset import WeightDataset
from fedviz.errors import InvalidArgumentError
from fedviz.figures.signature_view import kind_name
from fedviz.figures.text import byte_size, counted, decimals, number, percentage, shape_text
from fedviz.figures.theme import DARK, KIND_BADGE, KIND_LETTER, LIGHT, Theme
from fedviz.files import complete_or_absent
from fedviz.progress import ProgressCallback, silent
from fedviz.report import wording
from fedviz.report.contents import ReportContents, report_contents
from fedviz.report.plots import plots_of
from fedviz.signature import tff_type_of_round

__all__ = ["check_report_name", "render_report", "write_report"]

_FOLDER = Path(__file__).parent
_MOST_MISMATCH_ROWS = 200
_LONGEST_VALUE = 300


def check_report_name(out: Path) -> None:
    """Refuse, before anything is computed, a name that is not HTML's.

    Raises
    ------
    InvalidArgumentError
        It does not end in ``.html``.
    """
    if out.suffix not in (".html", ".htm"):
        raise InvalidArgumentError(f"{out.name}: expected a name that ends in .html.")


def write_report(
    dataset: WeightDataset | str | Path,
    out: str | Path,
    round: int = -1,
    progress: ProgressCallback = silent,
) -> ReportContents:
    """Write a report of one round; the file appears when it is complete.

    Parameters
    ----------
    dataset : WeightDataset or path
    out : path
        Ends in ``.html``.
    round : int, default -1
        Its number; -1 is the last.
    progress : callable, optional
        It may raise ``JobCancelledError``; nothing is written then.

    Returns
    -------
    ReportContents
        What the report says.

    Raises
    ------
    InvalidArgumentError
        The name does not end in ``.html``.
    UnknownNameError
        There is no such round.
    DatasetFormatError, StorageError
        The round cannot be read, or the file not be written.
    """
    target = Path(out)
    check_report_name(target)
    if not isinstance(dataset, WeightDataset):
        with WeightDataset(dataset) as opened:
            return write_report(opened, target, round, progress)
    contents = report_contents(dataset, round, progress)
    html = render_report(contents)
    with complete_or_absent(target) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return contents


def render_report(contents: ReportContents) -> str:
    """The report as HTML, with plotly's library in it."""
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=contents,
            sentence=wording.sentence(contents),
            facts=wording.facts(contents),
            metrics=wording.metrics(contents),
            mismatches=_mismatch_rows(contents),
            most_mismatches=_MOST_MISMATCH_ROWS,
            plots=plots_of(contents),
            methods=wording.methods(contents),
            aggregates=_aggregate_settings(contents),
            recipe=json.dumps(contents.dataset.recipe, indent=1, ensure_ascii=False),
            tff_type=tff_type_of_round(contents.dataset.signature),
            light=_variables(LIGHT),
            dark=_variables(DARK),
            style=Markup((_FOLDER / "report.css").read_text("utf-8")),
            script=Markup((_FOLDER / "report.js").read_text("utf-8")),
            plotly=Markup(get_plotlyjs()),
        )
    )


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "name": _one_line,
        "number": _number,
        "score": lambda value: "–" if value is None or math.isnan(value) else decimals(value),
        "share": lambda value: "–" if math.isnan(value) else percentage(value),
        "size": byte_size,
        "shape": shape_text,
        "counted": counted,
    }
    return environment


def _one_line(name: object) -> str:
    """A text from a file, without what turns, hides or breaks a line."""
    return "".join(c if c.isprintable() else "�" for c in str(name))


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else number(value)


def _variables(theme: Theme) -> Markup:
    """A theme's colours as CSS variables; they are ours, and are hexadecimal."""
    names = ("page", "panel", "ink", "sub", "faint", "rule", "fine", "aggregate")
    lines = [f"--{name}: {getattr(theme, name)};" for name in names]
    for swatch in ("red", "orange", "blue", "violet", "gray", "green"):
        found = getattr(theme, swatch)
        lines += [f"--{swatch}-text: {found.text};", f"--{swatch}-back: {found.background};"]
    return Markup(" ".join(lines))


@dataclasses.dataclass(frozen=True)
class _MismatchRow:
    letter: str
    kind: str
    badge: str
    whom: str
    tensor: str
    expected: str
    found: str
    cause: str


def _mismatch_rows(contents: ReportContents) -> list[_MismatchRow]:
    rows = []
    for group in contents.groups:
        for mismatch in group.mismatches:
            own = mismatch.nonfinite is not None and len(group.clients) > 1
            rows.append(
                _MismatchRow(
                    KIND_LETTER[mismatch.kind],
                    kind_name(mismatch.kind),
                    KIND_BADGE[mismatch.kind],
                    _whom(group.clients),
                    mismatch.tensor,
                    mismatch.expected,
                    "NaN or infinite, each its own" if own else mismatch.actual,
                    mismatch.cause,
                )
            )
    return rows


def _whom(clients: Sequence[str], most: int = 6) -> str:
    more = f" and {len(clients) - most:,} more" if len(clients) > most else ""
    return ", ".join(clients[:most]) + more


def _aggregate_settings(contents: ReportContents) -> list[tuple[str, list[tuple[str, str]]]]:
    """Parameters and measurements of the aggregates in the file, shortened."""
    found = []
    for name, each in contents.round.aggregates.items():
        settings: dict[str, Any] = {
            "aggregator": each.aggregator,
            "weighting": each.weighting,
            **each.parameters,
            **each.measurements,
        }
        known = [(k, _short(v)) for k, v in settings.items() if v not in (None, "", [], {})]
        found.append((name, known))
    return found


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} …"
