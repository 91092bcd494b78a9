"""A TFF type error, or two types, pasted and laid side by side leaf by leaf."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from fedviz.dashboard import state, verdict_cache, widgets, wording
from fedviz.errors import SignatureError
from fedviz.figures.text import counted
from fedviz.figures.theme import KIND_BADGE, KIND_LETTER
from fedviz.signature import MismatchKind, Signature
from fedviz.tff_types import (
    LeafDiff,
    LeafStatus,
    StructType,
    TensorType,
    TffType,
    diff_types,
    parse_type,
    signature_of,
)

__all__ = ["section"]

_KEY = "pasted_error"
_LONGEST_TEXT = 200_000
_MOST_ROWS = 200

EXAMPLE = """\
TypeError: Type
`<
  dense/kernel=float32[32,64],
  dense/bias=float32[32],
  dense_1/kernel=float32[32,10],
  dense_1/bias=float32[10]
>`
is not assignable to type
`<
  dense/kernel=float32[64,32],
  dense/bias=float32[32],
  dense_1/kernel=float32[32,10],
  dense_1/bias=float32[10]
>`
"""
"""What TFF 0.87 says of a client whose kernel is transposed; below it comes a diff of lines."""

_KINDS = {
    LeafStatus.MISSING: MismatchKind.MISSING,
    LeafStatus.EXTRA: MismatchKind.EXTRA,
    LeafStatus.MOVED: MismatchKind.ORDER,
    LeafStatus.RENAMED: MismatchKind.NAME,
}
_WORDS = {
    LeafStatus.MISSING: "missing",
    LeafStatus.EXTRA: "one too many",
    LeafStatus.MOVED: "in another place",
    LeafStatus.RENAMED: "another name",
}


@st.fragment
def section() -> None:
    """A box for the text, and what differs in it."""
    widgets.section(
        "Paste a TFF error",
        "A type error as TFF prints it, or two types, the expected one first.",
    )
    text = st.text_area(
        "TFF error or types",
        key=_KEY,
        height=180,
        label_visibility="collapsed",
        placeholder="Type `<a=float32[2]>` is not assignable to type `<a=float32[3]>`",
    )
    st.button("Fill in an example", icon=":material/edit_note:", on_click=_fill_in)
    if not (text or "").strip():
        return
    if len(text) > _LONGEST_TEXT:
        _refuse(
            f"expected at most {_LONGEST_TEXT:,} characters, found {len(text):,}; "
            "paste only the types."
        )
        return
    pasted = verdict_cache.pasted(text)
    if isinstance(pasted, str):
        _refuse(pasted)
    elif pasted.found is not None:
        _comparison(diff_types(pasted.expected, pasted.found))
    else:
        _one_type(pasted.expected)


def _fill_in() -> None:
    st.session_state[_KEY] = EXAMPLE


def _refuse(message: str) -> None:
    st.error(widgets.literal(message), icon=":material/error:")


def _one_type(found: TffType) -> None:
    """There is nothing to compare it with in the text: the open dataset offers itself."""
    dataset = state.selection().dataset
    st.markdown("There is one type in this text, and nothing that it differs from.")
    name = wording.plain_text(dataset.path.name)
    if st.toggle(f"Compare it with the type of {name}", key="pasted_against_dataset"):
        _comparison(diff_types(_struct(dataset.signature), _like_weights(found)))


def _struct(signature: Signature) -> StructType:
    return StructType(tuple((s.name, TensorType(s.dtype, s.shape)) for s in signature))


def _like_weights(found: TffType) -> TffType:
    """The weights within a type, with names as a dataset has them; the type where it has none."""
    try:
        return _struct(signature_of(found))
    except SignatureError:
        return found


def _comparison(leaves: Sequence[LeafDiff]) -> None:
    differing = [leaf for leaf in leaves if leaf.status is not LeafStatus.SAME]
    st.markdown(f"**{leaf_sentence(leaves)}**")
    show_all = st.toggle(f"Show all {counted(len(leaves), 'leaf', 'leaves')}", key="pasted_all")
    shown = leaves if show_all else differing
    if not shown:
        return
    with st.container(key="mid_pasted"):
        rows = [_row(leaf) for leaf in shown[:_MOST_ROWS]]
        st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)
    if len(shown) > _MOST_ROWS:
        more = counted(len(shown) - _MOST_ROWS, "other leaf", "other leaves")
        st.markdown(f":small[:gray[… and {more}.]]")


def leaf_sentence(leaves: Sequence[LeafDiff]) -> str:
    """How many leaves differ, and in what."""
    differing = [leaf for leaf in leaves if leaf.status is not LeafStatus.SAME]
    if not differing:
        return f"The types are the same: {counted(len(leaves), 'leaf', 'leaves')}."
    kinds = Counter(difference(leaf)[1] for leaf in differing)
    listed = ", ".join(f"{count:,} {words}" for words, count in kinds.most_common())
    verb = "differs" if len(differing) == 1 else "differ"
    total = counted(len(leaves), "leaf", "leaves")
    return f"{len(differing):,} of {total} {verb}: {listed}."


def _row(leaf: LeafDiff) -> dict[str, str]:
    kind, words = difference(leaf)
    badge = f":{KIND_BADGE[kind]}-badge[{KIND_LETTER[kind]}] " if kind else ""
    return {
        "Leaf": wording.plain(leaf.label) if leaf.path else ":gray[the type itself]",
        "Expected": _type(leaf.expected),
        "Found": _type(leaf.found),
        "What differs": f"{badge}{words}" if words else ":gray[same]",
    }


def _type(text: str | None) -> str:
    return ":gray[nothing]" if text is None else wording.plain(text)


def difference(leaf: LeafDiff) -> tuple[MismatchKind | None, str]:
    """What a leaf differs in: the kind of mismatch, where it is one of weights, and words."""
    if leaf.status is LeafStatus.SAME:
        return None, ""
    if leaf.status in _KINDS:
        return _KINDS[leaf.status], _WORDS[leaf.status]
    if leaf.path[-1:] == ("@",):
        return None, "placement"
    expected, found = parse_type(leaf.expected or ""), parse_type(leaf.found or "")
    if not isinstance(expected, TensorType) or not isinstance(found, TensorType):
        return None, "another type"
    return _tensor_difference(expected, found)


def _tensor_difference(expected: TensorType, found: TensorType) -> tuple[MismatchKind, str]:
    same_dtype = expected.dtype == found.dtype
    if expected.shape == found.shape:
        return MismatchKind.DTYPE, "dtype"
    also = "" if same_dtype else " and dtype"
    ranks = [None if t.shape is None else len(t.shape) for t in (expected, found)]
    if ranks[0] != ranks[1]:
        return MismatchKind.RANK, f"rank{also}"
    return MismatchKind.SHAPE, f"shape{also}"
