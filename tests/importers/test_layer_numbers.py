"""Layers that Keras only numbered on take the reference's names; near misses keep their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedviz.analysis.check import check
from fedviz.dataset import WeightDataset
from fedviz.importers.layer_numbers import differ_in_layer_numbers
from fedviz.importing import import_clients
from fedviz.signature import Signature
from fedviz.tff_types import parse_type, signature_of
from tests.importers.opened import opened

FOLDER = Path(__file__).parent / "files"
NOTE = "layer numbers given by Keras were matched by position, with the reference's names"


def loop(version):
    """Three models of one process, made without ``clear_session()`` between them."""
    return [FOLDER / f"{version}_loop{i}.h5" for i in range(3)]


@pytest.mark.parametrize("version", ["keras1.2", "keras2.3", "keras2.14", "keras3.15"])
def test_models_of_one_loop_are_one_signature(tmp_path, version):
    files = loop(version)
    report = import_clients(files, tmp_path / "out.h5")
    assert [client.notes for client in report.clients] == [(), (NOTE,), (NOTE,)]
    assert report.divergent == ()
    assert report.notes == (f"2 clients: {NOTE}",)
    assert f"\n2 clients: {NOTE}.\n" in f"{report}\n"
    first = opened(files[0]).names
    assert report.signature.names == tuple(first)
    assert opened(files[2]).names != first
    with WeightDataset(tmp_path / "out.h5") as dataset:
        third = dataset.round().clients[report.clients[2].id]
        for name, array in zip(first, opened(files[2]).arrays.values(), strict=True):
            np.testing.assert_array_equal(third[name], array)
    assert check(tmp_path / "out.h5").consistent


@pytest.mark.parametrize("version", ["keras1.2", "keras3.15"])
def test_names_are_kept_where_that_is_asked_for(tmp_path, version):
    report = import_clients(loop(version), tmp_path / "out.h5", keep_names=True)
    assert [client.conforming for client in report.clients] == [True, False, False]
    assert report.notes == ()
    assert {found.mismatch.rule for found in check(tmp_path / "out.h5").mismatches} == {"numbered"}


def test_the_server_models_names_are_taken(tmp_path):
    server, *clients = loop("keras2.14")
    report = import_clients(clients, tmp_path / "out.h5", server=server)
    assert report.divergent == ()
    assert report.notes == (f"2 clients: {NOTE}",)
    assert report.signature.names == tuple(opened(server).names)


def test_a_server_model_takes_the_names_of_the_reference_that_was_asked_for(tmp_path):
    server, first, second = loop("keras2.14")
    files = [first, second]
    report = import_clients(files, tmp_path / "out.h5", server=server, reference=second)
    assert report.signature.names == tuple(opened(second).names)
    with WeightDataset(tmp_path / "out.h5") as dataset:
        model = dataset.round().server
        for name, array in zip(opened(second).names, opened(server).arrays.values(), strict=True):
            np.testing.assert_array_equal(model[name], array)


def signature(text: str) -> Signature:
    return signature_of(parse_type(text))


REFERENCE = "<dense/kernel=float32[4,4],dense_1/kernel=float32[4,4],{}/gamma=float32[4]>"


@pytest.mark.parametrize(
    "found",
    [
        "<dense_2/kernel=float32[4,4],dense_3/kernel=float32[4,4],{}_1/gamma=float32[4]>",
        "<dense_1/kernel=float32[4,4],dense_2/kernel=float32[4,4],{}/gamma=float32[4]>",
        "<dense_6/kernel=float32[4,4],dense_7/kernel=float32[4,4],{}_12/gamma=float32[4]>",
    ],
)
def test_numbers_that_moved_on(found):
    reference = signature(REFERENCE.format("batch_normalization"))
    other = signature(found.format("batch_normalization"))
    assert differ_in_layer_numbers(reference, other)
    assert differ_in_layer_numbers(other, reference)


@pytest.mark.parametrize(
    ("why", "found"),
    [
        (
            "two layers changed places",
            "<dense_1/kernel=float32[4,4],dense/kernel=float32[4,4],{}/gamma=float32[4]>",
        ),
        (
            "the numbers did not move together",
            "<dense_2/kernel=float32[4,4],dense_4/kernel=float32[4,4],{}_1/gamma=float32[4]>",
        ),
        (
            "another kind of layer",
            "<dense_2/kernel=float32[4,4],conv1d_3/kernel=float32[4,4],{}_1/gamma=float32[4]>",
        ),
        (
            "another order of kinds",
            "<{}_1/gamma=float32[4],dense_2/kernel=float32[4,4],dense_3/kernel=float32[4,4]>",
        ),
        (
            "another shape",
            "<dense_2/kernel=float32[4,4],dense_3/kernel=float32[4,5],{}_1/gamma=float32[4]>",
        ),
        (
            "another dtype",
            "<dense_2/kernel=float32[4,4],dense_3/kernel=float16[4,4],{}_1/gamma=float32[4]>",
        ),
        (
            "another variable",
            "<dense_2/kernel=float32[4,4],dense_3/kernel=float32[4,4],{}_1/beta=float32[4]>",
        ),
        ("a layer less", "<dense_2/kernel=float32[4,4],dense_3/kernel=float32[4,4]>"),
        (
            "the very same",
            "<dense/kernel=float32[4,4],dense_1/kernel=float32[4,4],{}/gamma=float32[4]>",
        ),
        (
            "inside another model",
            "<encoder/dense/kernel=float32[4,4],dense_1/kernel=float32[4,4],{}/gamma=float32[4]>",
        ),
    ],
)
def test_near_misses(why, found):
    reference = signature(REFERENCE.format("batch_normalization"))
    other = signature(found.format("batch_normalization"))
    assert not differ_in_layer_numbers(reference, other), why
    assert not differ_in_layer_numbers(other, reference), why


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        # A person's names, not Keras's: a head for each hospital is not the same layer.
        ("hospital_1/kernel", "hospital_2/kernel"),
        ("dense_a/kernel", "dense_b/kernel"),
        ("layer1.weight", "layer2.weight"),
        ("dense_1.weight", "dense_2.weight"),
        ("my_dense_1/kernel", "my_dense_2/kernel"),
    ],
)
def test_names_that_a_person_gave_are_kept(ours, theirs):
    a, b = (Signature.of({name: np.zeros((4, 4), np.float32)}) for name in (ours, theirs))
    assert not differ_in_layer_numbers(a, b)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("convolution2d_1_W", "convolution2d_3_W"),
        ("batchnormalization_1_running_std", "batchnormalization_9_running_std"),
        ("sequential/dense/kernel", "sequential_1/dense_2/kernel"),
        ("both/forward_lstm/lstm_cell/kernel", "both/forward_lstm_1/lstm_cell_3/kernel"),
        ("encoder/dense_1/kernel", "encoder/dense_7/kernel"),
    ],
)
def test_what_each_version_of_keras_numbers(ours, theirs):
    a, b = (Signature.of({name: np.zeros((4, 4), np.float32)}) for name in (ours, theirs))
    assert differ_in_layer_numbers(a, b)
