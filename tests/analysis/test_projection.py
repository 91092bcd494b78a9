"""Models in the plane, against scikit-learn's PCA of the models themselves."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from fedviz.analysis.projection import principal_components, project


@pytest.mark.parametrize("count", [12, 320])
def test_it_is_pca(count):
    """Below and above the size from which only the largest eigenvalues are found."""
    points = np.random.default_rng(2).standard_normal((count, 9)) * np.arange(9, 0, -1)
    pca = PCA(2).fit(points)
    expected = pca.transform(points)
    found = project(points @ points.T)
    np.testing.assert_allclose(np.abs(found.places), np.abs(expected), atol=1e-6)
    np.testing.assert_allclose(found.shares, pca.explained_variance_ratio_, rtol=1e-9)


def test_distances_of_points_in_a_plane_are_kept():
    points = np.array([[0.0, 0], [3, 0], [0, 4], [3, 4]])
    places = project(points @ points.T + 0.0).places
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.testing.assert_allclose(apart[0], [0, 3, 4, 5], atol=1e-9)


def test_the_first_direction_runs_from_start_to_end():
    points = np.array([[0.0, 0], [5, 1], [9, 0]])
    for start, end in ((0, 2), (2, 0)):
        places = project(points @ points.T, start, end).places
        assert places[start, 0] < places[end, 0]


def test_a_model_that_is_not_finite_has_no_place():
    gram = np.array([[1.0, np.nan, 0], [np.nan, np.inf, np.nan], [0, np.nan, 1]])
    places = project(gram).places
    assert np.isnan(places[1]).all()
    assert np.linalg.norm(places[0] - places[2]) == pytest.approx(np.sqrt(2))


def test_models_that_are_all_the_same():
    found = project(np.ones((3, 3)))
    np.testing.assert_array_equal(found.places, np.zeros((3, 2)))
    assert np.isnan(found.shares).all()


def test_no_model():
    scores, variances, total = principal_components(np.zeros((1, 1)), 2)
    assert (scores.shape, variances.tolist(), total) == ((1, 2), [0, 0], 0)
    assert project(np.full((1, 1), np.nan)).places.shape == (1, 2)
