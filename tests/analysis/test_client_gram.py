"""Gram matrices of rounds, against NumPy in float64 on whole models; and their cache."""

from __future__ import annotations

import json
import zipfile

import h5py
import numpy as np
import pytest

from fedviz.analysis import client_gram as cg
from fedviz.analysis import gram_cache as cache
from fedviz.dataset import WeightDataset
from fedviz.errors import CohortError, JobCancelledError, StorageError
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.conftest import SIGNATURE, random_weights

CLIENTS = ("a", "b", "c", "d", "e")


def flat(weights):
    return np.concatenate([np.asarray(weights[n], "f8").reshape(-1) for n in SIGNATURE.names])


def write(path, *, rounds=2, server=True, spoil=None):
    rng = np.random.default_rng(7)
    with WeightDatasetWriter(path, SIGNATURE) as writer:
        for _ in range(rounds):
            start = random_weights(SIGNATURE, rng) if server else None
            with writer.round([ClientEntry(c, 5) for c in CLIENTS], start) as round_:
                for client in CLIENTS:
                    weights = random_weights(SIGNATURE, rng)
                    if client == spoil:
                        weights[1][3] = np.nan
                    round_.write_client(client, weights)
                made = random_weights(SIGNATURE, rng)
                round_.write_aggregate("mean", made, aggregator="mean", weighting="uniform")
    return path


@pytest.fixture
def dataset(tmp_path):
    with WeightDataset(write(tmp_path / "clients.h5")) as opened:
        yield opened


def round_file(folder):
    """The one of the cached files that is of a round."""
    (path,) = [p for p in folder.glob("*.npz") if "total.npy" in zipfile.ZipFile(p).namelist()]
    return path


