"""Controls whose values are part of the selection: in the address, and kept when a page is left."""

from __future__ import annotations

from typing import Any

import streamlit as st

__all__ = ["choice", "choices", "forget", "held", "put", "text", "whole_number"]


def choice(label: str, options: list[str], key: str, *, shows_label: bool = False) -> str:
    """One of a few options, side by side; the first by default."""
    _hold(key)
    if st.session_state.get(key) not in options:
        st.session_state.pop(key, None)
    chosen = st.segmented_control(
        label,
        options,
        default=None if key in st.session_state else options[0],
        key=key,
        label_visibility="visible" if shows_label else "collapsed",
        required=True,
        bind="query-params",
    )
    return _kept(key, chosen or options[0])


def choices(label: str, options: list[str], default: list[str], key: str) -> list[str]:
    """Some of several options, in the options' order; the usual ones where none is chosen."""
    _hold(key)
    if key in st.session_state:
        st.session_state[key] = [o for o in st.session_state[key] or [] if o in options]
    chosen = st.pills(
        label,
        options,
        selection_mode="multi",
        default=None if key in st.session_state else default,
        key=key,
        label_visibility="collapsed",
        bind="query-params",
    )
    _kept(key, list(chosen))
    return [option for option in options if option in chosen] or default


def text(label: str, key: str, **options: Any) -> str:
    """A short text; empty by default."""
    _hold(key)
    return _kept(key, st.text_input(label, key=key, bind="query-params", **options) or "")


def whole_number(label: str, key: str, most: int, default: int = 0) -> int:
    """A number from 0 to ``most``; the default where the address asks for more."""
    _hold(key)
    held = st.session_state.get(key, default)
    st.session_state[key] = held if isinstance(held, int) and 0 <= held <= most else default
    value = st.number_input(label, min_value=0, max_value=most, key=key, bind="query-params")
    return int(_kept(key, value))


def held(key: str) -> Any:
    """What a control will have that is drawn further down; None where nobody said."""
    known = st.session_state.get(key, st.query_params.get(key))
    return st.session_state.get(f"_kept_{key}") if known is None else known


def put(key: str, value: Any) -> None:
    """Change a control from a callback, or before it is drawn."""
    st.session_state[key] = value
    _kept(key, value)


def forget(*keys: str) -> None:
    """Take controls back to their defaults, before they are drawn."""
    for key in keys:
        st.session_state.pop(key, None)
        st.session_state.pop(f"_kept_{key}", None)


def _hold(key: str) -> None:
    """Give a control what it had, where neither the page nor the address says otherwise."""
    held = st.session_state.get(key, st.session_state.get(f"_kept_{key}"))
    if key not in st.query_params and held is not None:
        st.session_state[key] = held


def _kept(key: str, value: Any) -> Any:
    st.session_state[f"_kept_{key}"] = value
    return value
