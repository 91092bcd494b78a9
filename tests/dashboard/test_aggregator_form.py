import pytest

from fedviz.aggregation.aggregators import AGGREGATORS
from tests.dashboard.opened import unescaped
from tests.dashboard.pieces import OpenedPiece
from tests.dashboard.test_samples import MLP

FORM = """
import streamlit as st
from fedviz.dashboard import aggregator_form

form = aggregator_form.choose(chosen)
st.text(f"{form.aggregator.name} {form.parameters} {form.weighting} {form.history} {form.valid}")
"""


def opened(**levels):
    return OpenedPiece(FORM, dataset=MLP.name, **levels)


@pytest.fixture
def page():
    return opened()


def form(page):
    """What the form says: aggregator, parameters, weighting, history, and whether all is well."""
    return page.app.text[0].value


def field(page, rule, parameter):
    return page.app.text_input(key=f"{rule} {parameter}")


def said(page):
    return [unescaped(each.value) for each in page.app.markdown]


def test_every_aggregator_is_offered_with_its_parameters(page):
    assert page.app.selectbox(key="aggregator").options == [r.title for r in AGGREGATORS.values()]
    for rule in AGGREGATORS.values():
        page.choose(aggregator=rule.title)
        labels = {each.label for each in (*page.app.text_input, *page.app.selectbox)}
        assert {p.name.replace("_", " ") for p in rule.parameters} <= labels
        assert page.app.code[0].value == rule.formula
        assert form(page) == f"{rule.name} {{}} num_examples False True"


def test_a_parameter_outside_its_range_is_told_in_place(page):
    page.choose(aggregator=AGGREGATORS["krum"].title)
    field(page, "krum", "f").set_value("-1")
    page.run()
    assert page.errors == ["f: expected an integer from 0, found '-1'."]
    assert form(page) == "krum {} num_examples False False"

    field(page, "krum", "f").set_value("2")
    page.run()
    assert page.errors == []
    assert form(page) == "krum {'f': 2} num_examples False True"


def test_weighting_is_asked_only_where_it_counts(page):
    assert [control.label for control in page.app.button_group] == ["Weighting"]
    page.choose(aggregator=AGGREGATORS["median"].title)
    assert not page.app.button_group
    assert any("This rule counts every client alike" in text for text in said(page))


def test_rounds_before_are_offered_where_they_can_count(page):
    page.choose(aggregator=AGGREGATORS["robust"].title)
    (toggle,) = page.app.toggle
    toggle.set_value(True)
    page.run()
    assert form(page) == "robust {} num_examples True True"
    page.choose(aggregator=AGGREGATORS["fedadam"].title)
    assert not page.app.toggle
    assert any("the moves of the rounds before" in text for text in said(page))
    first = opened(round="0")
    first.choose(aggregator=AGGREGATORS["robust"].title)
    assert not first.app.toggle
