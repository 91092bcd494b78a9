"""The signature matrix: what it shows, folds, hatches and says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from fedviz.analysis.check_report import MismatchGroup
from fedviz.figures import signature_view
from fedviz.figures.signature_matrix import matrix_height, signature_matrix_figure
from fedviz.figures.signature_view import MatrixView
from fedviz.figures.theme import DARK, LIGHT, readable_on
from fedviz.signature import Mismatch, MismatchKind

REFERENCE = ("dense/kernel", "dense/bias")


def mismatch(tensor: str, kind: MismatchKind) -> Mismatch:
    return Mismatch(tensor, kind, "float32[64,32]", "float32[32,64]", "transposed")


def matrix_view(
    reference: Sequence[str], cohort: Mapping[str, list[Mismatch]], *, all_tensors: bool = False
) -> MatrixView:
    """A cohort as the page arranges it: those with the same mismatches together if it is large."""
    groups: dict[tuple[Mismatch, ...], list[str]] = {}
    for client, found in cohort.items():
        if found:
            groups.setdefault(tuple(found), []).append(client)
    return signature_view.matrix_view(
        reference,
        list(cohort),
        [MismatchGroup(m, tuple((0, c) for c in clients)) for m, clients in groups.items()],
        all_tensors=all_tensors,
    )


def faulty_cohort() -> dict[str, list[Mismatch]]:
    return {
        "c00": [],
        "c01": [mismatch("dense/kernel", MismatchKind.SHAPE)],
        "c02": [
            mismatch("dense/bias", MismatchKind.NONFINITE),
            mismatch("dense/bias", MismatchKind.DTYPE),
        ],
        "c03": [mismatch("dense/kernel", MismatchKind.NONFINITE)],
        "c04": [mismatch("scale", MismatchKind.EXTRA)],
    }


def faulty_figure() -> go.Figure:
    return signature_matrix_figure(matrix_view(REFERENCE, faulty_cohort()), LIGHT)


def test_extra_tensors_follow_the_reference_s() -> None:
    view = matrix_view(REFERENCE, faulty_cohort())
    assert view.tensors == (*REFERENCE, "scale")
    assert view.num_reference == 2
    assert [row.cells[2] is None for row in view.rows] == [True, True, True, True, False]


def test_cells_are_coloured_by_kind() -> None:
    heatmap = faulty_figure().data[0]
    colours = dict(np.array(heatmap.colorscale)[1::2].tolist())
    stops = [colours[key] for key in sorted(colours, key=float)]
    drawn = [["" if np.isnan(z) else stops[int(z)] for z in row] for row in heatmap.z]
    assert drawn == [
        [LIGHT.fine, LIGHT.fine, ""],
        [LIGHT.kinds[MismatchKind.SHAPE], LIGHT.fine, ""],
        [LIGHT.fine, LIGHT.kinds[MismatchKind.DTYPE], ""],
        [LIGHT.fine, LIGHT.fine, ""],
        [LIGHT.fine, LIGHT.fine, LIGHT.kinds[MismatchKind.EXTRA]],
    ]


def test_non_finite_cells_are_hatched_over_their_colour() -> None:
    hatched = [trace for trace in faulty_figure().data if trace.name == "non-finite"]
    found = {(t.y[0], round(t.base[0] + 0.47), t.marker.pattern.bgcolor) for t in hatched}
    assert found == {(2, 1, LIGHT.kinds[MismatchKind.DTYPE]), (3, 0, LIGHT.fine)}
    assert all(trace.marker.pattern.shape == "/" for trace in hatched)


def test_the_gravest_letter_is_shown_and_all_are_told() -> None:
    figure = faulty_figure()
    letters, targets = figure.data[-2:]
    shown = dict(zip(zip(letters.y, letters.x, strict=True), letters.text, strict=True))
    assert shown == {
        (1, 0): "<b>S</b>",
        (2, 1): "<b>D</b>",
        (3, 0): "<b>N</b>",
        (4, 2): "<b>X</b>",
    }
    assert letters.textfont.color == (
        readable_on(LIGHT.kinds[MismatchKind.SHAPE]),
        readable_on(LIGHT.kinds[MismatchKind.DTYPE]),
        LIGHT.ink,
        readable_on(LIGHT.kinds[MismatchKind.EXTRA]),
    )
    at = [list(data) for data in targets.customdata].index(["c02", "dense/bias"])
    assert "2 mismatches" in targets.hovertext[at]
    assert targets.hovertext[at].index("dtype") < targets.hovertext[at].index("non-finite")
    assert "expected float32[64,32], found float32[32,64]" in targets.hovertext[at]


def test_every_cell_that_applies_can_be_clicked_and_stays_invisible() -> None:
    figure = faulty_figure()
    targets = figure.data[-1]
    assert len(targets.customdata) == 5 * 2 + 1
    assert list(targets.customdata[0]) == ["c00", "dense/kernel"]
    assert targets.marker.opacity == 0
    assert targets.selected.marker.opacity == targets.unselected.marker.opacity == 0
    assert figure.layout.clickmode == "event+select"


def test_a_selection_fades_nothing() -> None:
    *others, letters, _ = faulty_figure().data
    assert letters.selected.textfont.color == LIGHT.ink
    assert all(t.unselected.marker.opacity == 1 for t in (*others[1:], letters))


def test_each_row_says_what_is_the_matter() -> None:
    notes = [a.text for a in faulty_figure().layout.annotations]
    assert notes == [
        "fine",
        "float32[32,64]",
        "float32[32,64], and 1 more",
        "not finite",
        "a tensor too many",
    ]


def test_many_fine_clients_become_one_row() -> None:
    cohort = {f"c{i:02d}": [] for i in range(44)} | {
        "odd": [mismatch("dense/bias", MismatchKind.DTYPE)]
    }
    view = matrix_view(REFERENCE, cohort)
    assert [(row.label, row.note) for row in view.rows] == [
        ("odd", "float32[32,64]"),
        ("44 clients", "fine"),
    ]
    assert view.num_folded == 44
    targets = signature_matrix_figure(view, DARK).data[-1]
    assert list(targets.customdata[-1]) == ["c00", "dense/bias"]


def test_many_clients_with_the_same_mismatches_become_one_row() -> None:
    wrong = [mismatch("dense/kernel", MismatchKind.DTYPE)]
    view = matrix_view(REFERENCE, {f"c{i:04d}": wrong for i in range(1000)})
    assert [row.label for row in view.rows] == ["1,000 clients"]
    assert view.num_folded == 1000


def test_forty_clients_and_sixty_tensors_are_all_named() -> None:
    names = [f"model/encoder/block_{i}/attention/kernel" for i in range(60)]
    view = matrix_view(names, {f"c{i:02d}": [] for i in range(40)})
    figure = signature_matrix_figure(view, LIGHT)
    assert figure.layout.xaxis.tickangle == -90
    assert figure.layout.xaxis.ticktext[7] == "block_7/attention/kernel"
    assert len(figure.layout.xaxis.ticktext) == 60
    assert len(figure.layout.yaxis.ticktext) == 40
    assert figure.layout.height == matrix_height(view) < 1000


def test_of_very_many_tensors_those_with_mismatches_are_named() -> None:
    names = [f"t{i:03d}" for i in range(200)]
    cohort = {"a": [mismatch("t017", MismatchKind.SHAPE), mismatch("t190", MismatchKind.SHAPE)]}
    figure = signature_matrix_figure(matrix_view(names, cohort, all_tensors=True), LIGHT)
    assert figure.layout.xaxis.tickvals == (17, 190)
    assert figure.layout.xaxis.ticktext == ("t017", "t190")


def test_the_tensors_that_are_as_expected_share_a_pale_column() -> None:
    names = [f"t{i:03d}" for i in range(200)]
    cohort = {"a": [mismatch("t017", MismatchKind.SHAPE), mismatch("t190", MismatchKind.SHAPE)]}
    figure = signature_matrix_figure(matrix_view(names, cohort), LIGHT)
    assert figure.layout.xaxis.ticktext == ("t017", "t190", "<i>198 as expected</i>")
    assert figure.data[0].z.shape == (1, 3)
    assert figure.data[0].z[0, 2] == 0
    assert [tuple(c) for c in figure.data[-1].customdata] == [("a", "t017"), ("a", "t190")]


def test_names_are_broken_shortened_and_escaped() -> None:
    long = "layer/" + "x" * 60
    figure = signature_matrix_figure(
        matrix_view(("dense/kernel", "b"), {"<b>c</b>": [], "d" * 40: []}), LIGHT
    )
    assert figure.layout.xaxis.ticktext == ("dense/<br>kernel", "b")
    assert figure.layout.yaxis.ticktext[0] == "&lt;b&gt;c&lt;/b&gt;"
    assert len(figure.layout.yaxis.ticktext[1]) == 18
    shortened = signature_matrix_figure(matrix_view((long,), {"c": []}), LIGHT)
    assert "…" in shortened.layout.xaxis.ticktext[0]
    assert long in shortened.data[-1].hovertext[0]


def large_figure() -> go.Figure:
    """1,000 clients and 500 tensors, of which one pattern concerns all."""
    names = [f"block_{i // 5}/layer_{i}/kernel" for i in range(500)]
    everywhere = [mismatch(name, MismatchKind.DTYPE) for name in names]
    cohort: dict[str, list[Mismatch]] = {f"c{i:04d}": [] for i in range(1000)}
    cohort |= {f"c{i:04d}": everywhere for i in range(37)}
    cohort["c0999"] = [mismatch(names[7], MismatchKind.MISSING)]
    return signature_matrix_figure(matrix_view(names, cohort), LIGHT)


def test_in_a_large_matrix_only_what_differs_can_be_pointed_at() -> None:
    figure = large_figure()
    assert figure.data[0].z.shape == (3, 500)
    assert list(figure.layout.yaxis.ticktext) == ["c0999", "37 clients", "962 clients"]
    clients = {client for client, _ in figure.data[-1].customdata}
    assert clients == {"c0999", "c0000"}
    assert len(figure.data[-1].customdata) <= 1 + 100
    assert len(figure.to_json()) < 100_000


def test_neighbours_that_are_alike_share_a_letter_where_cells_are_narrow() -> None:
    letters = large_figure().data[-2]
    shown = list(zip(letters.y, letters.x, letters.text, strict=True))
    assert shown == [(0, 7, "<b>M</b>"), (1, 249.5, "<b>D</b>")]
