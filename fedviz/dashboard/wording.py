"""The sentences that pages say, from facts that the analysis found."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fedviz.analysis.aggregates import AggregateComparison
from fedviz.analysis.before_after import BeforeAfter
from fedviz.analysis.check import CheckReport
from fedviz.analysis.check_report import MismatchGroup
from fedviz.analysis.courses import MetricCourses, aggregate_scores, client_scores, metric_of
from fedviz.analysis.health import RoundHealth
from fedviz.analysis.round_courses import RoundCourses
from fedviz.analysis.scales import ClientHistograms
from fedviz.analysis.statistics import RoundSummary
from fedviz.dashboard.compared import Ranked
from fedviz.dashboard.state import Selection
from fedviz.dashboard.widgets import ACT, FINE, KNOW, Chip, literal
from fedviz.dataset import Round, WeightDataset
from fedviz.figures.signature_view import GRAVITY, MatrixFilter, MatrixView, kind_name
from fedviz.figures.text import byte_size, counted, decimals, number, percentage
from fedviz.figures.theme import KIND_BADGE, KIND_LETTER
from fedviz.generation import GenerateRequest
from fedviz.importers.report import ImportReport
from fedviz.importing import ProposedClient
from fedviz.signature import MismatchKind

__all__ = [
    "HOW_TO_READ_HEATMAPS",
    "HOW_TO_READ_ROUNDS",
    "averaging_answer",
    "clients_in_grey",
    "clients_note",
    "comparison_answer",
    "file_note",
    "generate_answer",
    "generated",
    "group_size",
    "group_text",
    "heatmap_answer",
    "import_answer",
    "left_out",
    "mismatch_badge",
    "mismatch_kind",
    "named_number",
    "named_percentage",
    "nothing_found",
    "overview_answer",
    "overview_chips",
    "overview_metrics",
    "plain",
    "rounds_answer",
    "signatures_answer",
    "signatures_chips",
    "spelled",
    "unseen_values",
]

HOW_TO_READ_HEATMAPS = (
    "Blue is negative, red positive, and the page's own colour is exactly 0. All panels share one "
    "scale, unless you give each its own; values below it are violet, values above it yellow, and "
    "the share of such cells stands under each histogram. Differences are magnified by the factor "
    "in their title, so that they can be seen. Grey cells are not finite: NaN is crossed, +∞ has "
    "plus signs, −∞ minus signs. Point at a cell to see the same cell in every panel; click it to "
    "ask who moved it. Drag a box to look closer; *Whole tensor* leads back, and *Go to* does both "
    "by numbers. A tensor with many cells is drawn in blocks, each showing its value furthest from "
    "0, so that a single spike survives, or its mean; the axes keep the tensor's own indices. The "
    "address of this page holds all that you chose."
)

HOW_TO_READ_ROUNDS = (
    "**Drift** is how far a tensor has come from the first round's server model, over that model's "
    "norm. **Moved** is what one round changed. A client's **update** is client − server. "
    "**Disagreement** is the standard deviation across the clients, over the tensor's root mean "
    "square: where it grows, the clients pull in different directions. Click a point to select its "
    "round and its tensor or client everywhere; *Play* walks through the rounds. A round that "
    "cannot be read leaves a gap."
)

_MOST_IN_LINE = 4
_SPELLED = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")


def spelled(count: int) -> str:
    """A number that begins a sentence."""
    return _SPELLED[count] if count < len(_SPELLED) else f"{count:,}"


def plain(name: str) -> str:
    """A name from a file inside Markdown: as code, in which only backticks mean anything."""
    line = "".join(c if c.isprintable() else "�" for c in name)
    return f"`{line.replace('`', 'ˋ')}`"


def overview_answer(dataset: WeightDataset, round_: Round, health: RoundHealth) -> str:
    """Whether the round is fit to be averaged."""
    if not health.clients:
        return "This round has no clients: there is nothing to average."
    if not health.fit:
        return (
            f":red[{len(health.unfit)} of {counted(health.clients, 'client')}] of round "
            f"{round_.number} cannot be averaged as they are."
        )
    clients = f"{spelled(health.clients)} client{'s' if health.clients > 1 else ''}"
    rounds = counted(len(dataset.rounds), "round")
    fit = "fit to be averaged" if health.looked_at_values else "fit to be averaged, by the index"
    return f"{clients}, one signature, {rounds}: {fit}."


def overview_chips(dataset: WeightDataset, health: RoundHealth) -> list[Chip]:
    """Health at a glance."""
    agree = health.clients - len(health.divergent)
    chips: list[Chip] = [
        (f"{agree} of {health.clients} signatures agree", ACT, "red")
        if health.divergent
        else (f"{agree} of {health.clients} signatures agree", FINE, "gray"),
        (f"{counted(len(health.nonfinite), 'client')} with NaN or infinite values", ACT, "red")
        if health.nonfinite
        else ("all values finite", FINE, "gray")
        if health.looked_at_values
        else ("values not looked at yet", None, "gray"),
        (f"num_examples unknown or 0 for {len(health.unweighted)}", KNOW, "orange")
        if health.unweighted
        else ("num_examples known, all above 0", FINE, "gray"),
        (f"{health.dtypes[0]} throughout", FINE, "gray")
        if len(health.dtypes) == 1
        else (f"mixed dtypes: {', '.join(health.dtypes)}", KNOW, "orange"),
    ]
    if health.skewed:
        label = f"labels skewed: two labels make up over 70% in {len(health.skewed)}"
        chips.append((label, KNOW, "orange"))
    if dataset.ground_truth:
        label = f"{counted(len(dataset.ground_truth), 'fault')} injected on purpose"
        chips.append((label, ":material/science:", "gray"))
    return chips


def overview_metrics(chosen: Selection, summary: RoundSummary | None) -> list[tuple[str, str]]:
    """The numbers that matter, each with its label."""
    dataset, round_ = chosen.dataset, chosen.round
    known = [r.num_examples for r in round_.records if r.num_examples is not None]
    numbers = [each.number for each in dataset.rounds]
    span = f"Rounds, {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else "Round"
    items = [
        ("Clients in this round", f"{len(round_.records):,}"),
        (span, f"{len(numbers):,}"),
        (
            f"Parameters, in {counted(len(dataset.signature), 'tensor')}",
            f"{dataset.num_parameters:,}",
        ),
    ]
    if known:
        items.append((f"Examples, {min(known):,} to {max(known):,} each", f"{sum(known):,}"))
    metric = metric_of(round_)
    scores = aggregate_scores(round_, metric) if metric else {}
    if metric and chosen.aggregate in scores:
        items.append((f"Aggregate's {metric}", decimals(scores[chosen.aggregate])))
    distances = np.zeros(0) if summary is None else summary.distances
    distances = distances[np.isfinite(distances)]
    if distances.size:
        items.append(("Mean distance to it", named_number(float(distances.mean()))))
    return items


def clients_note(dataset: WeightDataset, round_: Round) -> str:
    """How the clients came to be."""
    recipe = dataset.recipe
    if recipe.get("mode") == "train":
        data, partition = plain_text(recipe["data"]), plain_text(recipe["partition"])
        return f"Each trained from the same server model on its share of {data}, {partition}."
    if recipe.get("mode") == "perturb":
        relative = " of each tensor's rms" if recipe.get("relative") else ""
        return f"Each is the server model plus noise of deviation {recipe['stddev']:g}{relative}."
    return f"{counted(len(round_.records), 'client')} of round {round_.number}."


def file_note(dataset: WeightDataset) -> str:
    """What the file is."""
    return (
        f"{byte_size(dataset.nbytes)}, written by {plain_text(dataset.producer)}, "
        f"{dataset.created[:10]}."
    )


def plain_text(value: object) -> str:
    """A value from a file as text in Markdown, where no character has a meaning."""
    return literal(str(value))


def signatures_answer(report: CheckReport, clients: int, *, looked_at_values: bool) -> str:
    """How many clients differ, and what that means."""
    concerned, whom = len(report.clients_concerned), plain_text(report.reference)
    if not clients:
        return "This round has no clients: there is nothing to compare."
    if not concerned:
        values = "every value is finite" if looked_at_values else "values were not looked at"
        verb = "agrees" if clients == 1 else "agree"
        all_ = "The one client" if clients == 1 else f"All {counted(clients, 'client')}"
        return f"{all_} {verb} with {whom}; {values}."
    verb = "differs" if concerned == 1 else "differ"
    return f":red[{concerned} of {counted(clients, 'client')} {verb}] from {whom}."


def signatures_chips(report: CheckReport, round_: Round) -> list[Chip]:
    """How many mismatches, and how much of the data they concern."""
    if report.consistent:
        return [(f"{counted(len(round_.records), 'client')} compared", FINE, "gray")]
    kinds = {each.mismatch.kind for each in report.mismatches}
    count = len(report.mismatches)
    chips: list[Chip] = [
        (
            f"{counted(count, 'mismatch', 'mismatches')} of {counted(len(kinds), 'kind')}",
            None,
            "gray",
        )
    ]
    examples = {record.id: record.num_examples or 0 for record in round_.records}
    total = sum(examples.values())
    if total:
        share = sum(examples[client] for client in report.clients_concerned) / total
        chips.append((f"{percentage(share, 0)} of the examples concerned", None, "gray"))
    return chips


def unseen_values(dataset: WeightDataset) -> str:
    """What a check that read no weights cannot know."""
    return (
        "Only signatures were compared. NaN, infinite and exchanged values would show in the "
        f"values, {byte_size(dataset.nbytes)}, which were not looked at."
    )


def group_size(group: MismatchGroup) -> str:
    """How many clients have the same mismatches, and how many these are."""
    count = len(group.mismatches)
    same = f"{count:,} mismatches" if count > 1 else "mismatch"
    return f"{counted(len(group.clients), 'client')} have the same {same}"


def group_text(group: MismatchGroup) -> str:
    """Which clients differ in the same way, and in what: one line."""
    first = group.mismatches[:_MOST_IN_LINE]
    shown = [f"{mismatch_badge(m.kind)} {plain(m.tensor)}" for m in first]
    more = len(group.mismatches) - len(shown)
    ending = f" and {more:,} more" if more else ""
    return f"{group_size(group)}: {', '.join(shown)}{ending}"


def nothing_found(chosen: MatrixFilter) -> str:
    """Why a filter leaves nothing."""
    kinds = " or ".join(kind_name(kind) for kind in GRAVITY if kind in chosen.kinds)
    if not kinds:
        return f"No client and no tensor has {plain(chosen.search)} in its name."
    where = (
        f" in a client or tensor with {plain(chosen.search)} in its name" if chosen.search else ""
    )
    return f"There is no mismatch of the kind {kinds}{where}."


def left_out(view: MatrixView, clients: int, *, filtered: bool) -> list[str]:
    """What the matrix does not show, in sentences."""
    lines = []
    if view.num_hidden_patterns:
        lines.append(
            f"{counted(view.num_hidden_patterns, 'more pattern')} of "
            f"{counted(view.num_hidden_clients, 'client')} not drawn: the table has them, and "
            "a search finds them."
        )
    if filtered:
        lines.append(
            f"Shown: {view.num_clients:,} of {counted(clients, 'client')}. What the filter leaves "
            "out is blank, also where it differs."
        )
    return lines


def mismatch_badge(kind: MismatchKind) -> str:
    """The letter of a kind in its colour."""
    return f":{KIND_BADGE[kind]}-badge[{KIND_LETTER[kind]}]"


def mismatch_kind(kind: MismatchKind) -> str:
    """The letter of a kind and its name."""
    return f"{mismatch_badge(kind)} {kind_name(kind)}"


def heatmap_answer(view: BeforeAfter, clients: tuple[str, str]) -> str:
    """What averaging did to a tensor."""
    for client, count in zip(clients, view.nonfinite, strict=True):
        if count:
            verb = "is" if count == 1 else "are"
            return f":red[{counted(count, 'cell')}] of {plain_text(client)} {verb} not finite."
    shown = set(view.limits)
    if "aggregate" not in shown:
        return "This round has no aggregate yet: average it to see what that changes."
    if math.isnan(view.distances[0]):
        return "This tensor is empty, or 0 throughout: there is nothing to compare."
    distances = dict(zip(clients, view.distances, strict=True))
    ended = " and ".join(f"{plain_text(c)} {percentage(d)}" for c, d in distances.items())
    if math.isnan(view.moved):
        why = "is 0 here" if "server" in shown else "is not known"
        return f"The server model {why}; {ended} from the aggregate."
    return f"Averaging moved this tensor by {percentage(view.moved)}; {ended} from the aggregate."


def clients_in_grey(found: ClientHistograms) -> str:
    """What lies behind the lines of the histograms, and how much of it was looked at."""
    shown, cohort = len(found.shares), found.cohort
    whose = counted(cohort, "client")
    if shown < cohort:
        whose = f"{shown:,} of {whose}, evenly spaced"
    if len(found.bands):
        whose += ", from the least to the largest share; stronger, without the outer tenths"
    if found.cells < found.window_cells:
        whose += f"; {found.cells:,} of {found.window_cells:,} cells of each"
    return f"Grey: {whose}."


def rounds_answer(courses: RoundCourses, metric: MetricCourses | None) -> str:
    """How far the model went, and whether that paid."""
    if len(courses.rounds) < 2:
        return "This dataset has one round: there is no course to follow yet."
    rounds = counted(len(courses.rounds), "round")
    last = courses.drift[np.isfinite(courses.drift).any(axis=1)]
    if not last.size:
        return f"{rounds}, without a server model: there is no start to measure from."
    names, drift = courses.tensors, last[-1]
    most = int(np.nanargmax(drift))
    text = (
        f"Over {rounds} {plain(names[most])} moved furthest, by {percentage(float(drift[most]))} "
        "of where it began"
    )
    course = None if metric is None else metric.aggregate[np.isfinite(metric.aggregate)]
    if metric is not None and course is not None and course.size > 1:
        start, end = decimals(float(course[0])), decimals(float(course[-1]))
        text += f"; the aggregate's {metric.metric} went from {start} to :green[**{end}**]"
    return f"{text}."


def averaging_answer(shown: AggregateComparison) -> str:
    """What the aggregate gained."""
    if shown.name is None:
        return "This round has no aggregate yet. Average it."
    row = next(row for row in shown.rows if row.name == shown.name)
    name = plain_text(shown.name)
    if row.score is None and math.isnan(row.moved):
        return f"The {name} was not measured, and the server model is not known."
    if row.score is None:
        return f"The {name} lies {percentage(row.moved)} from the server model of the round."
    sentences = [f"The {name} reaches :green[**{decimals(row.score)}**]."]
    known = shown.clients[np.isfinite(shown.clients)]
    if known.size:
        best = known.max() if shown.metric == "accuracy" else known.min()
        rest = f"The best client alone reaches {decimals(float(best))}"
        if shown.server is not None:
            rest += f", the server model before the round {decimals(shown.server)}"
        sentences.append(f"{rest}.")
    return " ".join(sentences)


def comparison_answer(view: Ranked | None) -> str:
    """Which aggregator did best, and which worst."""
    if view is None:
        return "What would another aggregator have made of these clients?"
    count = counted(len(view.contenders) + len(view.failed), "aggregator")
    if not view.contenders:
        return f":red[None of {count}] could be applied to this round."
    scores = view.scores("")
    if not scores:
        applied = counted(len(view.contenders), "aggregator")
        return f"{applied} on the same clients; there are no held-out examples to score them."
    best, worst = scores[0], scores[-1]
    if best.value == worst.value:
        return f"The {view.metric} of {count} is :green[**{decimals(best.value)}**]."
    sentence = (
        f"Of {count}, {plain_text(best.name)} does best, :green[**{decimals(best.value)}**]; "
        f"{plain_text(worst.name)} does worst, {decimals(worst.value)}."
    )
    if view.server is not None:
        sentence += f" The server model before the round: {decimals(view.server)}."
    if view.spoilt:
        sentence += f" :red[{len(view.spoilt)} made a model that is not finite.]"
    return sentence


def named_percentage(share: float) -> str:
    """A share for a table; a dash where there is none."""
    return "–" if math.isnan(share) else percentage(share)


def named_number(value: float | None) -> str:
    """A number for a metric; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else number(value)


