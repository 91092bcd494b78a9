"""Controls whose values are part of the selection: in the address, and kept when a page is left.

Streamlit keeps the value of a control that is bound to the address, and leaves its default out of
it: the default must be the same in every run.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

__all__ = ["choice", "choices", "forget", "held", "put", "text", "whole_number"]


def choice(label: str, options: list[str], key: str, *, shows_label: bool = False) -> str:
    """One of a few options, side by side; the first by default."""
    if key in st.session_state and st.session_state[key] not in options:
        st.session_state[key] = options[0]
    chosen = st.segmented_control(
        label,
        options,
        default=options[0],
        key=key,
        label_visibility="visible" if shows_label else "collapsed",
        required=True,
        bind="query-params",
    )
    return chosen or options[0]


def choices(label: str, options: list[str], default: list[str], key: str) -> list[str]:
    """Some of several options, in the options' order; the usual ones where none is chosen."""
    known = st.session_state.get(key) or []
    if not set(known) <= set(options):
        st.session_state[key] = [option for option in options if option in known] or default
    chosen = st.pills(
        label,
        options,
        selection_mode="multi",
        default=default,
        key=key,
        label_visibility="collapsed",
        bind="query-params",
    )
    return [option for option in options if option in chosen] or default


def text(label: str, key: str, **options: Any) -> str:
    """A short text; empty by default."""
    return st.text_input(label, key=key, bind="query-params", **options) or ""


def whole_number(label: str, key: str, most: int) -> int:
    """A number from 0 to ``most``; 0 where another tensor's number was larger."""
    if key in st.session_state and not 0 <= st.session_state[key] <= most:
        st.session_state[key] = 0
    value = st.number_input(
        label, min_value=0, max_value=most, value=0, key=key, bind="query-params"
    )
    return int(value)


def held(key: str) -> Any:
    """What a control will have that is drawn further down; None where nobody said."""
    return st.session_state.get(key, st.query_params.get(key))


def put(key: str, value: Any) -> None:
    """Change a control from a callback, or before it is drawn."""
    st.session_state[key] = value


def forget(*keys: str) -> None:
    """Take controls back to their defaults, before they are drawn."""
    for key in keys:
        st.session_state.pop(key, None)
