"""Tables of tensors and of clients, with small pictures in their cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from fedviz.analysis.courses import client_scores, metric_of
from fedviz.analysis.statistics import RoundSummary
from fedviz.dashboard import cache, state, widgets
from fedviz.dashboard.state import Selection
from fedviz.figures.text import shape_text

__all__ = ["client_table", "tensor_table"]

_MOST_ROWS_SHOWN = 14
_ROW_HEIGHT = 34

column = st.column_config


def tensor_table(chosen: Selection, summary: RoundSummary) -> None:
    """One row for each float tensor; a click selects it and looks inside."""
    tensors = [t.name for t in summary.tensors]
    frame = pd.DataFrame([_tensor_row(chosen, t) for t in summary.tensors])
    teal = widgets.theme().aggregate
    _selectable(
        frame,
        "tensors",
        lambda row: state.keep(tensor=tensors[row]),
        {
            "tensor": column.TextColumn("Tensor", width=124),
            "shape": column.TextColumn("Shape", width=78),
            "share": column.ProgressColumn(
                "Parameters",
                format="%.1f %%",
                min_value=0,
                max_value=100,
                width=100,
                color="gray",
                help="Share of the model's parameters",
            ),
            "values": column.BarChartColumn(
                "Values", width=80, color="gray", help="Histogram of the values, centred on 0"
            ),
            "moved": column.NumberColumn(
                "Moved", format="%.1f %%", width=64, help="‖aggregate − server‖ / ‖server‖"
            ),
            "spread": column.NumberColumn(
                "Spread",
                format="%.0f %%",
                width=64,
                help="Standard deviation across the clients, over the tensor's rms",
            ),
            "clients": column.BarChartColumn(
                "By client", width=80, color="gray", help="Norm of each client's update"
            ),
            "rounds": column.LineChartColumn(
                "By round", width=76, color=teal, help="‖aggregate − server‖ over the rounds"
            ),
        },
    )


def _tensor_row(chosen: Selection, tensor: Any) -> dict[str, Any]:
    spec = chosen.dataset.signature[tensor.name]
    row: dict[str, Any] = {
        "tensor": spec.name,
        "shape": shape_text(spec.shape),
        "share": 100 * spec.size / max(1, chosen.dataset.num_parameters),
        "values": cache.small_histogram(chosen.round, spec.name, chosen.aggregate),
        "moved": _finite(100 * tensor.moved),
        "spread": _finite(100 * tensor.spread),
        "clients": np.nan_to_num(tensor.updates, posinf=0).tolist(),
    }
    if chosen.aggregate and len(chosen.dataset.rounds) > 1:
        row["rounds"] = _course(cache.movements(chosen.dataset, spec.name, chosen.aggregate))
    return row


def client_table(chosen: Selection, summary: RoundSummary) -> None:
    """One row for each client of the round; a click selects it."""
    records = chosen.round.records
    rows = [_client_row(chosen, summary, i) for i in range(len(records))]
    frame = pd.DataFrame(rows)
    frame = frame.loc[:, [c for c in frame if not frame[c].map(_absent).all()]]
    most = max((r.num_examples or 0 for r in records), default=1)
    _selectable(
        frame,
        "clients",
        lambda row: state.keep(client=records[row].id) if records[row].conforming else None,
        {
            "client": column.TextColumn("Client", width=64),
            "examples": column.ProgressColumn(
                "Examples",
                format="%d",
                min_value=0,
                max_value=max(1, most),
                width=100,
                color="gray",
                help="num_examples: the client's weight in the mean",
            ),
            "labels": column.BarChartColumn(
                "Labels", width=92, color="gray", help="Examples of each label, from label 0"
            ),
            "accuracy": column.ProgressColumn(
                "Accuracy",
                format="%.2f",
                min_value=0,
                max_value=1,
                width=88,
                color="gray",
                help="Of the client alone, on held-out data",
            ),
            "loss": column.NumberColumn("Loss", format="%.3f", width=64),
            "update": column.NumberColumn(
                "Update", format="%.2f", width=64, help="Norm of client − server"
            ),
            "distance": column.NumberColumn(
                "Distance", format="%.2f", width=66, help="Norm of client − aggregate"
            ),
            "course": column.LineChartColumn(
                "By round", width=80, color="gray", help="Distance to the aggregate"
            ),
            "note": column.TextColumn("Note", width=110),
        },
    )


def _client_row(chosen: Selection, summary: RoundSummary, i: int) -> dict[str, Any]:
    round_, record = chosen.round, chosen.round.records[i]
    metric = metric_of(round_)
    row: dict[str, Any] = {"client": record.id, "examples": record.num_examples}
    if round_.label_counts is not None:
        row["labels"] = round_.label_counts[i].tolist()
    if metric:
        row[metric] = _finite(client_scores(round_, metric)[record.id])
    if record.row is None:
        return {**row, "note": "other signature"}
    row["update"] = _finite(summary.updates[record.row])
    row["distance"] = _finite(summary.distances[record.row])
    if summary.nonfinite[record.row]:
        row["note"] = f"{summary.nonfinite[record.row]} not finite"
    if chosen.aggregate and len(chosen.dataset.rounds) > 1:
        courses = cache.distances_by_round(chosen.dataset, chosen.aggregate)
        row["course"] = _course(courses[record.id]) if courses else None
    return row


def _selectable(
    frame: pd.DataFrame, key: str, chosen: Callable[[int], None], config: dict[str, Any]
) -> None:
    def on_select() -> None:
        cells = st.session_state[key]["selection"]["cells"]
        if cells:
            chosen(int(cells[0][0]))

    shown = len(frame) <= _MOST_ROWS_SHOWN
    st.dataframe(
        frame,
        hide_index=True,
        height="content" if shown else (_MOST_ROWS_SHOWN + 1) * _ROW_HEIGHT + 12,
        row_height=_ROW_HEIGHT,
        on_select=on_select,
        selection_mode="single-cell",
        key=key,
        column_config=config,
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _course(values: list[float]) -> list[float] | None:
    finite = [v for v in values if np.isfinite(v)]
    return finite if len(finite) > 1 else None
