"""Clusters and their order, against scikit-learn on the vectors themselves, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import silhouette_score
from sklearn.metrics.pairwise import cosine_distances, euclidean_distances

from fedviz.analysis.clustering import cluster, similarity
from fedviz.analysis.folding import dendrogram, fold


@pytest.fixture
def groups():
    """Twelve vectors around three directions."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((3, 40))
    return np.repeat(centres, 4, axis=0) + 0.4 * rng.standard_normal((12, 40))


def test_the_matrices_are_scikit_learns(groups):
    found = similarity(groups @ groups.T)
    np.testing.assert_allclose(1 - found.cosines, cosine_distances(groups), atol=1e-12)
    np.testing.assert_allclose(found.distances, euclidean_distances(groups), atol=1e-6)


def test_the_clusters_are_those_of_average_linkage_with_the_best_silhouette(groups):
    apart = cosine_distances(groups)
    best = {}
    for count in range(2, 9):
        model = AgglomerativeClustering(count, metric="precomputed", linkage="average")
        labels = model.fit_predict(apart)
        best[silhouette_score(apart, labels, metric="precomputed")] = labels
    expected = best[max(best)]
    found = similarity(groups @ groups.T).clusters
    assert found.score == pytest.approx(max(best), abs=1e-9)
    together = found.labels[:, None] == found.labels[None, :]
    np.testing.assert_array_equal(together, expected[:, None] == expected[None, :])
    assert found.count == 3


def test_clusters_are_numbered_along_the_order(groups):
    found = similarity(groups @ groups.T).clusters
    assert sorted(found.order) == list(range(12))
    assert (np.diff(found.labels[found.order]) >= 0).all()
    assert found.labels[found.order[0]] == 0


def test_a_client_that_is_not_finite_is_left_out():
    gram = np.array([[1.0, np.nan, 0.5], [np.nan, np.nan, np.nan], [0.5, np.nan, 1.0]])
    found = similarity(gram)
    assert found.rows.tolist() == [0, 2]
    assert found.mean_cosine == pytest.approx(0.5)


def test_an_update_of_zero_is_unrelated_to_all():
    gram = np.diag([1.0, 0.0, 4.0])
    gram[0, 2] = gram[2, 0] = 2
    found = similarity(gram)
    assert np.isnan(found.cosines[1]).all()
    assert found.clusters.labels[0] == found.clusters.labels[2] != found.clusters.labels[1]


@pytest.mark.parametrize("count", [0, 1])
def test_nobody_to_compare_with(count):
    found = cluster(np.zeros((count, count)))
    assert (len(found.order), found.count, found.linkage.shape) == (count, count, (0, 4))
    assert np.isnan(found.score)


def test_a_dendrogram_by_hand():
    """Points 0, 1 and 5 on a line: 0 and 1 join at 1, and 5 joins them at 4.5."""
    points = np.array([0.0, 1, 5])
    found = cluster(np.abs(points[:, None] - points[None]))
    lines = dendrogram(found.linkage, np.array([0, 1, 2]))
    np.testing.assert_allclose(lines[0], [[0, 0], [0, 1], [1, 1], [1, 0]])
    np.testing.assert_allclose(lines[1], [[0.5, 1], [0.5, 4.5], [2, 4.5], [2, 0]])


class TestFold:
    def test_small_matrices_are_reordered_only(self):
        matrix = np.array([[1, 0.2, 0.3], [0.2, 1, 0.4], [0.3, 0.4, 1]])
        found = fold(matrix, np.array([2, 0, 1]), 10)
        assert not found.is_folded
        np.testing.assert_array_equal(
            found.values, [[np.nan, 0.3, 0.4], [0.3, np.nan, 0.2], [0.4, 0.2, np.nan]]
        )
        assert found.pairs[0, 1].tolist() == [2, 0]

    def test_a_cell_is_the_mean_of_its_pairs_and_names_the_one_that_stands_out(self):
        matrix = np.zeros((4, 4))
        matrix[0, 3] = matrix[3, 0] = 0.9
        matrix[0, 1] = matrix[1, 0] = -0.5
        found = fold(matrix, np.arange(4), 2)
        assert found.is_folded
        np.testing.assert_allclose(found.values, [[-0.5, 0.225], [0.225, 0]])
        assert found.pairs[0, 1].tolist() == [0, 3]
        assert sorted(found.pairs[0, 0].tolist()) == [0, 1]

    def test_nothing_is_known(self):
        found = fold(np.full((2, 2), np.nan), np.arange(2), 5)
        assert np.isnan(found.values).all()
