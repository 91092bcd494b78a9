"""Which clients do not fit in: several detectors, all from Gram matrices.

Each gives every client a number that says how unusual it is, in standard deviations of the usual
clients: a robust z-score, of which the median and the median absolute deviation are taken, so that
a minority of outliers does not hide itself. None is a proof; see docs/clients.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from fedviz.analysis.client_gram import RoundGram
from fedviz.analysis.clustering import Similarity
from fedviz.analysis.gram import krum_scores, squared_distances
from fedviz.analysis.projection import principal_components

__all__ = [
    "THRESHOLD",
    "Detector",
    "OutlierScores",
    "Reason",
    "common_direction",
    "outlier_scores",
    "robust_z",
]

THRESHOLD = 3.5
"""Above it a client counts as an outlier (Iglewicz and Hoaglin, How to Detect and Handle Outliers,
1993)."""

FEWEST = 3
"""Clients below which nobody can be unusual."""

# Clients that differ by less than this from the median are alike, however alike the others are:
# of logarithms of lengths, and of cosines.
_SAME = 0.05
_NEAR = 1e-9
_STEPS = 200


class Detector(StrEnum):
    """What looks for unusual clients."""

    NORM = "norm"
    DIRECTION = "direction"
    KRUM = "krum"
    SPECTRAL = "spectral"
    CLUSTER = "cluster"
    TENSOR = "tensor"
    COMBINED = "combined"


PARTS = (Detector.NORM, Detector.DIRECTION, Detector.TENSOR, Detector.KRUM)
"""Of these the combined score is the largest; the plainest reason comes first."""


@dataclass(frozen=True)
class Reason:
    """Why a client is unusual.

    ``value`` is what was found: the norm over the median client's (norm), the cosine to the common
    direction (direction), the distance to the neighbours over the median client's (krum), and in
    the tensor named ``tensor`` the distance to the aggregate over the median client's (tensor).
    """

    detector: Detector
    z: float
    value: float
    tensor: str = ""


@dataclass(frozen=True)
class OutlierScores:
    """All detectors on one round.

    Attributes
    ----------
    clients : tuple of str
        The conforming clients, n of them.
    finite : ndarray of shape (n,), bool
        Those that can be compared. The others have the score ∞ throughout.
    scores : mapping of Detector to ndarray of shape (n,), float64
        Not below 0.
    norms : ndarray of shape (n,), float64
        Of the updates, over the median client's; NaN where they are not finite.
    cosines : ndarray of shape (n,), float64
        To the common direction.
    reasons : tuple of tuple of Reason
        Of each client, the plainest first: those above :data:`THRESHOLD`.
    """

    clients: tuple[str, ...]
    finite: np.ndarray
    scores: Mapping[Detector, np.ndarray]
    norms: np.ndarray
    cosines: np.ndarray
    reasons: tuple[tuple[Reason, ...], ...]

    @property
    def combined(self) -> np.ndarray:
        """The largest of norm, direction, krum and tensor."""
        return self.scores[Detector.COMBINED]

    @property
    def outliers(self) -> np.ndarray:
        """Places of the clients above the threshold, the most unusual first."""
        order = np.argsort(-self.combined, kind="stable")
        return order[self.combined[order] > THRESHOLD]


def robust_z(values: np.ndarray, least: float) -> np.ndarray:
    """Distance to the median, in robust standard deviations.

    Parameters
    ----------
    values : ndarray of shape (n,), float64
        Finite.
    least : float
        The standard deviation is taken to be at least this.

    Returns
    -------
    ndarray of shape (n,), float64
        (x − median) / (1.4826 × median absolute deviation).
    """
    centred = values - np.median(values)
    return np.asarray(centred / max(1.4826 * float(np.median(np.abs(centred))), least))


def common_direction(cosine: np.ndarray) -> np.ndarray:
    """Cosine of each client to the direction that most clients share.

    That is the geometric median of the updates scaled to length 1: a client counts by its
    direction alone, and a minority cannot turn it far. It is found with Weiszfeld's steps on the
    matrix of cosines; the direction itself is never made.

    Parameters
    ----------
    cosine : ndarray of shape (n, n), float64
        Of the updates.

    Returns
    -------
    ndarray of shape (n,), float64
        0 for an update that is zero.

    References
    ----------
    Weiszfeld, Sur le point pour lequel la somme des distances de n points donnés est minimum, 1937.
    Pillutla et al., Robust Aggregation for Federated Learning, IEEE TSP 2022.
    """
    units = np.nan_to_num(cosine)
    n = len(units)
    shares = np.full(n, 1 / max(1, n))
    for _ in range(_STEPS):
        apart = units.diagonal() - 2 * (units @ shares) + shares @ units @ shares
        steps = 1 / np.sqrt(np.maximum(apart, _NEAR))
        moved = steps / steps.sum()
        if np.abs(moved - shares).max() < 1e-12:
            break
        shares = moved
    length = np.sqrt(max(0.0, float(shares @ units @ shares)))
    return np.asarray(np.clip(units @ shares / length, -1, 1) if length > 0 else np.zeros(n))


def outlier_scores(gram: RoundGram, alike: Similarity, model: str | None = None) -> OutlierScores:
    """Every detector on one round.

    Parameters
    ----------
    gram : RoundGram
    alike : Similarity
        Of its clients, over the whole model.
    model : str, optional
        The aggregate that distances in a tensor are measured to; the clients' mean by default.
    """
    n, rows = len(gram.clients), alike.rows
    norms, cosines = np.full(n, np.nan), np.full(n, np.nan)
    if not len(rows):
        infinite = {detector: np.full(n, np.inf) for detector in Detector}
        return OutlierScores(gram.clients, gram.finite, infinite, norms, cosines, ((),) * n)
    part = gram.of_clients()[np.ix_(rows, rows)]
    lengths = np.sqrt(np.maximum(part.diagonal(), 0))
    norms[rows] = _over_median(lengths)
    cosines[rows] = common_direction(alike.cosines)
    neighbours = _neighbour_distances(part)
    distances = gram.distances_to(model)[:, rows]
    by_tensor = _tensor_scores(distances)
    found = {
        Detector.NORM: np.abs(_log_z(lengths)),
        Detector.DIRECTION: -robust_z(cosines[rows], _SAME),
        Detector.KRUM: _log_z(neighbours),
        Detector.SPECTRAL: _spectral(part, lengths),
        Detector.CLUSTER: _cluster_scores(alike),
        Detector.TENSOR: by_tensor.max(axis=0, initial=0),
    }
    if len(rows) < FEWEST:
        found = {detector: np.zeros(len(rows)) for detector in found}
    found[Detector.COMBINED] = np.max([found[part] for part in PARTS], axis=0)
    values = {
        Detector.NORM: norms[rows],
        Detector.DIRECTION: cosines[rows],
        Detector.KRUM: _over_median(neighbours),
        Detector.TENSOR: _tensor_values(distances, by_tensor),
    }
    reasons: list[tuple[Reason, ...]] = [()] * n
    for place, row in enumerate(rows):
        reasons[row] = _reasons(place, found, values, gram.tensors, by_tensor)
    scores = {d: _spread(np.maximum(z, 0), rows, n) for d, z in found.items()}
    return OutlierScores(gram.clients, gram.finite, scores, norms, cosines, tuple(reasons))


def _spread(values: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    whole = np.full(n, np.inf)
    whole[rows] = values
    return whole


def _over_median(lengths: np.ndarray) -> np.ndarray:
    return lengths / (float(np.median(lengths)) or np.nan)


def _log_z(lengths: np.ndarray) -> np.ndarray:
    """Robust z-scores of the logarithms: ten times as long is as unusual as a tenth."""
    largest = float(lengths.max(initial=0)) or 1.0
    return robust_z(np.log(np.maximum(lengths, 1e-12 * largest)), _SAME)


def _neighbour_distances(part: np.ndarray) -> np.ndarray:
    """Root mean square distance to the nearest others, as Krum sums it, for a fifth that is bad."""
    n = len(part)
    num_faulty = max(0, min(round(0.2 * n), (n - 3) // 2))
    sums = krum_scores(squared_distances(part), num_faulty)
    return np.sqrt(sums / max(1, n - num_faulty - 2))


def _spectral(part: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Distance to the mean along the direction of largest variance (Tran et al. 2018)."""
    scores, _, _ = principal_components(part, 1)
    return robust_z(np.abs(scores[:, 0]), _SAME * (float(np.median(lengths)) or 1.0))


