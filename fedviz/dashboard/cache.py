"""What is computed once and kept: keyed by the file's identity, never by arrays.

``st.cache_resource`` hands out what it keeps without copying it; nobody changes what it gets.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from fedviz import generation
from fedviz.analysis import aggregates, courses, nonfinite_window
from fedviz.analysis import before_after as comparison
from fedviz.analysis import check as checking
from fedviz.analysis import client_histograms as counting
from fedviz.analysis import movers as moving
from fedviz.analysis import round_courses as over_rounds
from fedviz.analysis.heatmap import Plane, Window, layout_for
from fedviz.analysis.models import Models, Role
from fedviz.analysis.scales import ClientHistograms, histogram, shared_limit
from fedviz.analysis.statistics import RoundSummary
from fedviz.dashboard.engine import Engine
from fedviz.dashboard.references import ReferenceChoice, resolve
from fedviz.dataset import Aggregate, FileIdentity, Round, WeightDataset
from fedviz.training.partitions import label_counts

__all__ = [
    "HASH_KEYS",
    "before_after",
    "checked",
    "client_histograms",
    "compared",
    "engine",
    "label_shares",
    "light_engine",
    "metric_courses",
    "movers",
    "opened",
    "patterns",
    "reads_every_round",
    "reference",
    "small_histogram",
    "tensor_over_rounds",
    "unsaved_aggregate",
    "values_are_few",
    "values_around",
]

_SMALL_DATASET_BYTES = 256 * 2**20
"""Up to this size every value of a round is looked at without being asked."""

_FEW_TENSORS = 1000
"""Tensors of divergent clients, each read by itself, that are looked at without being asked."""

_SMALL_BINS = 17


def _dataset_key(dataset: WeightDataset) -> tuple[Any, ...]:
    return dataclasses.astuple(dataset.identity)


def _round_key(round_: Round) -> tuple[Any, ...]:
    return (*_dataset_key(round_.dataset), round_.number)


HASH_KEYS: dict[str | type[Any], Any] = {WeightDataset: _dataset_key, Round: _round_key}
"""What a cached function is keyed on where it takes a dataset or a round: the file's identity."""


@st.cache_resource(show_spinner=False)
def engine() -> Engine:
    """The one engine of this server that loads TensorFlow."""
    return Engine()


@st.cache_resource(show_spinner=False)
def light_engine() -> Engine:
    """The engine of jobs that need no TensorFlow, and are not to wait for it."""
    return Engine()


def opened(path: Path) -> WeightDataset:
    """A dataset, opened once for each state of its file."""
    return _opened(FileIdentity.of(path))


@st.cache_resource(show_spinner=False, max_entries=16)
def _opened(identity: FileIdentity) -> WeightDataset:
    return WeightDataset(identity.path)


@st.cache_resource(show_spinner=False, max_entries=64, hash_funcs=HASH_KEYS)
def reference(round_: Round, choice: ReferenceChoice) -> checking.Reference:
    """What the clients of a round are compared with."""
    return resolve(round_, choice)


@st.cache_resource(show_spinner="Comparing the clients …", max_entries=64, hash_funcs=HASH_KEYS)
def checked(
    round_: Round, choice: ReferenceChoice, look_at: checking.LookAt
) -> checking.CheckReport:
    """The mismatches of one round."""
    expected = reference(round_, choice)
    return checking.check(round_.dataset, expected, round=round_.number, look_at=look_at)


@st.cache_resource(show_spinner=False, max_entries=64, hash_funcs=HASH_KEYS)
def patterns(
    round_: Round, choice: ReferenceChoice, look_at: checking.LookAt
) -> tuple[checking.MismatchGroup, ...]:
    """The clients of a round that differ, those together that differ in the same way."""
    return checking.group_by_pattern(checked(round_, choice, look_at))


def values_are_few(round_: Round) -> bool:
    """Whether a look at every value of a round takes no more than a moment."""
    apart = len(round_.divergent) * len(round_.dataset.signature)
    return round_.dataset.nbytes <= _SMALL_DATASET_BYTES and apart <= _FEW_TENSORS


@st.cache_resource(show_spinner=False, max_entries=256, hash_funcs=HASH_KEYS)
def values_around(
    round_: Round, client: str, tensor: str, index: tuple[int, ...]
) -> nonfinite_window.ValueWindow:
    """The values around one cell of a client's tensor."""
    return nonfinite_window.values_around(round_.clients[client][tensor], index)


