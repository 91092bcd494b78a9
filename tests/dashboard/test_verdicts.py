"""What each framework would do, as the signatures page says it."""

from __future__ import annotations

import numpy as np
import pytest

from fedviz.analysis.check import check
from fedviz.dashboard import cache, folders, verdict_cache, verdicts
from fedviz.dashboard.tasks import TffAnswer
from fedviz.dataset import WeightDataset
from tests.conftest import SIGNATURE, random_weights
from tests.dashboard.opened import unescaped
from tests.dashboard.pieces import OpenedPiece

FAULTS = folders.SAMPLES / "digits-faults.h5"
GOOD = dict(zip(SIGNATURE.names, random_weights(SIGNATURE, np.random.default_rng(0)), strict=True))
pytestmark = pytest.mark.usefixtures("data_dir")
TAKEN, REFUSED = TffAnswer(False, "", "", ()), TffAnswer(True, "TypeError: no", "", ())


def section(**address):
    return OpenedPiece("verdicts.section(chosen, report)", **address)


def rows(page):
    return {row["Client"]: row for _, row in page.tables()[0].iterrows()}


def tff_jobs():
    return [job for job in cache.engine().jobs.values() if job.kind == "tff_verdicts"]


def found_in(write_dataset, clients, **options):
    with WeightDataset(write_dataset(clients, **options)) as dataset:
        report = check(dataset)
        in_values = verdict_cache.value_findings(report)
        return verdict_cache.round_verdicts(dataset.round(), in_values, report)


@pytest.mark.tff
def test_the_faults_as_numpy_and_the_real_tff_take_them():
    asked_before = len(tff_jobs())
    page = section(dataset=FAULTS.name, round="0")
    told = {client: row["NumPy averaging"] for client, row in rows(page).items()}
    with pytest.raises(ValueError, match="operands") as real:
        np.zeros((64, 32)) + np.zeros((32, 64))
    assert told["c01"] == f":red[raises:] ValueError: {real.value}".strip()
    assert told["c02"] == ":orange[silent:] dense/kernel and 3 more: float32 becomes float64"
    assert told["c03"] == ":orange[silent:] the mean has no dense_1/bias"
    assert told["c04"] == ":orange[silent:] dense_1/scale is left out"
    assert told["c05"].endswith("become one of shape [64, 32]; mixes dense/kernel, dense/bias")
    (job,) = tff_jobs()[asked_before:]
    assert job.future.exception(timeout=120) is None
    page.run()
    assert {client: row["TFF"] for client, row in rows(page).items()} == {
        **dict.fromkeys(("c01", "c02", "c03", "c04", "c05"), "refuses"),
        "c07": ":orange[silent:] NaN in 2 tensors",
        "c08": ":orange[silent:] NaN in 1 tensor",
    }
    first = page.app.code[0].value
    assert first.startswith("TypeError: Failed to serialize a value with shape (32, 64)")
    assert "is not assignable to type" in first

    again = section(dataset=FAULTS.name, round="0")
    assert rows(again)["c01"]["TFF"] == "refuses"
    assert tff_jobs()[asked_before:] == [job]


def test_what_remains_is_counted():
    page = section(dataset=FAULTS.name)
    with WeightDataset(FAULTS) as dataset:
        examples = {record.id: record.num_examples for record in dataset.round().records}
    offending = ("c01", "c02", "c03", "c04", "c05", "c07", "c08")
    share = 1 - sum(examples[c] for c in offending) / sum(examples.values())
    texts = [unescaped(m.value) for m in page.app.markdown]
    assert (
        "Without the clients that differ, **7 of 14** clients remain, with "
        f"**{share:.0%}** of the examples."
    ) in texts
    assert "Without the tensors that differ, none of the **4** tensors remains." in texts


def test_a_round_without_mismatches_asks_nobody():
    before = len(tff_jobs())
    page = section(dataset="digits-mlp.h5")
    assert [len(page.app.table), len(tff_jobs()) - before] == [0, 0]
    assert (
        OpenedPiece(
            "widgets.answer(verdicts.headline(chosen, report) or 'empty')", dataset="digits-mlp.h5"
        ).answer
        == "empty"
    )


def test_both_frameworks_are_asked_about_the_server_model_s_type():
    """Whatever the clients are compared with."""
    page = section(dataset=FAULTS.name, client="c02")
    assert set(rows(page)) == {"c01", "c02", "c03", "c04", "c05", "c07", "c08"}


def test_clients_that_are_alike_share_a_row_the_most_first(write_dataset):
    odd = {**GOOD, "dense/bias": GOOD["dense/bias"].astype("f8")}
    short = {name: GOOD[name] for name in SIGNATURE.names[:3]}
    found = found_in(write_dataset, {"a": GOOD, "s": short, "x": odd, "y": odd})
    assert [d.model.clients for d in found.divergences] == [("x", "y"), ("s",)]
    assert [[k.value for k in d.kinds] for d in found.divergences] == [["dtype"], ["missing"]]
    assert (found.more, found.more_clients) == (0, 0)


def test_more_models_than_rows_are_counted(write_dataset):
    odd = {f"c{i:02d}": {**GOOD, "extra": np.zeros(i + 1, "f4")} for i in range(15)}
    found = found_in(write_dataset, {"a": GOOD, **odd})
    assert (len(found.divergences), found.more, found.more_clients) == (12, 3, 3)


def test_the_headline(write_dataset):
    bias = GOOD["dense/bias"]
    upcast = found_in(write_dataset, {"a": GOOD, "b": {**GOOD, "dense/bias": bias.astype("f8")}})
    assert verdicts.sentence(upcast, None) == (
        "TFF is being asked; NumPy averaging goes wrong without a word."
    )
    assert verdicts.sentence(upcast, [REFUSED]) == (
        "TFF refuses this round; NumPy averaging goes wrong without a word."
    )
    refused = found_in(
        write_dataset, {"a": GOOD, "b": {**GOOD, "dense/bias": bias[:9]}}, name="b.h5"
    )
    assert verdicts.sentence(refused, [REFUSED]).endswith("NumPy averaging raises an error.")
    renamed = {f"model/{name}": values for name, values in GOOD.items()}
    right = found_in(write_dataset, {"a": GOOD, "b": renamed}, name="c.h5")
    assert verdicts.sentence(right, [TAKEN]) == (
        "TFF averages this round without a word; NumPy averaging comes out right."
    )