def generate_answer(request: GenerateRequest | None) -> str:
    """What would be made."""
    if request is None:
        return "Something is missing before this can start."
    clients, rounds = counted(request.clients, "client"), counted(request.rounds, "round")
    if request.mode == "train":
        return f"{clients} train for {rounds}, {plain_text(request.partition)}."
    relative = " of each tensor's rms" if request.relative else ""
    return f"{clients}, {rounds}, noise of deviation {request.stddev:g}{relative}."


def generated(dataset: WeightDataset) -> str:
    """What was made, and what it is worth."""
    made = (
        f"{plain_text(dataset.path.name)}: {counted(len(dataset.rounds), 'round')} of "
        f"{counted(len(dataset.client_ids), 'client')}, {byte_size(dataset.nbytes)}."
    )
    last = dataset.round()
    metric = metric_of(last)
    if metric is None:
        return made
    scores = aggregate_scores(last, metric)
    alone = [score for score in client_scores(last, metric).values() if math.isfinite(score)]
    if not scores or not alone:
        return made
    aggregate, mean = next(iter(scores.values())), sum(alone) / len(alone)
    return (
        f"{made} The aggregate's {metric} is {decimals(aggregate)}, "
        f"the average client's {decimals(mean)}."
    )


def _examples_of(clients: Sequence[ProposedClient]) -> str:
    known = [client.num_examples for client in clients if client.num_examples is not None]
    unknown = len(clients) - len(known)
    if not unknown:
        return f", trained on {counted(sum(known), 'example')}"
    if not known:
        return "; how many examples each has is not known"
    return f"; of {unknown:,} it is not known how many examples they have"


def import_answer(report: ImportReport | None, listed: Sequence[ProposedClient]) -> str:
    """What an import gave, or what it waits for."""
    if report is None:
        if not listed:
            return "Keras, NumPy, safetensors: one file for each client."
        return f"{counted(len(listed), 'client')} to import{_examples_of(listed)}."
    clients = counted(len(report.clients), "client")
    if not report.divergent:
        return f"{clients}, one signature, {counted(len(report.signature), 'tensor')}."
    verb = "differs" if len(report.divergent) == 1 else "differ"
    concerned = f":red[{len(report.divergent)} of {clients}]"
    return f"{concerned} {verb} from the reference; kept as found."
