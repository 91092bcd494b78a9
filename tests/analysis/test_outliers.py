"""Detectors of unusual clients, by hand and against NumPy and SciPy on the updates themselves."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import median_abs_deviation
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from fedviz.analysis import outliers as out
from fedviz.analysis.client_gram import RoundGram
from fedviz.analysis.clustering import similarity
from fedviz.analysis.detection import detection
from fedviz.analysis.divergence import compare_pair, divergence
from fedviz.analysis.outliers import Detector

SIZES = {"kernel": 300, "bias": 20}


def updates(n=12, seed=3):
    """Clients that share a direction."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(320)
    return common + 0.7 * rng.standard_normal((n, 320))


def gram_of(vectors):
    """What :func:`round_gram` gives for these updates, in float64 on whole arrays."""
    ends = np.cumsum([0, *SIZES.values()])
    parts = {t: vectors[:, a:b] for t, a, b in zip(SIZES, ends[:-1], ends[1:], strict=True)}
    finite = np.isfinite(vectors).all(axis=1)
    origins = [p[finite].mean(axis=0) if finite.any() else np.nan for p in parts.values()]
    distances = [
        np.linalg.norm(p - o, axis=1)[None] for p, o in zip(parts.values(), origins, strict=True)
    ]
    return RoundGram(
        tuple(f"c{i:02d}" for i in range(len(vectors))),
        (),
        tuple(SIZES),
        True,
        vectors @ vectors.T,
        {t: p @ p.T for t, p in parts.items()},
        np.array([np.linalg.norm(p, axis=1) for p in parts.values()]),
        np.array(distances),
    )


def scores_of(vectors):
    gram = gram_of(vectors)
    return out.outlier_scores(gram, similarity(gram.of_clients()))


def test_robust_z_is_the_distance_to_the_median_in_median_deviations():
    values = np.array([1.0, 2, 3, 4, 100])
    expected = (values - 3) / median_abs_deviation(values, scale="normal")
    np.testing.assert_allclose(out.robust_z(values, 0.01), expected, rtol=1e-4)
    np.testing.assert_array_equal(out.robust_z(np.array([5.0, 5, 5, 6]), 0.5), [0, 0, 0, 2])


def test_the_common_direction_is_the_geometric_median_of_the_unit_updates():
    vectors = updates(9)
    vectors[0] *= -1
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = minimize(
        lambda x: np.linalg.norm(units - x, axis=1).sum(), units.mean(axis=0), method="L-BFGS-B"
    ).x
    expected = units @ found / np.linalg.norm(found)
    np.testing.assert_allclose(out.common_direction(units @ units.T), expected, atol=1e-3)


def test_nobody_is_unusual():
    found = scores_of(updates())
    assert found.outliers.tolist() == []
    assert set(found.reasons) == {()}


@pytest.mark.parametrize(
    ("fault", "detector"),
    [
        (lambda x: 10 * x, Detector.NORM),
        (lambda x: x / 10, Detector.NORM),
        (lambda x: -x, Detector.DIRECTION),
        (lambda x: np.concatenate([x[:300], 6 * x[300:]]), Detector.TENSOR),
    ],
)
def test_each_fault_has_its_reason(fault, detector):
    vectors = updates()
    vectors[4] = fault(vectors[4])
    found = scores_of(vectors)
    assert found.outliers.tolist() == [4]
    assert detector in [reason.detector for reason in found.reasons[4]]
    assert [len(r) for i, r in enumerate(found.reasons) if i != 4] == [0] * 11


def test_reasons_carry_what_was_found():
    vectors = updates()
    vectors[4] *= 10
    vectors[7] *= -1
    vectors[9, 300:] *= 6
    found = scores_of(vectors)
    lengths = np.linalg.norm(vectors, axis=1)
    assert found.reasons[4][0].value == pytest.approx(lengths[4] / np.median(lengths))
    assert found.reasons[7][0].value == pytest.approx(found.cosines[7])
    assert found.cosines[7] < -0.6
    (tensor,) = [r for r in found.reasons[9] if r.detector is Detector.TENSOR]
    assert tensor.tensor == "bias"
    distances = gram_of(vectors).distances_to(None)[1]
    assert tensor.value == pytest.approx(distances[9] / np.median(distances))


def test_krum_and_spectral_see_a_scaled_client_first():
    vectors = updates()
    vectors[2] *= 8
    found = scores_of(vectors)
    for detector in (Detector.KRUM, Detector.SPECTRAL, Detector.NORM):
        assert np.argmax(found.scores[detector]) == 2


def test_the_spectral_score_is_the_projection_on_the_first_principal_direction():
    vectors = updates(15)
    centred = vectors - vectors.mean(axis=0)
    first = np.linalg.svd(centred, full_matrices=False)[2][0]
    expected = np.abs(centred @ first)
    found = scores_of(vectors).scores[Detector.SPECTRAL]
    least = 0.05 * np.median(np.linalg.norm(vectors, axis=1))
    np.testing.assert_allclose(found, np.maximum(out.robust_z(expected, least), 0), atol=1e-6)


