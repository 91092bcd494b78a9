"""The tour's five steps in plain words, with the open dataset's own numbers."""

from __future__ import annotations

from dataclasses import dataclass

from fedviz.analysis.story import RoundStory
from fedviz.dashboard.wording import spelled
from fedviz.figures.text import byte_size, counted, decimals, percentage

__all__ = ["SHORT", "StepText", "numbers", "step_text"]

SHORT = ("Data stays home", "Train apart", "Send weights", "Average", "Repeat")
"""The steps' names."""


@dataclass(frozen=True)
class StepText:
    """A title and paragraphs in Markdown; only numbers of ours are in them, no names of files'."""

    title: str
    paragraphs: tuple[str, ...]


def step_text(step: int, story: RoundStory, *, has_images: bool) -> StepText:
    """What is said at a step, 1 to 5."""
    say = (_data, _apart, _send, _average, _repeat)[step - 1]
    return say(story, has_images)


def _many(story: RoundStory) -> str:
    return spelled(len(story.clients)).lower()


def _score(value: float, story: RoundStory) -> str:
    return percentage(value, 0) if story.is_share else decimals(value)


def _data(story: RoundStory, has_images: bool) -> StepText:
    many = _many(story).capitalize()
    views = "views of the same digits" if has_images else "collections"
    rows = (
        "Each row is what one participant holds: handwritten digits, in the proportions of its "
        "own collection. Nobody else ever sees them."
        if has_images
        else "Each row is what one participant holds: a hospital, a phone, a branch. Nobody else "
        "ever sees it."
    )
    return StepText(f"{many} participants, {_many(story)} different {views}.", (rows, _gain(story)))


def _gain(story: RoundStory) -> str:
    if story.best is None or story.worst is None or story.together is None:
        return "They want one model that has learned from all of it, and share no example."
    if not story.is_share:
        return (
            f"Trained alone, their {story.metric} is **{_score(story.best, story)}** at best and "
            f"**{_score(story.worst, story)}** at worst. Together, without sharing one example, "
            f"they reach :green[**{_score(story.together, story)}**]."
        )
    return (
        f"Trained alone, the best of them recognises **{_score(story.best, story)}** of unseen "
        f"examples and the worst **{_score(story.worst, story)}**. Together, without sharing "
        f"one of them, they reach :green[**{_score(story.together, story)}**]."
    )


def _apart(story: RoundStory, _: bool) -> StepText:
    start = (
        "All begin with the same model, which a server sent them. Each goes on training it, at "
        "home, on its own examples only."
    )
    if story.best is None or story.worst is None:
        return StepText(
            "Each trains the same model alone.",
            (start, "So the models move apart: each towards what its own participant has seen."),
        )
    verdict = "Each learns what it has seen, and forgets the rest: "
    if story.before is not None and story.worst is not None:
        better = story.worst < story.before if story.is_share else story.worst > story.before
        fell = (
            f"the model that they began with reached **{_score(story.before, story)}**, and the "
            f"worst of them now reaches **{_score(story.worst, story)}**."
        )
        verdict = verdict + fell if better else f"Each learns what it has seen: {fell}"
    else:
        verdict += f"from **{_score(story.worst, story)}** to **{_score(story.best, story)}**."
    return StepText("Each trains the same model alone. None sees the whole.", (start, verdict))


def _send(story: RoundStory, _: bool) -> StepText:
    return StepText(
        f"What leaves the house: {story.parameters:,} numbers.",
        (
            "A participant sends no image, no name, no record. It sends its model's **weights**: "
            f"{byte_size(story.bytes)} in this case, as many whether it has ten examples or ten "
            "million.",
            "Here is one layer of it, a coloured cell for each number: blue below zero, red above. "
            "Two participants' layers look alike, since they began alike. What is different is "
            "what each has learned.",
        ),
    )


def _average(story: RoundStory, _: bool) -> StepText:
    many = _many(story)
    paragraphs = [
        "The server takes the mean of them, number by number. Who has trained on more examples "
        "counts for more.",
    ]
    if story.left_out:
        paragraphs.append(
            f"{counted(story.left_out, 'participant')} sent weights of another form, and could "
            "not be averaged. **Signatures** shows what is wrong with them."
        )
    if story.together is not None:
        verb = "recognises" if story.is_share else "reaches"
        of = " of unseen examples" if story.is_share else ""
        paragraphs.append(
            f"The mean {verb} :green[**{_score(story.together, story)}**]{of}: what one has "
            "learned, all now know."
        )
    else:
        paragraphs.append(
            "Nobody has measured this one yet: **Averaging** makes and compares them."
        )
    return StepText(f"{many.capitalize()} models become one.", tuple(paragraphs))


def _repeat(story: RoundStory, _: bool) -> StepText:
    many = _many(story)
    title = (
        f"One model, better than each of the {many}."
        if story.beats_all
        else f"One model, made of {many}."
    )
    rounds = counted(story.rounds, "round")
    loop = (
        "The mean is what everybody begins with next: it is sent out, trained on, sent back and "
        f"averaged again. This dataset holds {rounds} of that so far."
    )
    if story.together is None or story.best is None:
        return StepText(title, (loop,))
    end = (
        f"After {rounds} the shared model is at :green[**{_score(story.together, story)}**], the "
        f"best participant alone at **{_score(story.best, story)}**. No example has left its home."
    )
    return StepText(title, (loop, end))


def numbers(story: RoundStory) -> list[tuple[str, str]]:
    """The numbers under the picture."""
    found = []
    if story.examples is not None:
        found.append(("Examples that stay home", f"{story.examples:,}"))
    found.append(("Numbers sent by each, a round", f"{story.parameters:,}"))
    found.append(("Rounds so far", f"{story.rounds:,}"))
    if story.together is not None:
        label = "Recognised together" if story.is_share else f"{story.metric} together".capitalize()
        found.append((label, _score(story.together, story)))
    return found
