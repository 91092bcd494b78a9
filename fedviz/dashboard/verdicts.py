"""What each framework would do with a round: the real TFF, and averaging as NumPy does it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import pandas as pd
import streamlit as st

from fedviz.analysis.check import LookAt
from fedviz.analysis.check_report import CheckReport
from fedviz.analysis.numpy_averaging import (
    ClientModel,
    NumpyOutcome,
    NumpyVerdict,
    Remainder,
    TensorVerdict,
    what_remains,
)
from fedviz.dashboard import cache, verdict_cache, widgets, wording
from fedviz.dashboard.engine import Job
from fedviz.dashboard.references import ReferenceChoice
from fedviz.dashboard.state import Selection
from fedviz.dashboard.tasks import TffAnswer
from fedviz.dashboard.verdict_cache import Divergence, RoundVerdicts
from fedviz.dataset import Round
from fedviz.errors import FedvizError
from fedviz.figures.text import counted, percentage
from fedviz.figures.theme import KIND_BADGE, KIND_LETTER

__all__ = ["headline", "own_report", "section", "sentence"]

_POLL_SECONDS = 1.0
_MOST_NAMES = 4
_ERROR_HEIGHT = 190

# About as long as the answers, so that the columns stay as wide as they are.
_ASKING = ":gray[asking the real TFF …]"
_NOTE = (
    ":small[:gray[TFF 0.87 checks types before it runs, values never. Its error names neither "
    "client nor tensor. Renamed tensors, float16 for float32 and tensors of one shape in another "
    "order it takes without a word, and NaN passes.]]"
)


def own_report(chosen: Selection, report: CheckReport) -> CheckReport:
    """The check against the server model: neither framework knows another reference."""
    if report.signature.agrees_with(chosen.dataset.signature):
        return report
    look_at: LookAt = "values" if cache.values_are_few(chosen.round) else "signatures"
    return cache.checked(chosen.round, ReferenceChoice("server"), look_at)


def headline(chosen: Selection, report: CheckReport) -> str:
    """What both frameworks do with the round, for the page's answer; empty where all is well.

    It asks TFF, where nobody has yet.
    """
    report = own_report(chosen, report)
    found = _verdicts(chosen.round, report)
    if not found.divergences:
        return ""
    return sentence(found, _answers(_job(chosen.round, report, found)))


def sentence(found: RoundVerdicts, answers: Sequence[TffAnswer] | None) -> str:
    """What both frameworks do with the round; ``answers`` is None until TFF gave them."""
    if answers is None:
        tff = "TFF is being asked"
    elif any(answer.refuses for answer in answers):
        tff = "TFF refuses this round"
    else:
        tff = "TFF averages this round without a word"
    if found.whole.refuses:
        numpy = "NumPy averaging raises an error"
    elif found.whole.silent or any(d.swapped for d in found.divergences):
        numpy = "NumPy averaging goes wrong without a word"
    else:
        numpy = "NumPy averaging comes out right"
    return f"{tff}; {numpy}."


def section(chosen: Selection, report: CheckReport) -> None:
    """A row for each kind of client that differs, TFF's own words, and what would remain."""
    widgets.section(
        "What each framework would do",
        "One such client, averaged with one that has the server model's type.",
    )
    report = own_report(chosen, report)
    found = _verdicts(chosen.round, report)
    if not found.divergences:
        st.markdown(":gray[Nothing is in the way of averaging this round.]")
        return
    job = _job(chosen.round, report, found)
    poll = _POLL_SECONDS if job.active else None
    st.fragment(_outcomes, run_every=poll)(chosen.round, report, found, waiting=job.active)
    st.markdown(_NOTE)
    for line in _remains(chosen.round, report):
        st.markdown(line)


def _verdicts(round_: Round, report: CheckReport) -> RoundVerdicts:
    in_values = verdict_cache.value_findings(report)
    return verdict_cache.round_verdicts(round_, in_values, report)


def _job(round_: Round, report: CheckReport, found: RoundVerdicts) -> Job:
    models = [divergence.model for divergence in found.divergences]
    return verdict_cache.tff_job(round_, verdict_cache.value_findings(report), models)


def _answers(job: Job) -> tuple[TffAnswer, ...] | None:
    """What TFF said; None while it is asked, and where it could not be."""
    if job.active:
        return None
    try:
        answers: tuple[TffAnswer, ...] = job.result()
    except FedvizError:
        return None
    return answers


def _outcomes(round_: Round, report: CheckReport, found: RoundVerdicts, *, waiting: bool) -> None:
    """The table and the errors: the same places while TFF is asked, so that nothing jumps."""
    job = _job(round_, report, found)
    if waiting and not job.active:
        st.rerun()
    answers = _answers(job)
    _table(found, answers, pending=_ASKING if job.active else ":gray[no answer]")
    with st.expander("What TFF says, word for word", type="compact", icon=":material/terminal:"):
        if answers is None:
            st.markdown(":gray[TFF is being asked in the engine process.]")
        else:
            _errors(found, answers)
    if job.error:
        st.error(widgets.literal(job.error), icon=":material/error:")
        if st.button("Ask TFF again", icon=":material/refresh:"):
            # Without arguments, as mypy has it: those that are asked again answer at once.
            verdict_cache.tff_job.clear()
            st.rerun()


