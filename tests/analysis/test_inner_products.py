"""Products of many blocks at once: the same numbers, ended by who is told, BLAS as before."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from fedviz.analysis.inner_products import inner_products
from fedviz.analysis.stacks import BlockReports
from fedviz.errors import JobCancelledError

PIECES = [
    np.random.default_rng(i).standard_normal((rows, 50_000), "f4") for i, rows in ((0, 9), (1, 1))
]
ORIGIN = np.full(50_000, 0.25)


def products(progress=lambda _: None):
    total = sum(piece.nbytes for piece in PIECES)
    return inner_products(PIECES, ORIGIN, BlockReports(total, "comparing", progress))


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_the_same_on_any_number_of_processors(monkeypatch):
    updates = np.concatenate(PIECES).astype("f8") - ORIGIN
    expected = updates @ updates.T
    for processors in (1, 2, 3, 7):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=processors: set(range(n)))
        found = products()
        np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max())
        np.testing.assert_array_equal(found, products())


def test_many_at_once_leave_blas_as_it_was(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    before = blas_threads()
    expected = products()
    with ThreadPoolExecutor(6) as pool:
        for found in [pool.submit(products) for _ in range(24)]:
            np.testing.assert_allclose(found.result(), expected, rtol=1e-6)
    assert blas_threads() == before


def test_who_is_told_may_end_it(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    before, running = blas_threads(), threading.active_count()

    def cancel(progress):
        raise JobCancelledError(progress.message)

    with pytest.raises(JobCancelledError, match="comparing"):
        products(cancel)
    assert blas_threads() == before
    assert threading.active_count() == running
