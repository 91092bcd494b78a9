"""One self-contained HTML file about one round of a dataset."""

from __future__ import annotations

from fedviz.report.contents import ReportContents, report_contents
from fedviz.report.rules import RuleRow, compare_rules
from fedviz.report.wording import report_json, report_text
from fedviz.report.writing import render_report, write_report

__all__ = [
    "ReportContents",
    "RuleRow",
    "compare_rules",
    "render_report",
    "report_contents",
    "report_json",
    "report_text",
    "write_report",
]
