"""The box that takes a TFF error."""

from __future__ import annotations

import numpy as np
import pytest

from fedviz.dashboard import pasting
from fedviz.dataset import WeightDataset
from fedviz.tff_types import diff_types, parse_type
from tests.dashboard.pieces import OpenedPiece

pytestmark = pytest.mark.usefixtures("data_dir")


def box():
    return OpenedPiece("pasting.section()", dataset="digits-mlp.h5")


def pasted(text):
    page = box()
    page.app.text_area(key="pasted_error").set_value(text)
    page.run()
    return page


def rows(page):
    return page.tables()[0].to_numpy().tolist()


def texts(page):
    return [m.value for m in page.app.markdown]


def test_nothing_pasted_says_nothing():
    page = box()
    assert [len(page.app.table), len(page.app.error), len(page.app.toggle)] == [0, 0, 0]


def test_the_example_is_laid_side_by_side():
    page = box()
    page.press("Fill in an example")
    assert "**1 of 4 leaves differs: 1 shape.**" in texts(page)
    assert rows(page) == [
        ["dense/kernel", "float32[64,32]", "float32[32,64]", ":red-badge[S] shape"]
    ]
    page.app.toggle(key="pasted_all").set_value(True)
    page.run()
    assert [row[0] for row in rows(page)] == [
        "dense/kernel",
        "dense/bias",
        "dense_1/kernel",
        "dense_1/bias",
    ]
    assert rows(page)[1][3] == ":gray[same]"


@pytest.mark.tff
def test_the_example_is_what_tff_says():
    import tensorflow_federated as tff

    def model(kernel):
        shapes = [kernel, (32,), (32, 10), (10,)]
        names = ["dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"]
        return tff.StructWithPythonType(
            [(n, tff.TensorType(np.float32, s)) for n, s in zip(names, shapes, strict=True)], dict
        )

    with pytest.raises(TypeError) as error:
        model((64, 32)).check_assignable_from(model((32, 64)))
    said = f"TypeError: {error.value}"
    assert said.startswith(pasting.EXAMPLE.rstrip("\n"))


@pytest.mark.parametrize(
    ("expected", "found", "words"),
    [
        ("<a=int32[2]>", "<a=int64[2]>", ":blue-badge[D] dtype"),
        ("<a=int32[2]>", "<a=int32[3]>", ":red-badge[S] shape"),
        ("<a=int32[2]>", "<a=int64[2,1]>", ":red-badge[R] rank and dtype"),
        ("<a=int32,b=bool>", "<a=int32>", ":violet-badge[M] missing"),
        ("<a=int32>", "<a=int32,b=bool>", ":violet-badge[X] one too many"),
        ("<a=int32,b=str>", "<a=int32,c=str>", ":orange-badge[A] another name"),
        ("<a=int32,b=str>", "<b=str,a=int32>", ":orange-badge[O] in another place"),
        ("{int32}@CLIENTS", "int32@SERVER", "placement"),
        ("<a=int32>", "<a=int32*>", "another type"),
    ],
)
def test_what_differs_in_a_leaf(expected, found, words):
    page = pasted(f"{expected}\n\n{found}")
    assert words in {row[3] for row in rows(page)}


def test_what_is_no_type_is_refused_in_place_with_its_position():
    page = pasted("<a=float32[2],\n b=flot32[3]>")
    (error,) = page.errors
    assert "line 2, column 4" in error
    assert not page.app.table


def test_a_text_that_is_too_long_is_refused():
    (error,) = pasted("x" * 200_001).errors
    assert error == "expected at most 200,000 characters, found 200,001; paste only the types."


def test_one_type_is_compared_with_the_open_dataset():
    page = pasted(
        "{<weights=<dense=<kernel=float32[64,32],bias=float32[32]>,"
        "dense_1=<kernel=float32[32,10],bias=float64[10]>>,num_examples=int64>}@CLIENTS"
    )
    assert not page.app.table
    page.app.toggle(key="pasted_against_dataset").set_value(True)
    page.run()
    assert rows(page) == [["dense_1/bias", "float32[10]", "float64[10]", ":blue-badge[D] dtype"]]


def test_the_dataset_s_own_type_is_the_same():
    with WeightDataset("sample_data/digits-mlp.h5") as dataset:
        text = str(dataset.signature)
    page = pasted(text)
    page.app.toggle(key="pasted_against_dataset").set_value(True)
    page.run()
    assert "**The types are the same: 4 leaves.**" in texts(page)


def test_the_sentence_counts_each_kind():
    expected = parse_type("<a=int32,b=int32,c=int32[2],d=str>")
    found = parse_type("<a=int64,b=int64,c=int32[3],d=str>")
    sentence = pasting.leaf_sentence(diff_types(expected, found))
    assert sentence == "3 of 4 leaves differ: 2 dtype, 1 shape."