def _table(found: RoundVerdicts, answers: Sequence[TffAnswer] | None, pending: str) -> None:
    rows = [
        {
            "": _badges(divergence),
            "Client": _clients(divergence.model),
            "TFF": _tff_text(answers[i]) if answers else pending,
            "NumPy averaging": _numpy_text(divergence),
        }
        for i, divergence in enumerate(found.divergences)
    ]
    with st.container(key="mid_verdicts"):
        st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)
    if found.more:
        st.markdown(
            f":small[:gray[… and {counted(found.more, 'other model')} of "
            f"{counted(found.more_clients, 'client')}.]]"
        )


def _badges(divergence: Divergence) -> str:
    return " ".join(f":{KIND_BADGE[k]}-badge[{KIND_LETTER[k]}]" for k in divergence.kinds)


def _clients(model: ClientModel) -> str:
    if len(model.clients) == 1:
        return wording.plain(model.clients[0])
    return counted(len(model.clients), "client")


def _tff_text(answer: TffAnswer) -> str:
    if answer.refuses:
        return "refuses"
    if answer.poisoned:
        return f":orange[silent:] NaN in {counted(len(answer.poisoned), 'tensor')}"
    return ":orange[silent:] averages them"


def _numpy_text(divergence: Divergence) -> str:
    if divergence.swapped:
        return ":orange[silent:] mixes tensors: the values are in each other's place"
    verdict = divergence.numpy
    if verdict.refuses:
        return f":red[raises:] {widgets.literal(verdict.error)}"
    if not verdict.silent:
        return "averages them, and rightly: it does not look at names"
    first, *more = _alike(verdict)
    rest = f"; {counted(sum(map(len, more)), 'other tensor')} as badly" if more else ""
    return f":orange[silent:] {_silently(first)}{rest}"


def _alike(verdict: NumpyVerdict) -> list[list[TensorVerdict]]:
    """The spoilt tensors, those with the same outcomes together; the most outcomes first."""

    def likeness(tensor: TensorVerdict) -> tuple[NumpyOutcome, ...]:
        return tensor.outcomes

    spoilt = sorted(verdict.silent, key=lambda t: (-len(t.outcomes), t.outcomes, t.position))
    return [list(group) for _, group in groupby(spoilt, likeness)]


def _silently(alike: Sequence[TensorVerdict]) -> str:
    first = alike[0]
    if NumpyOutcome.DROPS in first.outcomes and len(alike) == 1:
        # Before the colon it says after how many arrays Python's zip ended.
        return widgets.literal(first.detail.partition(": ")[2])
    return f"{_names([t.tensor for t in alike], most=1)}: {widgets.literal(first.detail)}"


def _names(names: Sequence[str], most: int = _MOST_NAMES) -> str:
    shown = ", ".join(map(wording.plain, names[:most]))
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def _errors(found: RoundVerdicts, answers: Sequence[TffAnswer]) -> None:
    for divergence, answer in zip(found.divergences, answers, strict=True):
        said = "\n\n".join(filter(None, (answer.error, answer.type_error)))
        st.markdown(f"{_badges(divergence)} {_names(divergence.model.clients)}")
        st.code(said or "no error", language=None, height=_ERROR_HEIGHT if said else "content")


# --- what remains -------------------------------------------------------------------------------


def _remains(round_: Round, report: CheckReport) -> tuple[str, str]:
    without_clients, without_tensors = what_remains(round_, report)
    return _remaining_clients(without_clients), _remaining_tensors(without_tensors, report)


def _remaining_clients(left: Remainder) -> str:
    total = left.num_clients + len(left.left_out)
    text = f"Without the clients that differ, **{left.num_clients:,} of {total:,}** clients remain"
    if left.share_of_examples is None:
        return f"{text}."
    return f"{text}, with **{percentage(left.share_of_examples, 0)}** of the examples."


def _remaining_tensors(left: Remainder, report: CheckReport) -> str:
    total = left.num_tensors + len(left.left_out)
    if not left.num_tensors:
        return f"Without the tensors that differ, none of the **{total:,}** tensors remains."
    out = set(left.left_out)
    kept = [name for name in report.signature.names if name not in out]
    verb = "remains" if left.num_tensors == 1 else "remain"
    return (
        f"Without the tensors that differ, {_names(kept)} {verb}: **{left.num_tensors:,} of "
        f"{total:,}** tensors, **{percentage(left.share_of_parameters, 0)}** of the parameters."
    )
