"""The pieces of the averaging page that set several aggregators side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from fedviz.aggregation.aggregators import AGGREGATORS
from fedviz.aggregation.cohort import WEIGHTINGS
from fedviz.comparison import DEFAULT_CANDIDATES, Candidate, Comparison, parse_candidate
from fedviz.dashboard import aggregator_form, averaging, compared, jobs, tasks, widgets
from fedviz.dashboard.compared import Ranked
from fedviz.dashboard.state import Selection
from fedviz.dashboard.tasks import CompareOutcome
from fedviz.errors import FedvizError
from fedviz.figures.averaging import accuracy_strip
from fedviz.figures.comparison import distance_cells, influence_bars

__all__ = ["ONE", "SEVERAL", "choose_view", "form", "latest", "results"]

ONE, SEVERAL = "One aggregator", "Side by side"
_JOB = "compare_job"
_UNIFORM_MEAN = Candidate("mean", weighting="uniform")


def choose_view() -> str:
    """Whether the page is about one aggregator, or about several."""
    view = st.segmented_control(
        "View",
        [ONE, SEVERAL],
        default=ONE,
        key="view",
        label_visibility="collapsed",
        required=True,
        bind="query-params",
    )
    return view or ONE


def latest(chosen: Selection) -> Comparison | None:
    """The newest comparison of these very clients, whoever asked for it."""
    path, number = chosen.dataset.path, chosen.round.number
    digests = tuple(record.digest for record in chosen.round.records)

    def fits(outcome: CompareOutcome) -> bool:
        return (outcome.path, outcome.found.round, outcome.digests) == (path, number, digests)

    job = jobs.latest(_JOB, fits)
    return None if job is None else job.result().found


def form(chosen: Selection, found: Comparison | None) -> None:
    """Choose what to compare, and start it."""
    widgets.section("Aggregators")
    weighting = _weighting(chosen)
    texts = _choose(chosen, found)
    candidates = _parsed(texts, weighting)
    _add_with_parameters()
    leave_out = aggregator_form.leave_out_divergent(chosen)
    job = jobs.current(_JOB)
    started = st.button(
        f"Compare on round {chosen.round.number}",
        type="primary",
        icon=":material/compare_arrows:",
        width="stretch",
        disabled=not candidates or (job is not None and job.active),
    )
    if started:
        jobs.start_beside(
            _JOB,
            f"comparing on round {chosen.round.number}",
            tasks.run_compare,
            chosen.dataset.path,
            chosen.round.number,
            [str(each) for each in candidates],
            weighting,
            leave_out,
        )
        st.rerun()
    st.markdown(
        ":small[:gray[Runs in the engine process, one after the other. Nothing is written; the "
        "result stays here until the dashboard ends.]]"
    )
    with st.container(key="compare_progress"):
        jobs.panel(_JOB)


def _choose(chosen: Selection, found: Comparison | None) -> list[str]:
    """Texts as the command takes them; kept while other pages are looked at."""
    if "candidates" not in st.session_state:
        before = [str(each.candidate) for each in found.contenders] if found else []
        kept = st.session_state.get("_candidates") or before or _defaults(chosen)
        st.session_state["candidates"] = kept
    options = [*AGGREGATORS, str(_UNIFORM_MEAN), *st.session_state["candidates"]]
    texts = st.multiselect(
        "What to compare",
        list(dict.fromkeys(options)),
        key="candidates",
        format_func=_label,
        accept_new_options=True,
        label_visibility="collapsed",
        placeholder="Choose, or write krum f=2",
        help="Choose from the list, or write a name with its parameters, such as krum f=2 or "
        "trimmed-mean trim=0.2.",
    )
    st.session_state["_candidates"] = texts
    return texts


def _defaults(chosen: Selection) -> list[str]:
    known = all(record.num_examples is not None for record in chosen.round.records)
    return [str(each) for each in DEFAULT_CANDIDATES if known or each != _UNIFORM_MEAN]


def _label(text: str) -> str:
    return text.replace("weighting=", "").replace(":", " ")


def _parsed(texts: Sequence[str], weighting: str) -> list[Candidate]:
    """The candidates; none where a text is not one, which is said in place."""
    found: dict[str, Candidate] = {}
    fine = True
    for text in texts:
        try:
            candidate = parse_candidate(":".join(text.replace(":", " ").split()))
        except FedvizError as error:
            st.error(widgets.literal(str(error)))
            fine = False
            continue
        found.setdefault(candidate.name(weighting), candidate)
    return list(found.values()) if fine else []


def _add_with_parameters() -> None:
    with st.popover("Add one with parameters", icon=":material/tune:", width="stretch"):
        name = st.selectbox(
            "Aggregator",
            [rule.name for rule in AGGREGATORS.values() if rule.parameters],
            index=None,
            format_func=lambda each: AGGREGATORS[each].title,
            key="candidate",
            placeholder="Which one?",
        )
        if name is None:
            st.markdown(":small[:gray[Its parameters appear here, each with its range.]]")
            return
        parameters, valid = aggregator_form.fields(AGGREGATORS[name])
        st.button(
            "Add",
            icon=":material/add:",
            disabled=not valid,
            on_click=_add,
            args=(str(Candidate(name, parameters)),),
        )


def _add(text: str) -> None:
    texts = st.session_state["candidates"]
    st.session_state["candidates"] = [*texts, *([] if text in texts else [text])]


def _weighting(chosen: Selection) -> str:
    if any(record.num_examples is None for record in chosen.round.records):
        return "uniform"
    return st.segmented_control(
        "Weighting",
        list(WEIGHTINGS),
        default=next(iter(WEIGHTINGS)),
        key="compare_weighting",
        required=True,
        width="stretch",
        help="What each client weighs in those aggregators that weigh at all.",
    )


def results(found: Comparison | None, view: Ranked | None) -> None:
    """Everything that a comparison says; or how to get one."""
    if found is None or view is None:
        _invitation()
        return
    if not view.contenders:
        _failures(view)
        return
    reference = _reference(view)
    if view.metric:
        widgets.chart(
            accuracy_strip(
                view.client_ids,
                view.clients,
                view.scores(reference),
                widgets.theme(),
                server=view.server,
                metric_name=f"{view.metric} on held-out examples",
            ),
            "compared_strip",
            wide="mid",
        )
    _table(found, view, reference)
    left, right = st.columns([11, 8], gap="large")
    with left:
        _apart(found, view)
    with right:
        _influence(found)
    _by_tensor(found, view, reference)
    _measurements(view, reference)


def _invitation() -> None:
    with st.container(border=True, width=560):
        st.markdown(
            "**Nothing is compared yet.** Choose aggregators and press *Compare*: what each makes "
            "of the same clients appears here, next to each other."
        )


def _reference(view: Ranked) -> str:
    if st.session_state.get("compared_with") not in view.names:
        st.session_state["compared_with"] = view.reference
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(":gray[Distances from]", width="content")
        return st.selectbox(
            "Distances from",
            view.names,
            key="compared_with",
            label_visibility="collapsed",
            width=230,
        )


def _table(found: Comparison, view: Ranked, reference: str) -> None:
    widgets.section(
        "Side by side",
        f"Round {found.round}, {len(found.clients)} clients, weighted by {found.weighting}; "
        "the best first.",
    )
    from_reference = compared.distances_from(found, view.names, reference)[0][:, 0]
    to_server = dict(
        zip((each.name for each in found.applied), found.server_distances, strict=True)
    )
    frame = pd.DataFrame(
        {
            "aggregator": view.names,
            "accuracy": [each.scores.get("accuracy") for each in view.contenders],
            "loss": [each.scores.get("loss") for each in view.contenders],
            "reference": from_reference,
            "server": [to_server[name] for name in view.names],
            "seconds": [each.result.seconds for each in view.contenders if each.result],
        }
    )
    furthest = max(1e-12, float(np.nan_to_num(from_reference, posinf=0).max(initial=0)))
    column = st.column_config
    st.dataframe(
        frame.dropna(axis=1, how="all"),
        hide_index=True,
        height="content",
        row_height=34,
        placeholder="–",
        key="side_by_side",
        column_config={
            "aggregator": column.TextColumn("Aggregator", width=190),
            "accuracy": column.ProgressColumn(
                "Accuracy",
                format="%.3f",
                min_value=0,
                max_value=1,
                width=120,
                color=widgets.theme().aggregate,
                help="On held-out examples",
            ),
            "loss": column.NumberColumn("Loss", format="%.3f", width=80),
            "reference": column.ProgressColumn(
                f"From {reference}",
                format="%.3g",
                min_value=0,
                max_value=furthest,
                width=130,
                color="gray",
                help="‖model − this one‖ over all float tensors",
            ),
            "server": column.NumberColumn(
                "From the server model", format="%.3g", width=110, help="‖model − server model‖"
            ),
            "seconds": column.NumberColumn(
                "Time",
                format="%.2f s",
                width=80,
                help="Of the aggregation. The first call of one of TFF's builds its computations.",
            ),
        },
    )
    _failures(view)


def _failures(view: Ranked) -> None:
    if view.spoilt:
        names = " ".join(
            f":red-badge[:material/error: {widgets.literal(name)}]" for name in view.spoilt
        )
        st.markdown(
            f"{names} :small[NaN or infinite values of clients are in the model: there is no score "
            "and no distance.]"
        )
    for each in view.failed:
        st.markdown(
            f":orange-badge[:material/warning: {widgets.literal(each.name)}] "
            f":small[{widgets.literal(each.error)}]"
        )


def _apart(found: Comparison, view: Ranked) -> None:
    widgets.section(
        "How far apart the models lie",
        "‖a − b‖ between each two: the stronger the colour, the further.",
    )
    tensor = st.selectbox(
        "Tensor",
        [compared.ALL_TENSORS, *found.by_tensor],
        key="compared_tensor",
        label_visibility="collapsed",
        width=260,
    )
    widgets.chart(
        distance_cells(
            compared.distances_between(found, view.names, tensor),
            view.names,
            view.names,
            widgets.theme(),
        ),
        "apart",
        wide="mid",
    )


def _influence(found: Comparison) -> None:
    widgets.section(
        "Whom the mean follows", "How far it moves when a client is left out, ‖m − m without‖."
    )
    if np.isfinite(found.influence).any():
        widgets.chart(influence_bars(found.clients, found.influence, widgets.theme()), "influence")
        return
    st.markdown(
        "The mean is not finite, or it has one client only: leaving one out moves it by no number. "
        "The signatures page names clients with NaN and infinite values."
    )


def _by_tensor(found: Comparison, view: Ranked, reference: str) -> None:
    values, columns = compared.distances_from(found, view.names, reference)
    widgets.section(
        f"Distance from {widgets.literal(reference)}, by tensor",
        "‖model − this one‖; where there are many tensors, those that differ most.",
    )
    widgets.chart(
        distance_cells(values, view.names, columns, widgets.theme(), chosen=reference),
        "by_tensor",
        wide="mid",
    )


def _measurements(view: Ranked, reference: str) -> None:
    each = next(each for each in view.contenders if each.name == reference)
    if each.result is not None:
        found = {**each.candidate.parameters, **each.result.measurements}
        averaging.measurement_table(each.name, found)