def _cluster_scores(alike: Similarity) -> np.ndarray:
    """Mean 1 − cosine to the largest cluster's members, oneself left out."""
    labels = alike.clusters.labels
    largest = labels == np.argmax(np.bincount(labels))
    apart = 1 - np.nan_to_num(alike.cosines)
    np.fill_diagonal(apart, 0)
    others = np.maximum(1, largest.sum() - largest)
    return robust_z(apart[:, largest].sum(axis=1) / others, _SAME)


def _tensor_scores(distances: np.ndarray) -> np.ndarray:
    """How far off a client is in each tensor: float64 of shape (tensors, clients).

    The largest of T numbers is large by chance. z² is therefore lowered by 2 ln T, which in the
    normal distribution's tail is Bonferroni's correction.
    """
    scores = np.zeros_like(distances)
    for i, lengths in enumerate(distances):
        if np.isfinite(lengths).all() and lengths.any():
            scores[i] = np.maximum(_log_z(lengths), 0)
    chance = 2 * np.log(max(1, len(distances)))
    return np.sqrt(np.maximum(scores**2 - chance, 0))


def _tensor_values(distances: np.ndarray, by_tensor: np.ndarray) -> np.ndarray:
    """In each client's most unusual tensor, its distance over the median client's."""
    if not len(by_tensor):
        return np.full(distances.shape[1], np.nan)
    worst = by_tensor.argmax(axis=0)
    ratios = np.array([_over_median(lengths) for lengths in distances])
    return np.asarray(ratios[worst, np.arange(distances.shape[1])])


def _reasons(
    place: int,
    found: Mapping[Detector, np.ndarray],
    values: Mapping[Detector, np.ndarray],
    tensors: tuple[str, ...],
    by_tensor: np.ndarray,
) -> tuple[Reason, ...]:
    reasons = []
    for part in PARTS:
        z = float(found[part][place])
        if z > THRESHOLD:
            named = part is Detector.TENSOR
            tensor = tensors[int(by_tensor[:, place].argmax())] if named else ""
            reasons.append(Reason(part, z, float(values[part][place]), tensor))
    return tuple(reasons)
