"""The sentences of the clients page, from facts that the analysis found."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fedviz.analysis.client_gram import PathGram, RoundGram
from fedviz.analysis.clustering import Clustering, Similarity
from fedviz.analysis.detection import Detection, DetectorResult
from fedviz.analysis.divergence import Divergence, PairComparison
from fedviz.analysis.health import SKEWED_SHARE, skewed_clients
from fedviz.analysis.outliers import FEWEST, THRESHOLD, Detector, OutlierScores, Reason
from fedviz.dashboard.widgets import ACT, FINE, KNOW, Chip
from fedviz.dashboard.wording import plain_text, spelled
from fedviz.dataset import Round
from fedviz.figures.text import byte_size, counted, decimals, number, percentage

__all__ = [
    "DETECTOR_NAMES",
    "clients_answer",
    "clients_chips",
    "detection_sentence",
    "divergence_note",
    "label_notes",
    "nothing_to_compare",
    "offer",
    "pair_sentence",
    "paths_note",
    "reason_text",
    "silhouettes_note",
    "similarity_note",
]

_MOST_NAMED = 3

DETECTOR_NAMES = {
    Detector.NORM: "length",
    Detector.DIRECTION: "direction",
    Detector.KRUM: "Krum",
    Detector.SPECTRAL: "spectral",
    Detector.CLUSTER: "cluster",
    Detector.TENSOR: "one tensor",
    Detector.COMBINED: "combined",
}


def nothing_to_compare(round_: Round) -> str | None:
    """Why a round's clients cannot be compared; None where they can."""
    conforming, divergent = len(round_.conforming), len(round_.divergent)
    if not round_.records:
        return "This round has no clients: there is nothing to compare."
    if not any(spec.is_float for spec in round_.dataset.signature):
        return "No tensor of this model holds real numbers: there are no updates to compare."
    if conforming >= 2:
        return None
    if not divergent:
        return "One client only: similarity needs two."
    have = "One client has" if conforming else "No client has"
    others = counted(divergent, "other") if conforming else f"all {divergent:,}"
    return f"{have} the signature of the dataset, {others} differ: similarity needs two."


def offer(round_: Round, num_bytes: int) -> str:
    """What a large dataset's comparison costs."""
    return (
        f"{counted(len(round_.conforming), 'client')} have to be compared pair by pair, which "
        f"reads {byte_size(num_bytes)} once."
    )


def clients_answer(
    gram: RoundGram, scores: OutlierScores, alike: Similarity, labels: dict[str, str]
) -> str:
    """Who does not fit in, and why."""
    spoilt = [c for c, fine in zip(gram.clients, scores.finite, strict=True) if not fine]
    first = ""
    if spoilt:
        verb = "has" if len(spoilt) == 1 else "have"
        first = f":red[{_listed(spoilt)} {verb} values that are not finite.] "
    if len(alike.rows) < FEWEST:
        return first + _too_few(gram, alike)
    found = [i for i in scores.outliers if scores.finite[i]]
    if not found:
        worst = int(np.argmax(np.where(scores.finite, scores.combined, -1)))
        rest = "All others" if spoilt else spelled(len(alike.rows)) + " clients"
        return (
            f"{first}{rest} fit in: the most unusual is {plain_text(gram.clients[worst])}, with a "
            f"score of {decimals(float(scores.combined[worst]), 1)}."
        )
    names = [gram.clients[i] for i in found]
    verb = "does" if len(found) == 1 else "do"
    reasons = plain_text(reason_text(scores.reasons[found[0]][:1]))
    if len(found) == 1:
        because = labels.get(names[0])
        ending = f", and {because}" if because else ""
        return f"{first}{_listed(names)} {verb} not fit in: {reasons}{ending}."
    whose = plain_text(names[0])
    return f"{first}{_listed(names)} {verb} not fit in. {whose}: {reasons}."


def _too_few(gram: RoundGram, alike: Similarity) -> str:
    if len(alike.rows) < 2:
        return "Similarity needs two clients whose values are finite."
    one, other = (plain_text(gram.clients[i]) for i in alike.rows)
    return f"{one} and {other} have a cosine of {decimals(float(alike.cosines[0, 1]), 2)}."


