"""The repair plan of the signatures page: chosen, looked at, written, opened."""

from __future__ import annotations

import numpy as np
import pytest

from fedviz.analysis.check import check
from fedviz.dashboard import cache, folders
from fedviz.dashboard.repair_rows import chosen_plan, repair_rows, row_cost, row_text
from fedviz.dashboard.tasks import run_repair
from fedviz.dataset import FileIdentity, WeightDataset
from fedviz.errors import InvalidArgumentError, JobCancelledError
from fedviz.repair import RepairKind, preview, repair_plan
from tests.conftest import SIGNATURE, random_weights
from tests.dashboard.pieces import OpenedPiece

FAULTS = folders.SAMPLES / "digits-faults.h5"
SERVER = random_weights(SIGNATURE, np.random.default_rng(0))
GOOD = dict(zip(SIGNATURE.names, SERVER, strict=True))
TRANSPOSED = {**GOOD, "dense/kernel": GOOD["dense/kernel"].T.copy()}
SHORT = {name: GOOD[name] for name in SIGNATURE.names[:3]}
pytestmark = pytest.mark.usefixtures("data_dir")
WAYS = ["Transpose", "Leave out", "Use server's"]


def section(**address):
    return OpenedPiece("repairing.section(chosen, report)", dataset=FAULTS.name, **address)


def sentence(page):
    (found,) = [m.value for m in page.app.markdown if m.value.startswith("After this plan")]
    return found


def test_clients_that_are_alike_share_a_row(write_dataset):
    path = write_dataset({"a": GOOD, "t1": TRANSPOSED, "s": SHORT, "t2": TRANSPOSED}, server=SERVER)
    with WeightDataset(path) as dataset:
        plan = repair_plan(dataset)
        rows = repair_rows(plan)
        assert [row.clients for row in rows] == [("t1", "t2"), ("s",)]
        assert [[way.label for way in row.ways] for row in rows] == [
            WAYS,
            ["Leave out", "Use server's"],
        ]
        assert row_text(rows[0], 0) == "Transpose `dense/kernel`"
        assert row_cost(rows[0], 0, dataset) == "lossless; at most 0% from the cohort's mean"
        assert row_text(rows[0], 1) == "Leave out: `dense/kernel` has another shape"
        assert row_cost(rows[0], 1, dataset) == "20 examples are lost"
        assert row_text(rows[1], 1) == "Take `dense_1/bias` from the server model"
        changed = chosen_plan(plan, rows, [1, 1])
        assert changed.dropped_clients(0) == {"t1", "t2"}
        assert preview(changed, dataset).conforming_after == 2
        assert chosen_plan(plan, rows, [0, 0]) == plan


def test_a_client_with_several_mismatches_has_one_decision(write_dataset):
    odd = {**TRANSPOSED, "dense/bias": GOOD["dense/bias"].astype("f8"), "scale": np.ones(2, "f4")}
    with WeightDataset(write_dataset({"a": GOOD, "odd": odd}, server=SERVER)) as dataset:
        plan = repair_plan(dataset)
        (row,) = repair_rows(plan)
        assert [way.label for way in row.ways] == ["Repair", "Leave out", "Use server's"]
        text = "Transpose `dense/kernel`, cast `dense/bias` to float32, drop `scale`"
        assert row_text(row, 0) == text
        servers = chosen_plan(plan, [row], [2])
        assert [repair.choice.kind for repair in servers.repairs] == [
            RepairKind.USE_SERVER,
            RepairKind.USE_SERVER,
            RepairKind.DROP_TENSOR,
        ]


def test_what_is_doubted_is_offered_last_and_named_so(write_dataset):
    far = {**GOOD, "dense/kernel": -3 * GOOD["dense/kernel"].T}
    with WeightDataset(write_dataset({"a": GOOD, "odd": far}, server=SERVER)) as dataset:
        (row,) = repair_rows(repair_plan(dataset))
        assert [way.label for way in row.ways] == ["Leave out", "Transpose", "Use server's"]
        assert row_cost(row, 1, dataset) == "lossless; 400% from the cohort's mean"