def test_the_cluster_detector_finds_who_is_outside_the_majority():
    vectors = updates(12)
    vectors[[3, 8]] = updates(2, seed=11)
    found = scores_of(vectors).scores[Detector.CLUSTER]
    assert set(np.argsort(-found)[:2]) == {3, 8}


def test_a_client_that_is_not_finite_is_infinitely_unusual():
    vectors = updates(6)
    vectors[1, 5] = np.nan
    found = scores_of(vectors)
    assert found.finite.tolist() == [True, False, True, True, True, True]
    assert np.isinf(found.combined[1])
    assert np.isfinite(np.delete(found.combined, 1)).all()
    assert found.outliers.tolist() == [1]


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_to_be_unusual(count):
    found = scores_of(updates(count))
    assert found.combined.tolist() == [0] * count


def test_all_are_broken_or_zero():
    broken = scores_of(np.full((3, 320), np.inf))
    assert np.isinf(broken.combined).all()
    still = scores_of(np.zeros((4, 320)))
    assert still.combined.tolist() == [0] * 4


class TestDetection:
    def test_it_is_scikit_learns_precision_recall_and_auc(self):
        rounds = []
        for number in range(2):
            vectors = updates(seed=number)
            vectors[1] *= 9
            vectors[5] *= -1
            vectors[7] *= 1.4
            rounds.append((number, scores_of(vectors)))
        truth = np.array([i in (1, 5, 7) for _ in rounds for i in range(12)])
        found = detection(rounds, {"c01", "c05", "c07"}, 30)
        assert (found.faulty, found.honest, found.not_compared) == (6, 18, 6)
        assert found.rounds == (0, 1)
        for result in found.results:
            scores = np.concatenate([s.scores[result.detector] for _, s in rounds])
            named = scores > out.THRESHOLD
            assert result.auc == pytest.approx(roc_auc_score(truth, scores))
            assert result.recall == pytest.approx(recall_score(truth, named))
            assert result.false_positives == (named & ~truth).sum()
            if named.any():
                assert result.precision == pytest.approx(precision_score(truth, named))
            else:
                assert np.isnan(result.precision)
        combined = found.results[-1]
        assert combined.detector is Detector.COMBINED
        assert combined.recall >= 4 / 6
        assert found.best[0].auc == max(r.auc for r in found.results)

    @pytest.mark.parametrize("faulty", [set(), {f"c{i:02d}" for i in range(12)}])
    def test_nothing_to_tell_apart(self, faulty):
        assert detection([(0, scores_of(updates()))], faulty, 12) is None


class TestDivergence:
    def test_ratios_are_over_the_median_client(self):
        gram = gram_of(updates(5))
        found = divergence(gram, None, np.array([3, 0, 1, 2, 4]), 20, 24)
        distances = gram.distances_to(None)
        assert found.clients == ("c03", "c00", "c01", "c02", "c04")
        expected = (distances / np.median(distances, axis=1, keepdims=True)).T
        np.testing.assert_allclose(found.ratios, expected[[3, 0, 1, 2, 4]])

    def test_many_are_folded_into_their_medians(self):
        vectors = updates(12)
        vectors[6, 300:] *= 5
        gram = gram_of(vectors)
        found = divergence(gram, None, np.array([6, *range(6), *range(7, 12)]), 4, 1)
        assert (found.clients, found.tensors) == (("c06", "c00", "c01"), ("bias",))
        assert (found.rest, found.hidden_tensors, found.ratios.shape) == (9, 1, (4, 1))
        whole = gram.distances_to(None)[1]
        rest = np.median(whole[[2, 3, 4, 5, 7, 8, 9, 10, 11]]) / np.median(whole)
        assert found.ratios[-1, 0] == pytest.approx(rest)

    def test_two_clients(self):
        vectors = updates(4)
        found = compare_pair(gram_of(vectors), "c00", "c02")
        one, other = vectors[0], vectors[2]
        lengths = np.linalg.norm(one) * np.linalg.norm(other)
        assert found.cosine == pytest.approx(one @ other / lengths)
        assert found.distance == pytest.approx(np.linalg.norm(one - other))
        in_bias = one[300:] @ other[300:]
        in_bias /= np.linalg.norm(one[300:]) * np.linalg.norm(other[300:])
        in_kernel = one[:300] @ other[:300]
        in_kernel /= np.linalg.norm(one[:300]) * np.linalg.norm(other[:300])
        expected = sorted({"bias": in_bias, "kernel": in_kernel}.items(), key=lambda i: i[1])
        assert [found.furthest[0], found.nearest[0]] == [name for name, _ in expected]
        assert found.nearest[1] == pytest.approx(expected[1][1])
        without = dataclasses.replace(gram_of(vectors), by_tensor={})
        assert compare_pair(without, "c00", "c02").nearest is None
