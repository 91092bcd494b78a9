"""Choosing an aggregator and its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from fedviz.aggregation.aggregators import AGGREGATORS, Aggregator
from fedviz.aggregation.cohort import WEIGHTINGS
from fedviz.dashboard import widgets
from fedviz.dashboard.state import Selection
from fedviz.errors import FedvizError
from fedviz.parameters import Choice, Parameter

__all__ = ["ChosenRule", "choose", "fields", "leave_out_divergent"]


@dataclass(frozen=True)
class ChosenRule:
    """How a round is to be aggregated; ``valid`` is False where a parameter is out of range."""

    aggregator: Aggregator
    parameters: dict[str, Any]
    weighting: str
    history: bool
    valid: bool


def choose(chosen: Selection) -> ChosenRule:
    """The form: which rule, with which parameters, and what each client weighs."""
    name = st.selectbox(
        "Aggregator",
        list(AGGREGATORS),
        format_func=lambda each: AGGREGATORS[each].title,
        key="aggregator",
    )
    rule = AGGREGATORS[name]
    description = rule.description[0].upper() + rule.description[1:]
    st.markdown(f":small[{widgets.literal(description)}.]")
    with st.expander("What it computes", icon=":material/functions:", type="compact"):
        _explain(rule)
    parameters, valid = _parameters(rule)
    return ChosenRule(rule, parameters, _weighting(chosen, rule), _history(chosen, rule), valid)


def _explain(rule: Aggregator) -> None:
    st.code(rule.formula, language=None, wrap_lines=True)
    st.markdown(
        f":small[**Smallest cohort** {widgets.literal(rule.cohort)}. **Protects against** "
        f"{widgets.literal(rule.protects_against)}.]\n\n"
        f":small[:gray[{widgets.literal(rule.source)}]]"
    )


def _parameters(rule: Aggregator) -> tuple[dict[str, Any], bool]:
    if not rule.parameters:
        return {}, True
    with st.expander("Parameters", icon=":material/tune:", type="compact"):
        return fields(rule)


def fields(rule: Aggregator) -> tuple[dict[str, Any], bool]:
    """A field for each parameter.

    Returns
    -------
    given : dict of str to object
        Those that differ from their defaults.
    valid : bool
        Whether all are within their ranges; where one is not, it says so itself.
    """
    given: dict[str, Any] = {}
    valid = True
    for parameter in rule.parameters:
        value = _field(rule, parameter)
        if str(value) == str(parameter.default):
            continue
        try:
            given[parameter.name] = parameter.checked(value)
        except FedvizError as error:
            st.error(widgets.literal(str(error)))
            valid = False
    return given, valid


def _field(rule: Aggregator, parameter: Parameter | Choice) -> str:
    key = f"{rule.name} {parameter.name}"
    label = parameter.name.replace("_", " ")
    text = widgets.literal(f"{parameter.help} ({parameter.range})")
    if isinstance(parameter, Choice):
        index = parameter.words.index(parameter.default)
        return st.selectbox(label, parameter.words, index=index, key=key, help=text)
    return st.text_input(label, str(parameter.default), key=key, help=text).strip()


def _weighting(chosen: Selection, rule: Aggregator) -> str:
    """How much each client counts; where ``num_examples`` are not known, all alike."""
    if any(record.num_examples is None for record in chosen.round.records):
        st.markdown(
            ":small[**Weighting**: uniform. Each client counts once, since num_examples is not "
            "known of all.]"
        )
        return "uniform"
    if not rule.weighted:
        st.markdown(":small[**Weighting**: none. This rule counts every client alike.]")
        return "num_examples"
    return st.segmented_control(
        "Weighting",
        list(WEIGHTINGS),
        default=next(iter(WEIGHTINGS)),
        key="weighting",
        required=True,
        width="stretch",
        help="; ".join(f"**{name}**: {line}" for name, line in WEIGHTINGS.items()),
    )


def _history(chosen: Selection, rule: Aggregator) -> bool:
    if rule.history == "always":
        st.markdown(":small[Takes the moves of the rounds before into account.]")
    if rule.history != "optional" or chosen.round.number == chosen.dataset.rounds[0].number:
        return False
    return st.toggle(
        "Run the rounds before, too",
        key="history",
        help="Adaptive norms then are what a server would have by this round; without it, they "
        "are their first estimates.",
    )


def leave_out_divergent(chosen: Selection) -> bool:
    """Whether clients of another signature are left out; asked only where there are some."""
    divergent = len(chosen.round.divergent)
    return bool(divergent) and st.toggle(
        f"Leave {divergent} divergent client{'s' if divergent > 1 else ''} out",
        help="A round in which a client has another signature cannot be aggregated with it.",
    )
