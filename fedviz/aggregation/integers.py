"""What becomes of integer and bool tensors: kept, or averaged and rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedviz.aggregation.cohort import Cohort
from fedviz.analysis.blocks import client_blocks
from fedviz.signature import TensorSpec

__all__ = ["INTEGER_POLICIES", "integer_tensors"]

INTEGER_POLICIES: Mapping[str, str] = {
    "keep": "integer and bool tensors are the server model's, or else the heaviest client's",
    "round": "integer and bool tensors are averaged and rounded",
}
"""What may become of integer and bool tensors, with one line about each."""


def integer_tensors(cohort: Cohort, policy: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The integer and bool tensors of an aggregate.

    Parameters
    ----------
    cohort : Cohort
    policy : {"keep", "round"}
        See :data:`INTEGER_POLICIES`. The rounded mean is weighted, its halves go to the even
        neighbour, and a bool is true where clients of more than half of the weight say so.

    Returns
    -------
    tensors : dict of str to ndarray
        In the signature's shapes and dtypes.
    measurements : dict
        ``kept_tensors`` and ``rounded_tensors`` (names), and ``kept_from``: ``server``, the
        client's id, or empty where none was kept.
    """
    specs = [spec for spec in cohort.round.dataset.signature if not spec.is_float]
    names = [spec.name for spec in specs]
    if policy == "round":
        rounded = {spec.name: _rounded_mean(cohort, spec) for spec in specs}
        return rounded, {"kept_tensors": [], "kept_from": "", "rounded_tensors": names}
    source, owner = _kept(cohort) if specs else ({}, "")
    kept = {name: source[name] for name in names}
    return kept, {"kept_tensors": names, "kept_from": owner, "rounded_tensors": []}


def _kept(cohort: Cohort) -> tuple[Mapping[str, np.ndarray], str]:
    if cohort.round.server is not None:
        return cohort.round.server, "server"
    heaviest = cohort.ids[int(np.argmax(cohort.weights))]
    return cohort.round.clients[heaviest], heaviest


def _rounded_mean(cohort: Cohort, spec: TensorSpec) -> np.ndarray:
    """In extended precision, which holds every int64."""
    weights = np.asarray(cohort.weights, np.longdouble)
    total = np.zeros(spec.size, np.longdouble)
    for rows, values in client_blocks(cohort.round, spec.name):
        total += weights[rows] @ values.astype(np.longdouble)
    mean = total / weights.sum()
    if spec.numpy_dtype == np.bool_:
        return np.asarray(mean > 0.5).reshape(spec.shape)
    return np.rint(mean).astype(spec.numpy_dtype).reshape(spec.shape)
