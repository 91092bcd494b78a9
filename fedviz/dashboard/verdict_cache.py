"""What the signatures page's lower half computes once and keeps, keyed by the file's identity.

As in :mod:`fedviz.dashboard.cache`; arguments with an underscore follow from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from fedviz.analysis.check import check
from fedviz.analysis.check_report import CheckReport
from fedviz.analysis.numpy_averaging import (
    ClientModel,
    NumpyVerdict,
    distinct_models,
    numpy_verdicts,
    verdict_beside,
)
from fedviz.dashboard import cache, tasks
from fedviz.dashboard.engine import Job
from fedviz.dataset import Round, WeightDataset
from fedviz.errors import InvalidArgumentError
from fedviz.repair import Preview, RepairPlan, preview, repair_plan
from fedviz.signature import MismatchKind, Signature, compare_signatures
from fedviz.tff_types import PastedTypes, parse_paste

__all__ = [
    "MOST_MODELS",
    "Divergence",
    "RoundVerdicts",
    "ValueFindings",
    "pasted",
    "planned",
    "previewed",
    "round_verdicts",
    "tff_job",
    "value_findings",
]

MOST_MODELS = 12
"""Distinct models of a round that are judged one by one; those of most clients come first."""


@dataclass(frozen=True)
class Divergence:
    """Clients that differ from the server model in the same way.

    ``numpy`` says what becomes of one of them and one that conforms. ``swapped`` is whether their
    values are in each other's place, which no signature shows.
    """

    model: ClientModel
    kinds: tuple[MismatchKind, ...]
    numpy: NumpyVerdict
    swapped: bool = False


@dataclass(frozen=True)
class RoundVerdicts:
    """What NumPy does with a round, and with each kind of client that differs in it.

    ``more`` counts the distinct models that are left out of ``divergences``, and
    ``more_clients`` the clients that have them.
    """

    whole: NumpyVerdict
    divergences: tuple[Divergence, ...]
    more: int
    more_clients: int


ValueFindings = tuple[tuple[str, str], ...]
"""Client and tensor of every mismatch that only the values show."""


def value_findings(report: CheckReport) -> ValueFindings:
    """What a check found in the values; nothing, where it did not look at them."""
    return tuple(
        (each.client, each.mismatch.tensor)
        for each in report.mismatches
        if each.mismatch.kind is MismatchKind.NONFINITE or each.mismatch.values_of
    )


@st.cache_resource(show_spinner=False, max_entries=64, hash_funcs=cache.HASH_KEYS)
def round_verdicts(round_: Round, in_values: ValueFindings, _report: CheckReport) -> RoundVerdicts:
    """What NumPy-style averaging does with a round.

    ``_report`` is a check of the round against the dataset's own signature.
    """
    del in_values
    reference = round_.dataset.signature
    distinct = distinct_models(round_, _report)
    models = sorted(
        (model for model in distinct if _differs(reference, model)),
        key=lambda model: -len(model.clients),
    )
    found = [_divergence(reference, model) for model in models[:MOST_MODELS]]
    swapped = dict.fromkeys(e.client for e in _report.mismatches if e.mismatch.values_of)
    if swapped:
        model = ClientModel(tuple(swapped), reference, frozenset())
        right = verdict_beside(reference, model)
        found.append(Divergence(model, (MismatchKind.ORDER,), right, swapped=True))
    rest = models[MOST_MODELS:]
    return RoundVerdicts(
        numpy_verdicts(round_, models=distinct),
        tuple(found),
        len(rest),
        sum(len(model.clients) for model in rest),
    )


def _differs(reference: Signature, model: ClientModel) -> bool:
    return bool(model.nonfinite) or not reference.agrees_with(model.signature)


def _divergence(reference: Signature, model: ClientModel) -> Divergence:
    kinds = [mismatch.kind for mismatch in compare_signatures(reference, model.signature)]
    kinds += [MismatchKind.NONFINITE] if model.nonfinite else []
    return Divergence(model, tuple(dict.fromkeys(kinds)), verdict_beside(reference, model))


@st.cache_resource(show_spinner=False, max_entries=64, hash_funcs=cache.HASH_KEYS)
def tff_job(round_: Round, in_values: ValueFindings, _models: Sequence[ClientModel]) -> Job:
    """The job that asks TFF about the models of a round: asked once, for every visitor."""
    del in_values
    return cache.engine().submit(
        "tff_verdicts",
        f"asking TFF about round {round_.number}",
        tasks.run_tff_verdicts,
        round_.dataset.path,
        round_.number,
        tuple(_models),
    )


@st.cache_resource(show_spinner="Looking for repairs …", max_entries=32, hash_funcs=cache.HASH_KEYS)
def planned(dataset: WeightDataset, round_number: int | None) -> RepairPlan:
    """What can be done about the mismatches of one round, or of all."""
    report = check(dataset, round=round_number)
    return repair_plan(dataset, report, round=round_number)


@st.cache_resource(show_spinner=False, max_entries=256, hash_funcs=cache.HASH_KEYS)
def previewed(
    dataset: WeightDataset,
    round_number: int | None,
    ways: tuple[int, ...],
    _plan: RepairPlan,
) -> Preview:
    """What a plan leaves; ``ways`` are the choices that make it of the planned one."""
    del round_number, ways
    return preview(_plan, dataset)


@st.cache_resource(show_spinner="Reading the types …", max_entries=16)
def pasted(text: str) -> PastedTypes | str:
    """The types in a pasted text, or why there are none."""
    try:
        return parse_paste(text)
    except InvalidArgumentError as error:
        return str(error)
