"""The arrangement of the signature matrix: rows, columns, folding, filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from fedviz.analysis.check_report import MismatchGroup
from fedviz.figures.signature_view import MatrixFilter, MatrixView, gravest, matrix_view
from fedviz.signature import Mismatch, MismatchKind

SHAPE, DTYPE, MISSING = MismatchKind.SHAPE, MismatchKind.DTYPE, MismatchKind.MISSING
NAMES = tuple(f"layer_{i:03d}" for i in range(500))
CLIENTS = tuple(f"c{i:04d}" for i in range(1000))


def mismatch(tensor: str, kind: MismatchKind) -> Mismatch:
    return Mismatch(tensor, kind, "float32[4]", "float64[4]")


def group(clients: Sequence[str], *mismatches: Mismatch) -> MismatchGroup:
    return MismatchGroup(mismatches, tuple((0, client) for client in clients))


def rows(view: MatrixView) -> list[tuple[str, str]]:
    return [(row.label, row.note) for row in view.rows]


def differing(view: MatrixView) -> Mapping[str, list[str]]:
    """Names of the tensors that are marked, row by row."""
    return {
        row.label: [t for t, cell in zip(view.tensors, row.cells, strict=True) if cell]
        for row in view.rows
    }


LARGE = (
    group(CLIENTS[:60], mismatch("layer_017", DTYPE)),
    group(CLIENTS[100:137], mismatch("layer_003", SHAPE), mismatch("layer_400", DTYPE)),
    group(CLIENTS[200:201], mismatch("layer_499", MISSING)),
    group(CLIENTS[300:303], mismatch("layer_003", SHAPE)),
)


class TestLargeCohorts:
    def test_what_is_wrong_comes_first_and_the_fine_ones_last(self):
        assert rows(matrix_view(NAMES, CLIENTS, LARGE)) == [
            ("c0200", "a tensor missing"),
            ("37 clients", "float64[4], and 1 more"),
            ("3 clients", "float64[4]"),
            ("60 clients", "float64[4]"),
            ("899 clients", "fine"),
        ]

    def test_only_tensors_in_which_something_is_wrong_have_a_column(self):
        view = matrix_view(NAMES, CLIENTS, LARGE)
        assert view.tensors == ("layer_003", "layer_017", "layer_400", "layer_499")
        assert (view.num_folded_tensors, view.num_columns) == (496, 5)
        assert differing(view)["37 clients"] == ["layer_003", "layer_400"]

    def test_all_of_them_have_one_when_asked(self):
        view = matrix_view(NAMES, CLIENTS, LARGE, all_tensors=True)
        assert (view.tensors, view.num_folded_tensors) == (NAMES, 0)
        assert differing(view)["37 clients"] == ["layer_003", "layer_400"]

    def test_where_nothing_is_wrong_no_column_is_folded(self):
        view = matrix_view(NAMES, CLIENTS, ())
        assert rows(view) == [("1,000 clients", "fine")]
        assert (view.num_columns, view.num_folded) == (500, 1000)

    def test_of_very_many_patterns_the_rest_is_counted(self):
        many = [
            group(CLIENTS[2 * i : 2 * i + 2], mismatch(NAMES[i], DTYPE)) for i in range(100)
        ] + [group(CLIENTS[900:901], mismatch("layer_499", MISSING))]
        view = matrix_view(NAMES, CLIENTS, many)
        assert (view.num_hidden_patterns, view.num_hidden_clients) == (61, 122)
        assert (view.rows[0].label, view.rows[-1].label) == ("c0900", "799 clients")
        assert view.num_clients + view.num_hidden_clients == 1000


class TestFilter:
    def test_of_some_kinds(self):
        view = matrix_view(NAMES, CLIENTS, LARGE, MatrixFilter(frozenset({SHAPE})))
        assert differing(view) == {"37 clients": ["layer_003"], "3 clients": ["layer_003"]}
        # What is hidden by the filter is blank: it is not as expected.
        hidden = dict(zip(view.tensors, view.rows[0].cells, strict=True))["layer_400"]
        assert hidden is None

    def test_by_a_tensor_s_name_in_any_case(self):
        view = matrix_view(NAMES, CLIENTS, LARGE, MatrixFilter(search="LAYER_40"))
        assert view.tensors == tuple(f"layer_{i}" for i in range(400, 410))
        assert rows(view) == [("37 clients", "float64[4]"), ("899 clients", "fine")]

    def test_by_a_client_s_name(self):
        view = matrix_view(NAMES, CLIENTS, LARGE, MatrixFilter(search="c011"))
        assert rows(view) == [("10 clients", "float64[4], and 1 more")]
        assert view.rows[0].clients == CLIENTS[110:120]

    def test_a_fine_client_is_found_too(self):
        view = matrix_view(NAMES, CLIENTS, LARGE, MatrixFilter(search="c0999"))
        assert rows(view) == [("c0999", "fine")]

    def test_by_kind_and_name(self):
        chosen = MatrixFilter(frozenset({SHAPE}), "c0136")
        assert differing(matrix_view(NAMES, CLIENTS, LARGE, chosen)) == {"c0136": ["layer_003"]}

    @pytest.mark.parametrize("search", ["layer_[0-9]", ".*", "nothing of that name"])
    def test_what_is_searched_for_is_plain_text(self, search):
        view = matrix_view(NAMES, CLIENTS, LARGE, MatrixFilter(search=search))
        assert (view.tensors, view.num_columns) == ((), 0)

    def test_a_small_cohort_keeps_its_order(self):
        clients = ("a", "b", "c", "d")
        groups = (group(["d"], mismatch("t", SHAPE)), group(["b"], mismatch("t", DTYPE)))
        assert [row.label for row in matrix_view(("t",), clients, groups).rows] == list(clients)
        only = matrix_view(("t",), clients, groups, MatrixFilter(frozenset({SHAPE})))
        assert [row.label for row in only.rows] == ["d"]


def test_gravest() -> None:
    kinds = [MismatchKind.ORDER, MismatchKind.NONFINITE, MismatchKind.RANK]
    assert gravest(mismatch("t", kind) for kind in kinds).kind is MismatchKind.RANK
