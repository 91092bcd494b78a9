"""What the clients page computes once and keeps: Gram matrices, and what follows from them.

As in :mod:`fedviz.dashboard.cache`, keyed by the file's identity. The Gram matrices of a large
dataset are computed by a job and kept on the disk besides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from fedviz.analysis import outliers
from fedviz.analysis.client_gram import (
    PathGram,
    RoundGram,
    path_gram,
    path_of_round,
    round_gram,
)
from fedviz.analysis.clustering import Similarity, similarity
from fedviz.analysis.detection import Detection, detection
from fedviz.analysis.folding import FoldedMatrix, dendrogram, fold
from fedviz.analysis.gram_cache import kept_path_gram, kept_round_gram
from fedviz.analysis.projection import Projection, project
from fedviz.dashboard import folders
from fedviz.dashboard.cache import HASH_KEYS
from fedviz.dataset import Round, WeightDataset
from fedviz.figures.similarity import MOST_CELLS

__all__ = [
    "Space",
    "bytes_to_read",
    "compared",
    "detected",
    "folded",
    "scored",
    "similar",
    "space",
]

_QUICK_BYTES = 64 * 2**20
"""Up to this many bytes a page compares clients by itself; above it a job is asked to."""


class _NotYet(Exception):  # noqa: N818 - it never leaves this module
    """Nothing is kept: st.cache_resource keeps no exception, so that the next run looks again."""


def _bytes(round_: Round) -> int:
    sizes = sum(spec.nbytes for spec in round_.dataset.signature if spec.is_float)
    return sizes * len(round_.conforming)


def bytes_to_read(round_: Round) -> int:
    """How much a comparison reads: the round, and the others that are placed beside it."""
    rounds = round_.dataset.rounds
    return _bytes(round_) + (sum(map(_bytes, rounds)) if len(rounds) > 1 else 0)


def compared(round_: Round) -> RoundGram | None:
    """The Gram matrices of a round; None where a job has to compute them first."""
    if _bytes(round_) <= _QUICK_BYTES:
        return _computed(round_)
    try:
        return _kept(round_)
    except _NotYet:
        return None


@st.cache_resource(show_spinner="Comparing the clients …", max_entries=64, hash_funcs=HASH_KEYS)
def _computed(round_: Round) -> RoundGram:
    return round_gram(round_)


@st.cache_resource(show_spinner=False, max_entries=8, hash_funcs=HASH_KEYS)
def _kept(round_: Round) -> RoundGram:
    found = kept_round_gram(folders.gram_folder(), round_)
    if found is None:
        raise _NotYet
    return found


@st.cache_resource(show_spinner=False, max_entries=64, hash_funcs=HASH_KEYS)
def similar(round_: Round, tensor: str | None) -> Similarity:
    """Cosines and clusters of a round's clients, in one tensor or the whole model."""
    return similarity(_known(round_).of_clients(tensor))


@st.cache_resource(show_spinner=False, max_entries=128, hash_funcs=HASH_KEYS)
def folded(round_: Round, tensor: str | None, measure: str) -> tuple[FoldedMatrix, np.ndarray]:
    """The matrix of all pairs as it is drawn, and the lines of its dendrogram."""
    found = similar(round_, tensor)
    matrix = found.cosines if measure == "cosine" else found.distances
    clusters = found.clusters
    return fold(matrix, clusters.order, MOST_CELLS), dendrogram(clusters.linkage, clusters.order)


@st.cache_resource(show_spinner=False, max_entries=256, hash_funcs=HASH_KEYS)
def scored(round_: Round, aggregate: str | None) -> outliers.OutlierScores:
    """Every detector on a round; distances in a tensor are to the aggregate that is shown."""
    return outliers.outlier_scores(_known(round_), similar(round_, None), aggregate)


def _known(round_: Round) -> RoundGram:
    found = compared(round_)
    if found is None:
        raise _NotYet
    return found


@dataclass(frozen=True)
class Space:
    """All models in one plane."""

    gram: PathGram
    projection: Projection


def space(round_: Round) -> Space | None:
    """The rounds of a round's dataset in one plane; None where a job has to place them first."""
    dataset = round_.dataset
    if len(dataset.rounds) == 1:
        return None if compared(round_) is None else _space_of_round(round_)
    if sum(map(_bytes, dataset.rounds)) <= _QUICK_BYTES:
        return _space(dataset)
    try:
        return _kept_space(dataset)
    except _NotYet:
        return None


@st.cache_resource(show_spinner=False, max_entries=16, hash_funcs=HASH_KEYS)
def _space_of_round(round_: Round) -> Space:
    return _projected(path_of_round(_known(round_), round_.number))


@st.cache_resource(show_spinner=False, max_entries=16, hash_funcs=HASH_KEYS)
def _space(dataset: WeightDataset) -> Space:
    return _projected(path_gram(dataset))


@st.cache_resource(show_spinner=False, max_entries=8, hash_funcs=HASH_KEYS)
def _kept_space(dataset: WeightDataset) -> Space:
    found = kept_path_gram(folders.gram_folder(), dataset)
    if found is None:
        raise _NotYet
    return _projected(found)


def _projected(gram: PathGram) -> Space:
    servers = [i for i, point in enumerate(gram.points) if point.role == "server"]
    ends = [i for i, point in enumerate(gram.points) if point.role == "aggregate"] or servers
    start, end = (servers[0], ends[-1]) if servers else (None, None)
    return Space(gram, project(gram.gram, start, end))


def detected(dataset: WeightDataset, aggregate: str | None) -> Detection | None:
    """The detectors against the ground truth, over the rounds that are compared already."""
    if not dataset.ground_truth:
        return None
    numbers = tuple(r.number for r in dataset.rounds if compared(r) is not None)
    return _detected(dataset, numbers, aggregate)


@st.cache_resource(show_spinner=False, max_entries=32, hash_funcs=HASH_KEYS)
def _detected(
    dataset: WeightDataset, numbers: tuple[int, ...], aggregate: str | None
) -> Detection | None:
    rounds = [dataset.round(number) for number in numbers]
    faulty = {fault.client for fault in dataset.ground_truth}
    clients = sum(len(r.records) for r in rounds)
    return detection([(r.number, scored(r, aggregate)) for r in rounds], faulty, clients)