def test_choices_change_the_sentence_and_nothing_is_written(data_dir):
    page = section(round="1")
    with WeightDataset(FAULTS) as dataset:
        plan = repair_plan(dataset)
        left = preview(plan, dataset)
        share = left.share_of_examples
        assert sentence(page) == (
            f"After this plan **{left.conforming_after} of 28** clients can be averaged, 2 rounds "
            f"together, with **{share:.0%}** of the examples."
        )
        page.control(WAYS).set_value("Leave out")
        page.run()
        dropped = [r.num_examples for e in dataset.rounds for r in e.records if r.id == "c01"]
        total = sum(r.num_examples for e in dataset.rounds for r in e.records)
    assert f"**{left.conforming_after - 2} of 28**" in sentence(page)
    assert f"**{share - sum(dropped) / total:.0%}**" in sentence(page)
    assert list(data_dir.iterdir()) == []


def test_only_this_round_says_that_the_others_still_differ():
    page = section(round="1")
    page.control(["all rounds", "only round 1"]).set_value("only round 1")
    page.run()
    with WeightDataset(FAULTS) as dataset:
        left = preview(repair_plan(dataset, round=1), dataset)
    differ = left.clients_after - left.conforming_after
    assert sentence(page).endswith(f"; {differ} clients in the other rounds still differ.")


def test_the_preview_has_a_line_for_each_mismatch():
    (table,) = [frame.value for frame in section(round="1").app.dataframe]
    with WeightDataset(FAULTS) as dataset:
        plan = repair_plan(dataset)
    assert len(table) == len(plan.repairs)
    turned = table[(table["Client"] == "c01") & (table["Round"] == 1)].iloc[0]
    assert (turned["Before"], turned["After"]) == ("float32[32,64]", "float32[64,32]")
    assert turned["Distance"] == pytest.approx(
        next(r.choice.distance for r in plan.repairs if (r.client, r.round) == ("c01", 1))
    )
    assert set(table[table["Client"] == "c03"]["After"]) == {"client left out"}
    assert set(table[table["Client"] == "c04"]["After"]) == {"tensor left out"}


def test_another_reference_is_told_and_changes_nothing():
    page = section(client="c02", round="1")
    assert any("server model's type, whatever" in m.value for m in page.app.markdown)
    assert sentence(page) == sentence(section(round="1"))


def test_it_is_written_and_opened(data_dir):
    before = FAULTS.read_bytes()
    page = section(round="1")
    page.press("Write repaired dataset")
    job = next(j for j in reversed(cache.engine().jobs.values()) if j.kind == "repair_job")
    job.future.exception(timeout=120)
    page.run()
    assert page.errors == []
    target = data_dir / "digits-faults-repaired.h5"
    assert [path for path in data_dir.iterdir() if path.suffix == ".h5"] == [target]
    with WeightDataset(target) as repaired:
        assert check(repaired).consistent
    assert FAULTS.read_bytes() == before
    page.press("Open the repaired dataset")
    assert page.app.selectbox(key="dataset").value == target.name


def test_a_cancelled_repair_leaves_nothing(data_dir, tmp_path):
    def cancelled(progress):
        if progress.done == 3:
            raise JobCancelledError("cancelled; nothing was written.")

    with WeightDataset(FAULTS) as dataset:
        plan, identity = repair_plan(dataset), dataset.identity
    target = data_dir / "out.h5"
    with pytest.raises(JobCancelledError):
        run_repair(identity, plan, target, folder=tmp_path, progress=cancelled)
    assert not target.exists()
    assert not list(data_dir.glob("*partial*"))


def test_a_dataset_that_changed_meanwhile_is_not_repaired(write_dataset, tmp_path):
    path = write_dataset({"a": GOOD, "t": TRANSPOSED}, server=SERVER)
    identity = FileIdentity.of(path)
    with WeightDataset(path) as dataset:
        plan = repair_plan(dataset)
    write_dataset({"a": GOOD, "b": GOOD, "t": TRANSPOSED}, server=SERVER)
    with pytest.raises(InvalidArgumentError, match="changed since the plan was made"):
        run_repair(identity, plan, tmp_path / "out.h5", folder=tmp_path, progress=print)


def test_a_consistent_round_has_no_plan():
    page = OpenedPiece("repairing.section(chosen, report)", dataset="digits-mlp.h5")
    assert [len(page.app.button), len(page.app.subheader)] == [0, 0]