def _listed(names: Sequence[str]) -> str:
    shown = [plain_text(name) for name in names[:_MOST_NAMED]]
    more = len(names) - len(shown)
    if more:
        shown.append(f"{more:,} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def reason_text(reasons: Sequence[Reason]) -> str:
    """Why a client is unusual, as plain text."""
    return "; ".join(map(_reason, reasons))


def _reason(reason: Reason) -> str:
    times = number(reason.value, 2)
    match reason.detector:
        case Detector.NORM:
            return f"its update has {times} × the median length"
        case Detector.DIRECTION if reason.value < 0:
            return f"it points the other way, cosine {decimals(reason.value, 2)}"
        case Detector.DIRECTION:
            return f"cosine to the common direction only {decimals(reason.value, 2)}"
        case Detector.KRUM:
            return f"{times} × as far from its neighbours as the median client"
        case _:
            return f"{times} × as far off as the median client in {reason.tensor}"


def label_notes(round_: Round) -> dict[str, str]:
    """Of clients with skewed labels, which they are: the likely cause of an odd update."""
    counts = round_.label_counts
    skewed = set(skewed_clients(round_) or ())
    if counts is None:
        return {}
    notes = {}
    for record, row in zip(round_.records, counts, strict=True):
        if record.id in skewed:
            top = np.argsort(-row, kind="stable")[:2]
            share = percentage(row[top].sum() / max(1, row.sum()), 0)
            one, other = sorted(top.tolist())
            first = row[top[0]] / max(1, row.sum())
            which = f"{top[0]}" if first > SKEWED_SHARE else f"{one} or {other}"
            share = percentage(first, 0) if first > SKEWED_SHARE else share
            notes[record.id] = f"{share} of its labels are {which}"
    return notes


def clients_chips(
    round_: Round, gram: RoundGram, scores: OutlierScores, alike: Similarity
) -> list[Chip]:
    """The facts behind the sentence, at a glance."""
    chips: list[Chip] = []
    count = int(sum(scores.finite[i] for i in scores.outliers))
    if len(alike.rows) >= FEWEST:
        chips.append(
            (counted(count, "outlier"), KNOW, "orange") if count else ("no outlier", FINE, "gray")
        )
    apart = len(round_.divergent)
    spoilt = int((~scores.finite).sum())
    if spoilt:
        chips.append((f"{counted(spoilt, 'client')} not finite", ACT, "red"))
    if apart:
        chips.append((f"{counted(apart, 'client')} of another signature, not compared", ACT, "red"))
    if not gram.from_server:
        chips.append(("no server model: differences to the clients' mean", KNOW, "orange"))
    if math.isfinite(alike.mean_cosine):
        chips.append((f"mean cosine {decimals(alike.mean_cosine, 2)}", None, "gray"))
    if math.isfinite(alike.clusters.score) and alike.clusters.count > 1:
        chips.append((counted(alike.clusters.count, "cluster"), None, "gray"))
    if len(alike.rows) >= FEWEST:
        typical = gram.clients[int(np.nanargmax(scores.cosines))]
        chips.append((f"most typical {plain_text(typical)}", None, "gray"))
    return chips


def similarity_note(alike: Similarity, *, folded: bool) -> str:
    """How the matrix is to be read."""
    order = "Neighbours in the tree are most alike; lines part the clusters."
    if folded:
        return f"{counted(len(alike.rows), 'client')}; a cell is the mean of its pairs. {order}"
    return f"{order} Click a cell to select both clients."


def pair_sentence(one: str, other: str, pair: PairComparison) -> str:
    """The two selected clients."""
    names = f"{plain_text(one)} and {plain_text(other)}"
    if not math.isfinite(pair.distance):
        return f"{names}: one of them has values that are not finite."
    text = f"{names}: cosine {decimals(pair.cosine, 2)}, distance {number(pair.distance)}"
    if pair.nearest is None or pair.furthest is None:
        return f"{text}."
    near, far = pair.nearest, pair.furthest
    return (
        f"{text}; most alike in {plain_text(near[0])} ({decimals(near[1], 2)}), least in "
        f"{plain_text(far[0])} ({decimals(far[1], 2)})."
    )


def paths_note(gram: PathGram) -> str:
    """What the plane shows, and what it leaves out."""
    rounds, clients = gram.left_out
    shown = {point.round for point in gram.points}
    what = "All models of the round" if len(shown) == 1 else "Every model of every round"
    text = f"{what} in the two directions of largest variance. Click a dot to select its client."
    if rounds or clients:
        text += f" Left out evenly: {counted(rounds, 'round')}, {counted(clients, 'client')} each."
    return text


def divergence_note(found: Divergence, model: str | None) -> str:
    """What the distances are measured to, and what is folded."""
    whom = f"the aggregate {plain_text(model)}" if model else "the clients' mean"
    text = f"Distance to {whom} over the median client's, the most unusual client first."
    if found.hidden_tensors:
        total = found.hidden_tensors + len(found.tensors)
        text += f" Of {total:,} tensors the {len(found.tensors)} that differ most."
    return text


def silhouettes_note(clusters: Clustering) -> str:
    """How much the clusters are worth."""
    if clusters.count < 2 or not math.isfinite(clusters.score):
        return "There are too few clients, or they are too alike, for clusters."
    score = clusters.score
    # Kaufman and Rousseeuw, Finding Groups in Data, 1990, table 4.
    worth = (
        "strong" if score > 0.7 else "fair" if score > 0.5 else "weak" if score > 0.25 else "poor"
    )
    return (
        f"{counted(clusters.count, 'cluster')}, with a mean silhouette of {decimals(score, 2)}: "
        f"{worth}."
    )


def detection_sentence(found: Detection) -> str:
    """Which detector to believe here, and how far."""
    best = [DETECTOR_NAMES[r.detector] for r in found.best]
    combined = next(r for r in found.results if r.detector is Detector.COMBINED)
    rounds = counted(len(found.rounds), "round")
    sentences = [
        f"Here {_joined(best)} ranks best (AUC {decimals(found.best[0].auc, 2)}), over "
        f"{counted(found.faulty, 'faulty update')} and {found.honest:,} honest in {rounds}.",
        f"Above {THRESHOLD:g}, the combined score names {_hits(combined, found)}.",
        "This is one dataset with few faults: a detector that is best here may fail on the next, "
        "and honest clients with rare labels look like attackers. Believe no detector alone; look "
        "at the reasons.",
    ]
    if found.not_compared:
        apart = counted(found.not_compared, "update")
        needs = "needs" if found.not_compared == 1 else "need"
        sentences.insert(
            2, f"{apart} {needs} no detector: another signature, or values that are not finite."
        )
    return " ".join(sentences)


def _hits(result: DetectorResult, found: Detection) -> str:
    hits = round(result.recall * found.faulty)
    wrong = result.false_positives
    honest = "no honest one" if not wrong else f"{wrong:,} of {found.honest:,} honest"
    return f"{hits:,} of {found.faulty:,} faulty and {honest}"


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
