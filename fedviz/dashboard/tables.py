"""Tables of tensors and of clients, with small pictures in their cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from fedviz.analysis.courses import client_scores, metric_of
from fedviz.analysis.statistics import RoundSummary, TensorSummary
from fedviz.dashboard import cache, round_values, state, widgets
from fedviz.dashboard.state import Selection
from fedviz.figures.text import shape_text
from fedviz.signature import TensorSpec

__all__ = ["client_table", "tensor_table"]

_MOST_ROWS_SHOWN = 14
_MOST_BARS = 40
_ROW_HEIGHT = 34

column = st.column_config


def tensor_table(chosen: Selection, summary: RoundSummary | None) -> None:
    """One row for each tensor of the signature; a click selects it and looks inside.

    Without a summary the rows hold what the index says.
    """
    specs = _found(list(chosen.dataset.signature), "tensor", lambda spec: spec.name)
    known = {} if summary is None else {each.name: each for each in summary.tensors}
    whole = max(1, chosen.dataset.num_parameters)
    frame = pd.DataFrame([_tensor_row(chosen, s, known.get(s.name), whole) for s in specs])
    _selectable(
        _without_absent(frame),
        "tensors",
        lambda row: state.keep(tensor=specs[row].name),
        _tensor_columns(len(chosen.round.conforming)),
    )


def _tensor_columns(clients: int) -> dict[str, Any]:
    across = (
        "Norm of each client's update"
        if clients <= _MOST_BARS
        else f"Norms of the clients' updates, the smallest first, in {_MOST_BARS} quantiles"
    )
    return {
        "tensor": column.TextColumn("Tensor", width=170),
        "shape": column.TextColumn("Shape", width=96),
        "share": column.ProgressColumn(
            "Parameters",
            format="%.1f %%",
            min_value=0,
            max_value=100,
            width=112,
            color="gray",
            help="Share of the model's parameters",
        ),
        "values": column.BarChartColumn(
            "Values", width=92, color="gray", help="Histogram of the values, centred on 0"
        ),
        "norm": column.NumberColumn(
            "Norm", format="%.3g", width=72, help="Euclidean norm, of the aggregate if there is one"
        ),
        "moved": column.NumberColumn(
            "Moved", format="%.1f %%", width=72, help="‖aggregate − server‖ / ‖server‖"
        ),
        "drift": column.NumberColumn(
            "Drift", format="%.1f %%", width=72, help="Median of ‖client − server‖ / ‖server‖"
        ),
        "spread": column.NumberColumn(
            "Spread",
            format="%.0f %%",
            width=72,
            help="Standard deviation across the clients, over the tensor's rms",
        ),
        "zeros": column.NumberColumn(
            "Zeros", format="%.1f %%", width=72, help="Share of the values that are exactly 0"
        ),
        "nonfinite": column.NumberColumn(
            "Not finite", format="%d", width=84, help="NaN and infinite values of all clients"
        ),
        "clients": column.BarChartColumn("By client", width=104, color="gray", help=across),
        "rounds": column.LineChartColumn(
            "By round",
            width=92,
            color=widgets.theme().aggregate,
            help="‖aggregate − server‖ over the rounds",
        ),
    }


def _tensor_row(
    chosen: Selection, spec: TensorSpec, found: TensorSummary | None, parameters: int
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "tensor": spec.name,
        "shape": shape_text(spec.shape) if spec.is_float else f"{spec}",
        "share": 100 * spec.size / parameters,
    }
    if found is None:
        return row
    row |= {
        "values": cache.small_histogram(chosen.round, spec.name, chosen.aggregate),
        "norm": _finite(found.norm),
        "moved": _finite(100 * found.moved),
        "drift": _finite(100 * found.drift),
        "spread": _finite(100 * found.spread),
        "zeros": _finite(100 * found.zeros),
        "nonfinite": int(found.nonfinite.sum()),
        "clients": _few_bars(found.updates),
    }
    dataset = chosen.dataset
    if chosen.aggregate and len(dataset.rounds) > 1 and round_values.rounds_are_few(dataset):
        row["rounds"] = _course(round_values.movements(dataset, spec.name, chosen.aggregate))
    return row


def _few_bars(norms: np.ndarray) -> list[float]:
    """A bar for each client; of a large cohort, quantiles: a cell has no room for more."""
    known = np.nan_to_num(norms, posinf=0)
    if known.size > _MOST_BARS:
        known = np.quantile(known, np.linspace(0, 1, _MOST_BARS))
    return [float(value) for value in known]


def client_table(chosen: Selection, summary: RoundSummary | None) -> None:
    """One row for each client of the round; a click selects it."""
    records = _found(list(chosen.round.records), "client", lambda record: record.id)
    facts = _ClientFacts(chosen, summary)
    frame = pd.DataFrame([facts.row(record.id) for record in records])
    most = max((r.num_examples or 0 for r in chosen.round.records), default=1)
    _selectable(
        _without_absent(frame),
        "clients",
        lambda row: state.keep(client=records[row].id) if records[row].conforming else None,
        {
            "client": column.TextColumn("Client", width=80),
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


class _ClientFacts:
    """What is known of each client, looked up once for the whole table."""

    def __init__(self, chosen: Selection, summary: RoundSummary | None) -> None:
        round_ = chosen.round
        self._metric = metric_of(round_)
        self._scores = client_scores(round_, self._metric) if self._metric else {}
        self._labels = round_.label_counts
        self._places = {record.id: i for i, record in enumerate(round_.records)}
        self._records = round_.records
        self._updates = None if summary is None else summary.updates
        self._distances = None if summary is None else summary.distances
        self._nonfinite = None if summary is None else summary.nonfinite
        self._courses: dict[str, list[float]] = {}
        if summary is not None and chosen.aggregate and len(chosen.dataset.rounds) > 1:
            self._courses = round_values.distances_by_round(chosen.dataset, chosen.aggregate)

    def row(self, client: str) -> dict[str, Any]:
        place = self._places[client]
        record = self._records[place]
        row: dict[str, Any] = {"client": client, "examples": record.num_examples}
        if self._labels is not None:
            row["labels"] = self._labels[place].tolist()
        if self._metric:
            row[self._metric] = _finite(self._scores[client])
        if record.row is None:
            return {**row, "note": "other signature"}
        if self._updates is None or self._distances is None or self._nonfinite is None:
            return row
        row["update"] = _finite(self._updates[record.row])
        row["distance"] = _finite(self._distances[record.row])
        if self._nonfinite[record.row]:
            row["note"] = f"{self._nonfinite[record.row]} not finite"
        if client in self._courses:
            row["course"] = _course(self._courses[client])
        return row


def _found(items: list[Any], noun: str, name: Callable[[Any], str]) -> list[Any]:
    """Those whose name holds what is searched for; a short list needs no search."""
    if len(items) <= _MOST_ROWS_SHOWN:
        return items
    search = st.text_input(
        f"Search {noun}s",
        key=f"find_{noun}",
        placeholder=f"{noun.capitalize()}, or part of its name",
        icon=":material/search:",
        max_chars=200,
        width=320,
        label_visibility="collapsed",
    )
    wanted = (search or "").strip().casefold()
    found = [item for item in items if wanted in name(item).casefold()]
    if not found:
        st.markdown(f":gray[No {noun} has {widgets.literal(wanted)} in its name.]")
    return found


def _without_absent(frame: pd.DataFrame) -> pd.DataFrame:
    """Without columns in which nothing is known."""
    return frame.loc[:, [c for c in frame if not frame[c].map(_absent).all()]]


def _selectable(
    frame: pd.DataFrame, key: str, chosen: Callable[[int], None], config: dict[str, Any]
) -> None:
    if frame.empty:
        return

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
        placeholder="–",
        key=key,
        column_config=config,
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _course(values: Sequence[float]) -> list[float] | None:
    finite = [v for v in values if np.isfinite(v)]
    return finite if len(finite) > 1 else None
