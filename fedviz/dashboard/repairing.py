"""The repair plan: a row for clients with the same mismatches, and the button that writes it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from fedviz.analysis.check_report import CheckReport
from fedviz.dashboard import folders, jobs, state, tasks, verdict_cache, widgets, wording
from fedviz.dashboard.engine import JobState
from fedviz.dashboard.repair_rows import RepairRow, chosen_plan, repair_rows, row_cost, row_text
from fedviz.dashboard.state import Selection
from fedviz.dataset import WeightDataset
from fedviz.figures.text import counted, percentage
from fedviz.repair import Preview, Repair, RepairKind, RepairPlan

__all__ = ["section"]

_JOB = "repair_job"
_MOST_CONTROLS = 12
_MOST_PREVIEWED = 500
_SMALL_DATASET_BYTES = 256 * 2**20
_FEW_TENSORS = 2000
"""Above these nothing is planned before it is asked for: that reads every value, and each tensor
of a divergent client by itself."""


def section(chosen: Selection, report: CheckReport) -> None:
    """Choose what is done about each mismatch, look at it, and write it as a new dataset."""
    if report.consistent and report.signature.agrees_with(chosen.dataset.signature):
        return
    widgets.section(
        "Repair plan", "Nothing is changed until you write it; the result is a new dataset."
    )
    if not report.signature.agrees_with(chosen.dataset.signature):
        st.markdown(
            ":small[:gray[Repairs lead back to the server model's type, whatever the clients are "
            "compared with above.]]"
        )
    with st.container(border=True, key="repairs"):
        _plan(chosen)


@st.fragment
def _plan(chosen: Selection) -> None:
    dataset = chosen.dataset
    number = _scope(chosen)
    if not _wanted(dataset):
        return
    with widgets.errors_in_place():
        plan = verdict_cache.planned(dataset, number)
        if not plan.repairs:
            st.markdown("Nothing to repair: no client differs from the server model.")
            return
        rows = repair_rows(plan)
        ways = _choose(rows, dataset, number)
        after = chosen_plan(plan, rows, ways)
        left = verdict_cache.previewed(dataset, number, ways, after)
        _preview_table(after)
        _writing(dataset, after, left, number)


def _scope(chosen: Selection) -> int | None:
    """The round that is repaired; None for all of them."""
    if len(chosen.dataset.rounds) == 1:
        return None
    this = f"only round {chosen.round.number}"
    scope = st.segmented_control(
        "Rounds to repair",
        ["all rounds", this],
        default="all rounds" if _is_small(chosen.dataset) else this,
        key=f"repair_scope_{_place(chosen.dataset)}_{chosen.round.number}",
        label_visibility="collapsed",
        required=True,
    )
    return chosen.round.number if scope == this else None


def _wanted(dataset: WeightDataset) -> bool:
    """Whether to plan now; of a large dataset only when asked to."""
    key = f"_repairs_wanted_{_place(dataset)}"
    if _is_small(dataset) or st.session_state.get(key):
        return True
    if st.button("Look for repairs", icon=":material/search:"):
        st.session_state[key] = True
        st.rerun()
    st.markdown(":small[:gray[This reads every value of the dataset.]]")
    return False


def _is_small(dataset: WeightDataset) -> bool:
    divergent = sum(len(each.divergent) for each in dataset.rounds)
    few = divergent * len(dataset.signature) <= _FEW_TENSORS
    return few and dataset.nbytes <= _SMALL_DATASET_BYTES


def _place(dataset: WeightDataset) -> int:
    """What tells the choices of one state of a file from those of another."""
    return abs(hash(dataset.identity))


def _choose(
    rows: tuple[RepairRow, ...], dataset: WeightDataset, number: int | None
) -> tuple[int, ...]:
    """Draw the rows; for each the way that is chosen, 0 being the safest."""
    key = f"repair_{_place(dataset)}_{number}"
    among = len(dataset.rounds) if number is None else 1
    ways = [_row(row, dataset, among, f"{key}_{i}") for i, row in enumerate(rows[:_MOST_CONTROLS])]
    rest = rows[_MOST_CONTROLS:]
    if rest:
        clients = sum(len(row.clients) for row in rest)
        st.markdown(
            f":gray[… and {counted(len(rest), 'other pattern')} of mismatches, of "
            f"{counted(clients, 'client')}: for each the safest option is taken.]"
        )
    return (*ways, *[0] * len(rest))


def _row(row: RepairRow, dataset: WeightDataset, among: int, key: str) -> int:
    who, what, how = st.columns([3, 11, 8], vertical_alignment="center")
    labels = [way.label for way in row.ways]
    with how:
        label = st.segmented_control(
            widgets.literal(f"What to do about {row.clients[0]}"),
            labels,
            default=labels[0],
            key=key,
            label_visibility="collapsed",
            required=True,
            width="stretch",
        )
    way = labels.index(label)
    with who:
        st.markdown(_clients(row, among))
    with what:
        cost = row_cost(row, way, dataset)
        st.markdown(f"{row_text(row, way)} :gray[· {cost}]")
    return way


def _clients(row: RepairRow, among: int) -> str:
    """Whose row it is, and in which rounds, where there are several."""
    clients = row.clients
    is_one = len(clients) == 1
    name = wording.plain(clients[0]) if is_one else f"**{counted(len(clients), 'client')}**"
    rounds = sorted({number for number, _ in row.places})
    if among == 1:
        return name
    where = f"round {rounds[0]}" if len(rounds) == 1 else f"{len(rounds)} rounds"
    return f"{name} :small[:gray[in {where}]]"


def _preview_table(plan: RepairPlan) -> None:
    with st.expander("Preview, tensor by tensor", type="compact", icon=":material/preview:"):
        rows = [_preview_row(plan, repair) for repair in plan.repairs[:_MOST_PREVIEWED]]
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            row_height=34,
            placeholder="–",
            column_config={
                "Distance": st.column_config.NumberColumn(
                    format="percent",
                    help="‖repaired − mean‖ / ‖mean‖ over the tensor, to the cohort's mean",
                )
            },
        )
        if len(plan.repairs) > _MOST_PREVIEWED:
            more = len(plan.repairs) - _MOST_PREVIEWED
            st.markdown(f":small[:gray[… and {counted(more, 'other mismatch', 'mismatches')}.]]")


def _preview_row(plan: RepairPlan, repair: Repair) -> dict[str, str | int | float | None]:
    choice = repair.choice
    is_left_out = repair.client in plan.dropped_clients(repair.round)
    return {
        "Round": repair.round,
        "Client": repair.client,
        "Tensor": repair.tensor,
        "Before": repair.mismatch.actual,
        "After": "client left out" if is_left_out else _after(repair),
        "What is done": choice.description,
        "Lossless": "yes" if choice.lossless else "no",
        "Distance": choice.distance,
    }


def _after(repair: Repair) -> str:
    kind = repair.choice.kind
    if kind is RepairKind.DROP_TENSOR:
        return "tensor left out"
    return "the server model's" if kind is RepairKind.USE_SERVER else repair.mismatch.expected


def _writing(dataset: WeightDataset, plan: RepairPlan, left: Preview, number: int | None) -> None:
    """The sentence, the name and the button; then how far the job is."""
    st.markdown(after_sentence(left, len(dataset.rounds), number))
    job = jobs.current(_JOB)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        name = st.text_input(
            "Name of the repaired dataset",
            f"{dataset.path.stem}-repaired",
            key=f"repair_name_{_place(dataset)}",
            max_chars=80,
            width=280,
        )
        pressed = st.button(
            "Write repaired dataset",
            type="primary",
            icon=":material/build:",
            disabled=(job is not None and job.active) or not left.clients_after,
        )
    if pressed:
        target = folders.free_path(name or "")
        jobs.start(_JOB, f"writing {target.name}", tasks.run_repair, dataset.identity, plan, target)
        st.rerun()
    jobs.panel(_JOB)
    _outcome()


def after_sentence(left: Preview, rounds: int, number: int | None) -> str:
    """What can be averaged after a plan."""
    if not left.clients_after:
        return "After this plan no client is left: there is nothing to write."
    text = (
        f"After this plan **{left.conforming_after:,} of {left.clients_before:,}** clients can be "
        "averaged"
    )
    if rounds > 1:
        text += f", {rounds} rounds together"
    if left.share_of_examples is not None:
        text += f", with **{percentage(left.share_of_examples, 0)}** of the examples"
    if not left.agrees:
        remaining = left.clients_after - left.conforming_after
        others = "" if number is None else " in the other rounds"
        text += f"; {counted(remaining, 'client')}{others} still differ"
        text += "s" if remaining == 1 else ""
    return f"{text}."


def _outcome() -> None:
    job = jobs.current(_JOB)
    if job is None or job.state is not JobState.DONE:
        return
    target = job.result()
    st.success(widgets.literal(f"{target.name} is written."), icon=":material/check:")
    if st.button("Open the repaired dataset", icon=":material/dataset:"):
        jobs.forget(_JOB)
        state.ask_for(target.name)
        st.rerun()
