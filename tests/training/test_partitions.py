import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedviz.errors import InvalidArgumentError, UnknownNameError
from fedviz.training.partitions import Partition, label_counts, parse_partition, partition

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 60))


@pytest.mark.parametrize("text", ["iid", "dirichlet:0.3", "shards:2", "client-id", "dirichlet:10"])
def test_the_text_of_a_partition_is_canonical(text):
    assert str(parse_partition(text)) == text


def test_a_text_is_read_with_its_parameter():
    assert parse_partition(" dirichlet:1e-1 ") == Partition("dirichlet", 0.1)
    assert str(parse_partition("shards:2.0")) == "shards:2"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("random", UnknownNameError, "there are iid, dirichlet:ALPHA, shards:K, client-id"),
        ("dirichlet", InvalidArgumentError, "found no parameter"),
        ("iid:3", InvalidArgumentError, "found a parameter"),
        ("dirichlet:0", InvalidArgumentError, "between 1e-06 and 1e.06, found 0"),
        ("dirichlet:nan", InvalidArgumentError, "found nan"),
        ("dirichlet:x", InvalidArgumentError, "expected a number after the colon, found 'x'"),
        ("shards:1.5", InvalidArgumentError, "whole number"),
        ("shards:0", InvalidArgumentError, "at least 1, found 0"),
    ],
)
def test_a_text_that_names_none_is_refused(text, error, message):
    with pytest.raises(error, match=message):
        parse_partition(text)


@given(
    st.sampled_from(["iid", "dirichlet:0.01", "dirichlet:0.5", "dirichlet:100", "shards:1"]),
    st.lists(st.integers(0, 9), min_size=1, max_size=200),
    st.integers(1, 50),
    st.integers(0, 2**32),
)
def test_every_example_goes_to_one_client_and_none_is_empty(spec, labels, num_clients, seed):
    y = np.array(labels)
    num_clients = min(num_clients, len(y))
    parts = partition(spec, y, num_clients, seed)
    assert len(parts) == num_clients
    assert min(len(part) for part in parts) >= 1
    assert np.sort(np.concatenate(parts)).tolist() == list(range(len(y)))
    again = partition(spec, y, num_clients, seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    assert label_counts(y, parts, 10).sum(axis=0).tolist() == np.bincount(y, minlength=10).tolist()


@pytest.mark.parametrize("alpha", ["1e-6", "1e-3", "1e6"])
def test_extreme_alphas_still_share_everything_out(alpha):
    parts = partition(f"dirichlet:{alpha}", LABELS, 7, seed=1)
    assert np.sort(np.concatenate(parts)).tolist() == list(range(600))


def test_iid_sizes_differ_by_one_at_most():
    sizes = [len(part) for part in partition("iid", LABELS[:98], 10, seed=0)]
    assert sorted(sizes) == [9] * 2 + [10] * 8


def test_another_seed_gives_other_parts():
    first, second = (partition("iid", LABELS, 5, seed)[0].tolist() for seed in (0, 1))
    assert first != second


def skew(spec):
    """Mean share of a client's most frequent label, over 20 seeds."""
    shares = []
    for seed in range(20):
        counts = label_counts(LABELS, partition(spec, LABELS, 10, seed), 10)
        shares.append((counts.max(axis=1) / counts.sum(axis=1)).mean())
    return np.mean(shares)


def test_clients_grow_more_alike_with_alpha():
    skews = [skew(f"dirichlet:{alpha}") for alpha in (0.05, 0.3, 1, 10, 1000)]
    assert skews == sorted(skews, reverse=True)
    assert skews[0] > 0.6
    # Ten classes shared out evenly.
    assert skews[-1] == pytest.approx(0.1, abs=0.02)


def test_shards_hold_as_many_labels_as_shards_where_classes_divide_evenly():
    # 600 examples in 20 shards of 30; each class fills two shards.
    counts = label_counts(LABELS, partition("shards:2", LABELS, 10, seed=3), 10)
    assert ((counts > 0).sum(axis=1) <= 2).all()
    assert (counts.sum(axis=1) == 60).all()


@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 1000))
def test_a_client_has_at_most_twice_as_many_labels_as_shards(shards, num_clients, seed):
    if num_clients * shards < 10:
        num_clients = 10
    counts = label_counts(LABELS, partition(f"shards:{shards}", LABELS, num_clients, seed), 10)
    assert ((counts > 0).sum(axis=1) <= 2 * shards).all()


def test_client_ids_of_the_data_decide():
    ids = np.array(["b", "a", "b", "c"])
    parts = partition("client-id", np.zeros(4, int), 3, 0, ids)
    assert [part.tolist() for part in parts] == [[1], [0, 2], [3]]


def test_the_shares_have_a_dirichlet_distributions_moments():
    # Of one class of n examples, a client has n / 10 on average; the variance of its share is
    # (1/10) (9/10) / (10 alpha + 1).
    y = np.zeros(10_000, int)
    shares = [len(partition("dirichlet:0.5", y, 10, seed)[0]) / len(y) for seed in range(1_000)]
    assert np.mean(shares) == pytest.approx(0.1, abs=0.01)
    assert np.var(shares) == pytest.approx(0.09 / 6, rel=0.2)


def test_an_empty_client_takes_one_example_from_the_largest():
    # With a vanishing alpha one client draws the whole class.
    parts = partition("dirichlet:1e-6", np.zeros(5, int), 3, seed=0)
    assert sorted(len(part) for part in parts) == [1, 1, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("iid", np.zeros(3, int), 4, 0), "expected 1 to 3 clients for 3 examples, found 4"),
        (("iid", np.zeros(3, int), 0, 0), "found 0"),
        (("shards:2", np.zeros(3, int), 2, 0), "2 clients need 4 shards, and there are 3 examples"),
        (("dirichlet:1", np.zeros((3, 1)), 2, 0), "the data has none .* choose iid or client-id"),
        (("shards:1", np.zeros(3), 2, 0), "its targets are float64"),
        (("client-id", np.zeros(3, int), 2, 0), "the data names no clients"),
        (("client-id", np.zeros(3, int), 2, 0, np.arange(3)), "names 3 clients, .* ask for 3"),
        (("client-id", np.zeros(3, int), 2, 0, np.arange(2)), "expected 3 client ids, found 2"),
    ],
)
def test_a_partition_that_cannot_be_says_why(arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        partition(*arguments)


def test_targets_of_a_regression_can_be_shared_out_at_random():
    parts = partition("iid", np.linspace(0, 1, 6)[:, None], 2, seed=0)
    assert [len(part) for part in parts] == [3, 3]


def test_neither_tensorflow_nor_scikit_learn_is_imported_for_it():
    code = (
        "import sys, fedviz.training.partitions, fedviz.training.data, "
        "fedviz.training.architectures as a; a.architecture('dense');"
        "print([m for m in ('tensorflow', 'tensorflow_federated', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
