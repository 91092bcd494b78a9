"""How well detectors find the faults that were injected on purpose."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from fedviz.analysis.outliers import THRESHOLD, Detector, OutlierScores

__all__ = ["Detection", "DetectorResult", "detection"]


@dataclass(frozen=True)
class DetectorResult:
    """One detector against the ground truth.

    Attributes
    ----------
    detector : Detector
    precision : float
        Share of the faulty among those above the threshold; NaN where it names nobody.
    recall : float
        Share of the faulty that it names.
    false_positives : int
        Honest clients that it names.
    auc : float
        Area under the ROC curve: the chance that a faulty client has a higher score than an
        honest one.
    fpr, tpr : ndarray of shape (k,), float64
        The ROC curve: false and true positives' shares as the threshold falls.
    """

    detector: Detector
    precision: float
    recall: float
    false_positives: int
    auc: float
    fpr: np.ndarray
    tpr: np.ndarray


@dataclass(frozen=True)
class Detection:
    """All detectors against the ground truth, over some rounds.

    ``faulty`` and ``honest`` count clients times rounds; ``not_compared`` those that were found
    without any detector, because their signature differs or a value is not finite.
    """

    results: tuple[DetectorResult, ...]
    rounds: tuple[int, ...]
    faulty: int
    honest: int
    not_compared: int

    @property
    def best(self) -> tuple[DetectorResult, ...]:
        """Those with the largest area under the ROC curve."""
        highest = max(result.auc for result in self.results)
        return tuple(result for result in self.results if result.auc == highest)


def detection(
    rounds: Sequence[tuple[int, OutlierScores]], faulty: Collection[str], clients: int
) -> Detection | None:
    """Judge every detector.

    Parameters
    ----------
    rounds : sequence of (number, OutlierScores)
    faulty : collection of str
        The clients with an injected fault.
    clients : int
        Clients of all these rounds together, the divergent ones included.

    Returns
    -------
    Detection or None
        None where there are no faulty or no honest clients to tell apart.
    """
    truth = np.array([c in faulty for _, s in rounds for c in np.array(s.clients)[s.finite]], bool)
    if not truth.any() or truth.all():
        return None
    return Detection(
        tuple(_judged(detector, rounds, truth) for detector in Detector),
        tuple(number for number, _ in rounds),
        int(truth.sum()),
        int((~truth).sum()),
        clients - len(truth),
    )


def _judged(
    detector: Detector, rounds: Sequence[tuple[int, OutlierScores]], truth: np.ndarray
) -> DetectorResult:
    # Not at the top: it takes a second, and only datasets with ground truth need it.
    from sklearn.metrics import auc, roc_curve

    scores = np.concatenate([s.scores[detector][s.finite] for _, s in rounds])
    named = scores > THRESHOLD
    hits = int((named & truth).sum())
    fpr, tpr, _ = roc_curve(truth, scores)
    return DetectorResult(
        detector,
        hits / named.sum() if named.any() else float("nan"),
        hits / int(truth.sum()),
        int((named & ~truth).sum()),
        float(auc(fpr, tpr)),
        fpr,
        tpr,
    )