@st.cache_resource(show_spinner=False, max_entries=16, hash_funcs=HASH_KEYS)
def metric_courses(
    dataset: WeightDataset, metric: str | None = None
) -> courses.MetricCourses | None:
    """What was measured, round by round; the preferred metric without a name."""
    return courses.metric_courses(dataset, metric)


def reads_every_round(dataset: WeightDataset) -> bool:
    """Whether all clients of all rounds are read without being asked for."""
    return dataset.nbytes <= _SMALL_DATASET_BYTES


@st.cache_resource(show_spinner=False, max_entries=64, hash_funcs=HASH_KEYS)
def tensor_over_rounds(
    dataset: WeightDataset,
    tensor: str,
    aggregate: str | None,
    role: Role,
    rounds: tuple[int, ...],
) -> over_rounds.TensorOverRounds:
    """One tensor, small, in several rounds."""
    return over_rounds.tensor_over_rounds(dataset, tensor, aggregate, role, rounds)


@st.cache_resource(show_spinner=False, max_entries=4096, hash_funcs=HASH_KEYS)
def small_histogram(round_: Round, tensor: str, aggregate: str | None) -> list[int]:
    """Counts of a tensor's values in the aggregate, or in the server model without one."""
    weights = round_.aggregates[aggregate] if aggregate else round_.server
    if weights is None:
        return []
    values = weights[tensor].astype("f4")
    return histogram(values, shared_limit([values], 100), _SMALL_BINS).counts.tolist()


def before_after(
    round_: Round,
    tensor: str,
    clients: tuple[str, str],
    aggregate: str | None,
    view: comparison.HeatmapView,
) -> comparison.BeforeAfter:
    """One tensor before and after averaging; a window of it has the colours of the whole."""
    everything = dataclasses.replace(view, window=None)
    whole = _before_after(round_, tensor, clients, aggregate, everything, None)
    if view.window is None:
        return whole
    return _before_after(round_, tensor, clients, aggregate, view, whole)


@st.cache_resource(show_spinner=False, max_entries=64, hash_funcs=HASH_KEYS)
def _before_after(
    round_: Round,
    tensor: str,
    clients: tuple[str, str],
    aggregate: str | None,
    view: comparison.HeatmapView,
    _whole: comparison.BeforeAfter | None,
) -> comparison.BeforeAfter:
    return comparison.before_after(round_, tensor, clients, aggregate, view, _whole)


@st.cache_resource(show_spinner=False, max_entries=256, hash_funcs=HASH_KEYS)
def movers(
    round_: Round,
    tensor: str,
    plane: Plane | None,
    cells: Window,
    clients: tuple[str, str],
    aggregate: str | None,
) -> moving.Movers:
    """Some cells of a tensor in every model, and who moved them."""
    layout = layout_for(round_.dataset.signature[tensor].shape, tensor, plane=plane)
    return moving.movers(round_, tensor, layout, cells, clients, aggregate)


@st.cache_resource(show_spinner=False, max_entries=64, hash_funcs=HASH_KEYS)
def client_histograms(
    round_: Round, tensor: str, plane: Plane | None, window: Window, limit: float
) -> ClientHistograms | None:
    """How the values of all clients lie over a scale."""
    layout = layout_for(round_.dataset.signature[tensor].shape, tensor, plane=plane)
    models = Models(round_, tensor, layout, ("", ""), None)
    return counting.client_histograms(models, window, limit)


@st.cache_resource(show_spinner=False, max_entries=64, hash_funcs=HASH_KEYS)
def compared(
    round_: Round,
    aggregate: str | None,
    fresh: FileIdentity | None,
    _summary: RoundSummary | None,
    *,
    are_clients_read: bool,
) -> aggregates.AggregateComparison:
    """The aggregates of a round; ``fresh`` is the file of one that is not saved yet.

    ``are_clients_read`` says for the cache whether there is a summary, which is no key.
    """
    del are_clients_read
    unsaved = unsaved_aggregate(fresh) if fresh else None
    looked_at = unsaved or (round_.aggregates[aggregate] if aggregate else None)
    return aggregates.compare_aggregates(round_, looked_at, unsaved, _summary)


def unsaved_aggregate(fresh: FileIdentity) -> Aggregate:
    """The only one in a file that was just made."""
    return next(iter(_opened(fresh).round().aggregates.values()))


@st.cache_resource(show_spinner=False, max_entries=64)
def label_shares(request: generation.GenerateRequest) -> np.ndarray | None:
    """Examples of each label that each client would get: int64 of shape (clients, classes).

    None for a regression, whose targets are no labels.
    """
    parts, data = generation.shares_of_clients(request)
    if data.num_classes is None:
        return None
    return label_counts(data.y_train, parts, data.num_classes)
