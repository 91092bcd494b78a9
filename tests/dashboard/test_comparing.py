"""Several aggregators side by side on the averaging page, compared in the real engine."""

import numpy as np
import pytest

from fedviz.dashboard import cache
from fedviz.dashboard.tasks import CompareOutcome
from fedviz.errors import JobCancelledError
from tests.dashboard import engine_tasks as tasks
from tests.dashboard.opened import unescaped
from tests.dashboard.test_samples import MLP

VIEW = {"dataset": MLP.name, "view": "Side by side"}


def compare(page):
    """Press the button, wait for the engine and look again."""
    page.press("Compare on round")
    (job,) = [j for j in cache.engine().jobs.values() if j.kind == "compare_job" and j.active]
    outcome = job.result()
    page.run()
    return outcome


@pytest.mark.tff
def test_a_comparison_is_shown_and_survives_a_reload(open_page):
    page = open_page("averaging", **VIEW)
    assert page.answer == "What would another aggregator have made of these clients?"
    chosen = page.app.multiselect(key="candidates")
    assert chosen.value == [
        "mean",
        "mean:weighting=uniform",
        "median",
        "trimmed-mean",
        "krum",
        "geometric-median",
        "robust",
    ]
    chosen.set_value(["mean", "median", "krum f=9"])
    page.run()
    outcome = compare(page)
    found = outcome.found
    assert isinstance(outcome, CompareOutcome)
    assert all(each.result.weights == {} for each in found.applied)

    for shown in (page, open_page("averaging", **VIEW)):
        scores = {each.name: each.scores["accuracy"] for each in found.applied}
        best = max(scores, key=scores.get)
        assert f"Of 3 aggregators, {best} does best, :green[**{scores[best]:.3f}**]" in shown.answer
        (frame,) = (each.value for each in shown.app.dataframe)
        assert dict(zip(frame["aggregator"], frame["accuracy"], strict=True)) == scores
        assert frame["accuracy"].is_monotonic_decreasing
        apart = dict(zip(frame["aggregator"], frame["reference"], strict=True))
        assert apart == {"mean": 0.0, "median": pytest.approx(found.distances[0, 1])}
        assert any("n ≥ 2f + 3" in unescaped(text) for text in shown.markdown())
        strip, between, influence, by_tensor = shown.charts()
        assert "server model" in [each["text"] for each in strip["layout"]["annotations"]]
        assert np.max(between["data"][0]["z"]) == pytest.approx(found.distances[0, 1])
        bars = np.sort(np.asarray(influence["data"][0]["x"], "f8"))[::-1]
        np.testing.assert_allclose(bars, np.sort(found.influence)[::-1])
        columns = np.asarray(by_tensor["data"][0]["z"])
        np.testing.assert_allclose(columns[:, 0] ** 2, (columns[:, 1:] ** 2).sum(axis=1), rtol=1e-5)

    page.go_to("overview")
    page.go_to("averaging")
    assert len(page.charts()) == 4
    assert page.app.multiselect(key="candidates").value == ["mean", "median", "krum f=9"]


def test_what_cannot_be_compared_is_told_in_place(open_page):
    page = open_page("averaging", **VIEW)
    page.app.multiselect(key="candidates").set_value(["krum f=-1", "best"])
    page.run()
    assert page.errors[0] == "f: expected an integer from 0, found '-1'."
    assert page.errors[1].startswith("there is no aggregator best; there are mean, ")
    assert page.button("Compare on round").disabled
    page.app.multiselect(key="candidates").set_value([])
    page.run()
    assert page.errors == []
    assert page.button("Compare on round").disabled


def test_one_with_parameters_is_added(open_page):
    page = open_page("averaging", **VIEW)
    page.choose(candidate="Multi-Krum")
    page.app.text_input(key="multi-krum f").set_value("2")
    page.run()
    page.press("Add")
    assert page.app.multiselect(key="candidates").value[-1] == "multi-krum:f=2"


@pytest.mark.tff
def test_a_comparison_is_cancelled_and_the_next_one_works(open_page, tmp_path):
    page = open_page("averaging", **VIEW, round="1")
    page.app.multiselect(key="candidates").set_value(["median", "krum"])
    page.run()
    # The engine does one thing at a time: this comparison is not over before it is cancelled.
    released = tmp_path / "released"
    cache.engine().submit("test", "working", tasks.work_until, released)
    page.press("Compare on round")
    (job,) = [j for j in cache.engine().jobs.values() if j.kind == "compare_job" and j.active]
    page.press("Cancel")
    released.touch()
    with pytest.raises(JobCancelledError):
        job.result()
    page.run()
    assert [each.value for each in page.app.info] == ["Cancelled; nothing was written."]
    assert page.answer == "What would another aggregator have made of these clients?"
    assert [each.name for each in compare(page).found.applied] == ["median", "krum"]
    assert page.answer.startswith("Of 2 aggregators, ")