class TestRoundGram:
    def test_updates_and_distances(self, dataset):
        round_ = dataset.round()
        found = cg.round_gram(round_)
        server = flat(round_.server)
        models = [flat(round_.clients[c]) for c in CLIENTS] + [flat(round_.aggregates["mean"])]
        updates = np.array(models) - server
        assert (found.clients, found.models) == (CLIENTS, ("mean",))
        assert (found.from_server, found.total.dtype) == (True, np.float64)
        np.testing.assert_allclose(found.total, updates @ updates.T, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(sum(found.by_tensor.values()), found.total, rtol=1e-12)
        for t, name in enumerate(SIGNATURE.names):
            values = np.array([round_.clients[c][name].ravel() for c in CLIENTS], "f8")
            moved = values - round_.server[name].ravel()
            np.testing.assert_allclose(found.norms[t], np.linalg.norm(moved, axis=1), rtol=1e-5)
            to_mean = np.linalg.norm(values - values.mean(axis=0), axis=1)
            np.testing.assert_allclose(found.distances_to(None)[t], to_mean, rtol=1e-5)
            aggregate = round_.aggregates["mean"][name].ravel()
            to_aggregate = np.linalg.norm(values - aggregate, axis=1)
            np.testing.assert_allclose(found.distances_to("mean")[t], to_aggregate, rtol=1e-5)

    def test_without_a_server_model_it_is_seen_from_the_clients_mean(self, tmp_path):
        with WeightDataset(write(tmp_path / "x.h5", server=False)) as dataset:
            round_ = dataset.round()
            found = cg.round_gram(round_)
            clients = np.array([flat(round_.clients[c]) for c in CLIENTS])
            updates = clients - clients.mean(axis=0)
            assert not found.from_server
            np.testing.assert_allclose(
                found.of_clients(), updates @ updates.T, rtol=1e-5, atol=1e-4
            )

    @pytest.mark.parametrize("server", [True, False])
    def test_a_client_that_is_not_finite_spoils_itself_alone(self, tmp_path, server):
        clean = write(tmp_path / "clean.h5", server=server)
        spoilt = write(tmp_path / "spoilt.h5", server=server, spoil="a")
        with WeightDataset(clean) as one, WeightDataset(spoilt) as other:
            found = cg.round_gram(other.round())
            assert found.finite.tolist() == [False, True, True, True, True]
            expected = cg.round_gram(one.round())
            kept = np.ix_(range(1, 5), range(1, 5))
            apart = [g.total for g in (found, expected)]
            squared = [np.add.outer(d := g.diagonal(), d) - 2 * g for g in apart]
            np.testing.assert_allclose(squared[0][kept], squared[1][kept], rtol=1e-4, atol=1e-3)

    def test_a_compressed_file_gives_the_same(self, dataset, tmp_path):
        """Made as another program may have written it: in compressed pieces."""
        path = write(tmp_path / "compressed.h5")
        with h5py.File(path, "r+") as file:
            group = file["rounds/000001/weights"]
            for key in list(group):
                values = group[key][()]
                del group[key]
                group.create_dataset(key, data=values, chunks=True, compression="gzip")
        with WeightDataset(path) as compressed:
            assert not compressed.round().stack("dense/kernel").contiguous
            found = cg.round_gram(compressed.round())
        np.testing.assert_array_equal(found.total, cg.round_gram(dataset.round()).total)

    def test_integers_are_no_updates(self, tmp_path):
        signature = Signature((TensorSpec("w", (2,), "float32"), TensorSpec("n", (), "int32")))
        with WeightDatasetWriter(tmp_path / "n.h5", signature) as writer:
            entries = [ClientEntry("a", 1), ClientEntry("b", 1)]
            with writer.round(entries, [np.zeros(2, "f4"), np.int32(0)]) as round_:
                round_.write_client("a", [np.array([3, 4], "f4"), np.int32(9)])
                round_.write_client("b", [np.array([4, -3], "f4"), np.int32(9)])
        with WeightDataset(tmp_path / "n.h5") as dataset:
            found = cg.round_gram(dataset.round())
        assert found.tensors == ("w",)
        np.testing.assert_array_equal(found.total, [[25, 0], [0, 25]])

    def test_too_many_clients(self, dataset, monkeypatch):
        monkeypatch.setattr(cg, "MOST_CLIENTS", 4)
        with pytest.raises(CohortError, match=r"round 1: at most 4 clients .* found 5"):
            cg.round_gram(dataset.round())

    def test_a_file_that_was_replaced(self, dataset):
        write(dataset.path, rounds=1)
        with pytest.raises(StorageError, match="was replaced since it was opened"):
            cg.round_gram(dataset.round())

    def test_it_can_be_cancelled(self, dataset):
        def cancel(progress):
            raise JobCancelledError(progress.message)

        with pytest.raises(JobCancelledError, match="comparing the clients"):
            cg.round_gram(dataset.round(), cancel)


class TestPathGram:
    def test_all_rounds_lie_in_one_space(self, dataset):
        found = cg.path_gram(dataset)
        assert len(found.points) == 2 * (1 + 5 + 1)
        models = []
        for point in found.points:
            round_ = dataset.round(point.round)
            weights = {
                "server": lambda r: r.server,
                "client": lambda r, p=point: r.clients[p.subject],
                "aggregate": lambda r, p=point: r.aggregates[p.subject],
            }[point.role](round_)
            models.append(flat(weights))
        apart = ((np.array(models)[:, None] - np.array(models)[None]) ** 2).sum(axis=2)
        squares = found.gram.diagonal()
        squared = squares[:, None] + squares[None] - 2 * found.gram
        np.testing.assert_allclose(squared, apart, rtol=1e-4, atol=1e-3)

    def test_one_round_alone_needs_no_weights(self, tmp_path):
        with WeightDataset(write(tmp_path / "one.h5", rounds=1)) as dataset:
            read = cg.path_gram(dataset)
            derived = cg.path_of_round(cg.round_gram(dataset.round()), 0)
        assert derived.points == read.points
        np.testing.assert_allclose(derived.gram, read.gram, rtol=1e-5, atol=1e-4)

    def test_models_beyond_the_limit_are_left_out_evenly(self, dataset, monkeypatch):
        monkeypatch.setattr(cg, "MOST_POINTS", 10)
        found = cg.path_gram(dataset)
        clients = [p.subject for p in found.points if p.role == "client" and p.round == 1]
        assert (clients, found.left_out) == (["a", "c", "e"], (0, 2))
        assert found.gram.shape == (10, 10)


class TestCache:
    @pytest.fixture
    def kept(self, dataset, tmp_path):
        folder = tmp_path / "cache"
        folder.mkdir()
        cache.keep_round_gram(folder, dataset.round(), cg.round_gram(dataset.round()))
        cache.keep_path_gram(folder, dataset, cg.path_gram(dataset))
        return folder

    def test_what_is_kept_comes_back(self, dataset, kept):
        expected, found = (
            cg.round_gram(dataset.round()),
            cache.kept_round_gram(kept, dataset.round()),
        )
        assert (found.clients, found.models, found.tensors) == (CLIENTS, ("mean",), SIGNATURE.names)
        for name in ("total", "norms", "distances"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        np.testing.assert_array_equal(
            found.of_clients("dense/bias"), expected.of_clients("dense/bias")
        )
        path = cache.kept_path_gram(kept, dataset)
        assert path.points == cg.path_gram(dataset).points

    def test_another_round_and_another_state_of_the_file_are_not_it(self, dataset, kept):
        assert cache.kept_round_gram(kept, dataset.round(0)) is None
        write(dataset.path, rounds=2)
        with WeightDataset(dataset.path) as again:
            assert cache.kept_round_gram(kept, again.round()) is None
            assert cache.kept_path_gram(kept, again) is None

    def test_a_damaged_file_counts_as_absent(self, dataset, kept):
        expected = cg.round_gram(dataset.round()).total
        path = round_file(kept)
        whole = path.read_bytes()
        for cut in (0, 10, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:cut])
            assert cache.kept_round_gram(kept, dataset.round()) is None
        taken = 0
        for place in range(0, len(whole), 41):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
            found = cache.kept_round_gram(kept, dataset.round())
            if found is not None:  # the byte was one that says nothing, such as a date
                np.testing.assert_array_equal(found.total, expected)
                taken += 1
        assert taken < len(whole) / 41 / 4

    def test_no_pickle_is_read(self, dataset, kept):
        path = round_file(kept)
        with np.load(path) as archive:
            arrays = dict(archive)
        about = json.loads(arrays["about"].tobytes())
        assert about["key"][-2:] == ["round", 1]
        np.savez(path, **{**arrays, "total": np.array([[print]] * 6, dtype=object)})
        assert cache.kept_round_gram(kept, dataset.round()) is None

    def test_a_matrix_of_another_cohort_is_not_taken(self, dataset, kept):
        path = round_file(kept)
        with np.load(path) as archive:
            arrays = dict(archive)
        np.savez(path, **{**arrays, "total": np.zeros((3, 3))})
        assert cache.kept_round_gram(kept, dataset.round()) is None

    def test_the_oldest_go_when_there_is_too_much(self, dataset, kept, monkeypatch):
        monkeypatch.setattr(cache, "_MOST_BYTES", 0)
        cache.keep_round_gram(kept, dataset.round(0), cg.round_gram(dataset.round(0)))
        assert list(kept.iterdir()) == []
