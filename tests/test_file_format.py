"""The specification in docs/file-format.md against real files, read by nothing but h5py."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest

from fedviz.records import FaultKind, InjectedFault, Metric
from fedviz.signature import DTYPES, Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.conftest import random_weights

PAGE = Path(__file__).parents[1] / "docs" / "file-format.md"
SIGNATURE = Signature(
    (
        TensorSpec("dense/kernel", (5, 3), "float32", True),
        TensorSpec("scale", (), "float64", True),
        TensorSpec("brain", (4, 2), "bfloat16", False),
        TensorSpec("empty", (0, 3), "float16"),
        TensorSpec("counter", (), "int64", False),
        TensorSpec("mask", (3,), "bool", False),
    )
)
DIVERGENT = Signature(
    (TensorSpec("Gewicht/ß", (3, 5), "bfloat16"), TensorSpec("dense/kernel", (), "int8"))
)
FAULT = InjectedFault("c1", FaultKind.MISSING, "scale", ("scale", "mask"))


@pytest.fixture(scope="module")
def arrays() -> dict[str, list[np.ndarray]]:
    rng = np.random.default_rng(3)
    found = {name: random_weights(SIGNATURE, rng) for name in ("server", "c0", "c2", "mean")}
    return {**found, "c1": random_weights(DIVERGENT, rng)}


@pytest.fixture(scope="module")
def path(tmp_path_factory, arrays) -> Path:
    path = tmp_path_factory.mktemp("format") / "clients.h5"
    entries = [ClientEntry("c0", 7), ClientEntry("c1", None, DIVERGENT), ClientEntry("c2", 0)]
    with WeightDatasetWriter(path, SIGNATURE, {"seed": 3}) as writer:
        with writer.round([]):
            pass
        with writer.round(entries, arrays["server"]) as round_:
            for client in ("c2", "c1", "c0"):
                round_.write_client(client, arrays[client])
            round_.write_aggregate(
                "mean",
                arrays["mean"],
                aggregator="mean",
                weighting="uniform",
                parameters={"trim": 0.5},
            )
            round_.write_metrics([Metric("server", "", "loss", 2.5)])
            round_.write_label_counts(np.array([[7, 0], [1, 2], [0, 0]]))
        writer.write_ground_truth([FAULT])
    return path


def raw_bits(dataset: h5py.Dataset) -> np.ndarray:
    """The values of a bfloat16 dataset as 16 bits, through the type in the file."""
    out = np.empty(dataset.shape, "<u2")
    if out.size:
        dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, out, mtype=dataset.id.get_type())
    return out


def values_of(dataset: h5py.Dataset, dtype: str) -> np.ndarray:
    return raw_bits(dataset) if dtype == "bfloat16" else np.asarray(dataset[()])


def table_of(group: h5py.Group, name: str) -> list[dict]:
    rows = group[name][()]
    return [
        {c: v.decode() if isinstance(v := row[c], bytes) else v for c in rows.dtype.names}
        for row in rows
    ]


def tensors_of(group: h5py.Group) -> list[dict]:
    return sorted(table_of(group, "signature"), key=lambda row: row["index"])


def model_of(group: h5py.Group, tensors: list[dict], row=()) -> dict[str, np.ndarray]:
    return {t["name"]: values_of(group[f"{t['index']:03d}"], t["dtype"])[row] for t in tensors}


def read_client(file: h5py.File, number: int, client: str) -> tuple[dict, dict[str, np.ndarray]]:
    group = file[f"rounds/{number:06d}"]
    listed = table_of(group, "clients")
    position = [each["id"] for each in listed].index(client)
    record = listed[position]
    if record["conforming"]:
        return record, model_of(group["weights"], tensors_of(file), record["row"])
    own = group[f"divergent/{position:06d}"]
    return record, model_of(own, tensors_of(own))


def assert_same_bits(found: dict[str, np.ndarray], expected: list[np.ndarray]) -> None:
    for array, original in zip(found.values(), expected, strict=True):
        assert np.shape(array) == original.shape
        assert np.asarray(array).tobytes() == original.tobytes()


def test_the_index_is_what_was_written(path):
    with h5py.File(path) as file:
        assert file.attrs["format"] == b"fedviz-weights"
        assert file.attrs["format_version"] == 1
        assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", file.attrs["created"])
        assert file.attrs["producer"].startswith(b"fedviz ")
        assert [(t["name"], tuple(t["shape"]), t["dtype"]) for t in tensors_of(file)] == [
            (t.name, t.shape, t.dtype) for t in SIGNATURE
        ]
        assert [t["trainable"] for t in tensors_of(file)] == [1, 1, 0, -1, 0, 0]
        assert sorted(file["rounds"]) == ["000000", "000001"]
        assert json.loads(file["recipe"][()]) == {"seed": 3}
        assert table_of(file, "ground_truth") == [
            {"client": "c1", "kind": "missing", "argument": "scale", "tensors": "scale\nmask"}
        ]


def test_every_model_reads_bit_for_bit(path, arrays):
    with h5py.File(path) as file:
        for client in ("c0", "c1", "c2"):
            _, found = read_client(file, 1, client)
            assert_same_bits(found, arrays[client])
        round_ = file["rounds/000001"]
        assert_same_bits(model_of(round_["server"], tensors_of(file)), arrays["server"])
        assert_same_bits(model_of(round_["aggregates/mean"], tensors_of(file)), arrays["mean"])


def test_digests_are_the_hashes_of_the_bytes(path):
    with h5py.File(path) as file:
        for client in ("c0", "c1", "c2"):
            record, found = read_client(file, 1, client)
            content = b"".join(np.asarray(a).tobytes() for a in found.values())
            assert record["digest"] == hashlib.sha256(content).hexdigest()


def test_minus_one_stands_for_what_is_not_there(path):
    with h5py.File(path) as file:
        rows = table_of(file["rounds/000001"], "clients")
    assert [(r["id"], r["num_examples"], r["conforming"], r["row"]) for r in rows] == [
        ("c0", 7, 1, 0),
        ("c1", -1, 0, -1),
        ("c2", 0, 1, 1),
    ]


def test_what_is_beside_the_weights(path):
    with h5py.File(path) as file:
        round_ = file["rounds/000001"]
        aggregate = round_["aggregates/mean"]
        assert dict(aggregate.attrs) == {
            "aggregator": b"mean",
            "weighting": b"uniform",
            "position": 0,
        }
        assert json.loads(aggregate["parameters"][()]) == {"trim": 0.5}
        assert json.loads(aggregate["measurements"][()]) == {}
        assert table_of(round_, "metrics") == [
            {"role": "server", "subject": "", "name": "loss", "value": 2.5}
        ]
        assert round_["label_counts"][()].tolist() == [[7, 0], [1, 2], [0, 0]]


def test_a_round_without_clients_has_all_that_a_round_has(path):
    with h5py.File(path) as file:
        empty = file["rounds/000000"]
        assert sorted(empty) == ["clients", "weights"]
        assert len(empty["clients"]) == 0
        assert [d.shape for d in empty["weights"].values()] == [(0, *t.shape) for t in SIGNATURE]


def test_tensors_lie_where_they_can_be_mapped(path, arrays):
    with h5py.File(path) as file:
        for position, spec in enumerate(SIGNATURE):
            dataset = file[f"rounds/000001/weights/{position:03d}"]
            assert dataset.chunks is None
            if spec.size:
                offset = dataset.id.get_offset()
                assert offset % 4096 == 0
                mapped = np.memmap(path, spec.numpy_dtype, "r", offset, dataset.shape)
                assert mapped[1].tobytes() == arrays["c2"][position].tobytes()


def test_every_tensor_begins_at_a_multiple_of_4096(path):
    places = ("server", "weights", "divergent/000001", "aggregates/mean")
    with h5py.File(path) as file:
        offsets = [
            dataset.id.get_offset()
            for place in places
            for name, dataset in file[f"rounds/000001/{place}"].items()
            if name.isdecimal() and dataset.size
        ]
    assert len(set(offsets)) == 5 + 5 + 2 + 5
    assert {offset % 4096 for offset in offsets} == {0}


def test_the_gaps_of_the_alignment_are_not_kept_as_free_space(path):
    """HDF5 would look through all of them for each new object."""
    with h5py.File(path) as file:
        _, _, threshold = file.id.get_create_plist().get_file_space_strategy()
    assert threshold == 4096


@pytest.mark.parametrize("what", ["nothing at all", "a type"])
def test_what_is_no_tensor_is_refused(path, tmp_path, what):
    from fedviz.dataset import WeightDataset
    from fedviz.errors import DatasetFormatError

    odd = tmp_path / "odd.h5"
    odd.write_bytes(path.read_bytes())
    with h5py.File(odd, "r+") as file:
        server = file["rounds/000001/server"]
        del server["001"]
        server["001"] = h5py.Empty("<f8") if what == "nothing at all" else np.dtype("<f8")
    expected = "expected shape .., found no values" if what == "nothing at all" else "a datatype"
    with (
        WeightDataset(odd) as dataset,
        pytest.raises(DatasetFormatError, match=f"odd.h5: /rounds/000001/server/001.* {expected}"),
    ):
        dataset.round().server["scale"]


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_dtypes_are_the_hdf5_types_of_the_page(tmp_path, dtype):
    spec = TensorSpec("w", (2,), dtype)
    with WeightDatasetWriter(tmp_path / "a.h5", Signature((spec,))) as writer:
        server = [np.array([0, 1]).astype(spec.numpy_dtype)]
        with writer.round([], server):
            pass
    with h5py.File(tmp_path / "a.h5") as file:
        kind = file["rounds/000000/server/000"].id.get_type()
        if dtype == "bfloat16":
            assert (kind.get_size(), kind.get_fields(), kind.get_ebias()) == (
                2,
                (15, 7, 8, 0, 7),
                127,
            )
            assert kind.get_order() == h5py.h5t.ORDER_LE
            assert kind.get_norm() == h5py.h5t.NORM_IMPLIED
        elif dtype == "bool":
            assert kind.get_class() == h5py.h5t.ENUM
            assert kind.get_super().equal(h5py.h5t.STD_I8LE)
            assert [kind.enum_valueof(name) for name in (b"FALSE", b"TRUE")] == [0, 1]
        else:
            family = "IEEE_F" if dtype.startswith("float") else f"STD_{dtype[0].upper()}"
            bits = 8 * spec.numpy_dtype.itemsize
            assert kind.equal(getattr(h5py.h5t, f"{family}{bits}LE"))


def test_bfloat16_is_the_upper_half_of_float32(path, arrays):
    expected = arrays["c0"][2].astype("f4")
    with h5py.File(path) as file:
        dataset = file["rounds/000001/weights/002"]
        shifted = (raw_bits(dataset)[0].astype("u4") << 16).view("f4")
        np.testing.assert_array_equal(shifted, expected)
        np.testing.assert_array_equal(dataset.astype("f4")[0], expected)


def test_the_example_of_the_page_reads_every_client(path, arrays, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(path.parent)
    names: dict = {}
    exec(example, names)
    assert {c: list(w) for c, w in names["weights"].items()} == {
        "c0": list(SIGNATURE.names),
        "c1": list(DIVERGENT.names),
        "c2": list(SIGNATURE.names),
    }
    for client, found in names["weights"].items():
        for array, original in zip(found.values(), arrays[client], strict=True):
            exact = original.astype("f4") if original.dtype == ml_dtypes.bfloat16 else original
            assert array.dtype == exact.dtype
            np.testing.assert_array_equal(array, exact)


def test_a_column_that_a_later_version_adds_is_passed_over(path, arrays, tmp_path):
    from fedviz.dataset import WeightDataset

    later = tmp_path / "later.h5"
    later.write_bytes(path.read_bytes())
    with h5py.File(later, "r+") as file:
        round_ = file["rounds/000001"]
        old = round_["clients"][()]
        del round_["clients"]
        columns = [("region", h5py.string_dtype()), *old.dtype.descr, ("speed", "f4")]
        kinds = [(n, old.dtype[n] if n in old.dtype.names else k) for n, k in columns]
        new = np.zeros(len(old), np.dtype(kinds))
        for name in old.dtype.names:
            new[name] = old[name]
        new["region"] = "north"
        round_["clients"] = new
        file.create_group("later")
    with WeightDataset(later) as dataset:
        assert [r.num_examples for r in dataset.round().records] == [7, None, 0]
        assert_same_bits(dict(dataset.round().clients["c1"]), arrays["c1"])
