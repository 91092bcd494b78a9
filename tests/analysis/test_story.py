from __future__ import annotations

import numpy as np

from fedviz.analysis.story import labels_by_skew, most_telling_tensor, ranked_clients, round_story
from fedviz.dataset import WeightDataset
from fedviz.training.client_examples import client_examples
from fedviz.training.data import load_data
from tests.test_house import ROOT

SAMPLE = ROOT / "sample_data" / "digits-mlp.h5"


def test_the_sample_in_plain_numbers():
    with WeightDataset(SAMPLE) as dataset:
        round_ = dataset.round()
        story = round_story(round_, "mean")
        scores = {c: round_.metric("client", "accuracy", c) for c in round_.clients}
        assert most_telling_tensor(round_) == "dense/kernel"
    assert (story.examples, story.parameters, story.rounds) == (1437, 2410, 5)
    assert (story.best, story.worst) == (max(scores.values()), min(scores.values()))
    assert round(story.together * 360) == 316
    assert story.beats_all
    ranked = ranked_clients(story, scores)
    assert [scores[c] for c in ranked] == sorted(scores.values(), reverse=True)


def test_skew_by_hand():
    counts = np.array([[5, 5, 5, 5], [0, 9, 1, 0], [0, 0, 0, 0]])
    order, top, share = labels_by_skew(counts)
    assert order.tolist() == [1, 0, 2]
    assert top[1].tolist() == [1, 2]
    assert share.tolist() == [0.5, 1.0, 0.0]


def test_a_clients_images_are_its_own():
    with WeightDataset(SAMPLE) as dataset:
        recipe, counts = dataset.recipe, dataset.round().label_counts
    images = client_examples(recipe, counts, 24).images
    assert images.shape == (10, 24, 8, 8)
    data = load_data("digits")
    labels = {x.tobytes(): y for x, y in zip(data.x_train, data.y_train, strict=True)}
    for client, row in enumerate(images):
        found = np.bincount([labels[image.tobytes()] for image in row], minlength=10)
        expected = 24 * counts[client] / counts[client].sum()
        assert np.abs(found - expected).max() <= 1


def test_images_are_not_guessed():
    with WeightDataset(SAMPLE) as dataset:
        recipe, counts = dataset.recipe, dataset.round().label_counts
    assert client_examples({**recipe, "seed": 99}, counts) is None
    assert client_examples({**recipe, "data": "mine.npz"}, counts) is None
    assert client_examples({**recipe, "partition": "dirichlet:x"}, counts) is None
    assert client_examples(recipe, None) is None
