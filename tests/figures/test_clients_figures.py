"""Who is alike, who drifts, who does not fit in: traces, ranges, colours and names."""

from __future__ import annotations

import numpy as np
import pytest

from fedviz.analysis.clustering import similarity
from fedviz.analysis.folding import dendrogram, fold
from fedviz.figures.detectors import RocCurve, roc_figure
from fedviz.figures.divergence import divergence_figure
from fedviz.figures.paths import ModelPath, paths_figure
from fedviz.figures.similarity import MOST_CELLS, SimilarityCells, similarity_figure
from fedviz.figures.theme import DARK, LIGHT, client_colour
from fedviz.figures.updates import directions_figure, silhouettes_figure


def cells_of(vectors, measure="cosine"):
    found = similarity(vectors @ vectors.T)
    order = found.clusters.order
    matrix = found.cosines if measure == "cosine" else found.distances
    folded = fold(matrix, order, MOST_CELLS)
    names = [f"c{i:03d}" for i in range(len(vectors))]
    return SimilarityCells(
        folded.values,
        [[names[i] for i in group] for group in folded.groups],
        [[(names[i], names[j]) for i, j in row] for row in folded.pairs],
        [2],
        dendrogram(found.clusters.linkage, order),
        measure,
    )


class TestSimilarity:
    VECTORS = np.array([[1.0, 0], [0.8, 0.6], [0, 1], [0.6, -0.8]])

    def test_cells_numbers_and_tree(self):
        cells = cells_of(self.VECTORS)
        figure = similarity_figure(cells, LIGHT, selected=("c000", "c003"))
        heat, numbers, tree, squares = figure.data
        assert (heat.zmin, heat.zmax) == (-1, 1)
        assert heat.colorscale[5] == (0.5, LIGHT.page)
        assert np.isnan(np.diagonal(heat.z)).all()
        assert len(numbers.text) == len(squares.x) == 12
        assert sorted(set(numbers.text)) == [".00", ".60", ".80", "−.80"]
        # Three joins, each four corners and a gap.
        assert len(tree.x) == 15
        assert list(squares.customdata[0]) == [
            cells.groups[0][0],
            cells.groups[1][0],
        ]
        bold = [t for t in figure.layout.xaxis.ticktext if t.startswith("<b>")]
        assert sorted(bold) == ["<b>c000</b>", "<b>c003</b>"]
        cuts = [s for s in figure.layout.shapes if s.type == "line"]
        outlined = [s for s in figure.layout.shapes if s.type == "rect"]
        assert [len(cuts), len(outlined)] == [2, 2]
        assert outlined[0].line.color == LIGHT.aggregate

    def test_distances_are_on_a_sequential_scale_from_zero(self):
        figure = similarity_figure(cells_of(self.VECTORS, "distance"), DARK)
        heat = figure.data[0]
        assert heat.zmin == 0
        assert heat.zmax == pytest.approx(np.sqrt(0.6**2 + 1.8**2))
        assert heat.colorscale[0] == (0, DARK.sequential[0])

    def test_a_large_cohort_is_folded(self):
        vectors = np.random.default_rng(0).standard_normal((500, 8))
        figure = similarity_figure(cells_of(vectors), LIGHT, selected=("c007", "c400"))
        heat, tree, squares = figure.data
        assert np.shape(heat.z) == (MOST_CELLS, MOST_CELLS)
        assert not figure.layout.xaxis.showticklabels
        assert [a.text for a in figure.layout.annotations] == ["<b>c007</b>", "<b>c400</b>"]
        across = np.asarray(tree.x, "f8")
        assert -0.5 <= np.nanmin(across) <= np.nanmax(across) <= MOST_CELLS - 0.5
        assert all(len(pair) == 2 for pair in squares.customdata)
        assert figure.layout.height < 620

    def test_names_are_only_text(self):
        cells = cells_of(self.VECTORS[:2])
        cells = SimilarityCells(
            cells.values, [["<b>x"], ["y"]], [[("<b>x", "y")] * 2] * 2, [], cells.lines
        )
        figure = similarity_figure(cells, LIGHT)
        assert figure.layout.yaxis.ticktext == ("&lt;b&gt;x", "y")
        assert "&lt;b&gt;x" in figure.data[-1].hovertext[0]


class TestPaths:
    def paths(self, rounds=(0, 1)):
        places = {"a": [[1, 1], [2, 1]], "b": [[1, -1], [2, -1]], "c": [[1, 0], [np.nan, np.nan]]}
        return [
            ModelPath(name, rounds, np.array(at, "f8")[: len(rounds)], i)
            for i, (name, at) in enumerate(places.items())
        ]

    def test_the_selected_is_coloured_and_the_server_ends_in_the_aggregate(self):
        server = ModelPath("", (0, 1), np.array([[0.0, 0], [1, 0]]))
        mean = ModelPath("mean", (0, 1), np.array([[1.0, 0], [2, 0]]))
        figure = paths_figure(
            self.paths(), server, [mean], (0.6, 0.1), LIGHT, shown_round=1, selected=["b"]
        )
        lines, dots, chosen, servers, aggregate = figure.data
        assert lines.line.color == LIGHT.faint
        assert list(dots.customdata) == ["a", "a", "c", "c"]
        assert list(dots.marker.size) == [4, 8, 4, 8]
        assert chosen.line.color == client_colour(LIGHT, 1)
        assert list(chosen.x) == [1, 2]
        assert list(servers.x) == [0, 1, 2]
        assert (list(aggregate.x), aggregate.marker.color) == ([2], LIGHT.aggregate)
        texts = [a.text for a in figure.layout.annotations]
        assert texts == ["server model, round 0", "a", "<b>b</b>", "<b>aggregate</b>"]
        assert figure.layout.xaxis.title.text == "first direction, 60% of the variance"
        assert figure.layout.yaxis.scaleanchor == "x"

    def test_of_one_round_each_client_hangs_on_the_server(self):
        server = ModelPath("", (3,), np.array([[0.0, 0]]))
        figure = paths_figure(
            self.paths(rounds=(3,)), server, [], (1, 0), DARK, shown_round=3, selected=["a"]
        )
        lines, _, chosen, _ = figure.data
        assert np.asarray(lines.x)[:2].tolist() == [0, 1]
        assert (list(chosen.x), list(chosen.marker.size)) == ([0, 1], [0, 11])

    def test_of_many_clients_only_the_marked_are_named(self):
        rng = np.random.default_rng(1)
        many = [ModelPath(f"c{i}", (0,), rng.standard_normal((1, 2)), i) for i in range(300)]
        figure = paths_figure(
            many, None, [], (0.5, 0.2), LIGHT, shown_round=0, selected=["c5"], marked=["c9"]
        )
        assert [a.text for a in figure.layout.annotations] == ["<b>c5</b>", "c9"]

    def test_nothing_to_draw(self):
        nan = float("nan")
        assert len(paths_figure([], None, [], (nan, nan), LIGHT, shown_round=0).data) == 2


class TestDivergence:
    def test_the_scale_ends_where_one_exploded_client_leaves_something_to_see(self):
        ratios = np.array([[50.0, 1], [0.5, np.nan], [1, 2]])
        figure = divergence_figure(
            ratios, ["a", "b"], ["k", "x/b"], LIGHT, rest="median of 7 more", selected=("a", "x/b")
        )
        heat, numbers, squares = figure.data
        assert (heat.zmin, heat.zmax) == (1, 3)
        assert heat.colorbar.ticktext == ("1 or less", "3.0 or more")
        assert list(numbers.text) == ["50.0", "1.00", "0.50", "1.00", "2.00"]
        assert [list(c) for c in squares.customdata] == [["a", "k"], ["a", "x/b"], ["b", "k"]]
        assert figure.layout.yaxis.ticktext == ("<b>a</b>", "b", "<i>median of 7 more</i>")
        (box,) = figure.layout.shapes
        assert (box.x0, box.y0) == (0.5, -0.5)

    def test_the_largest_ends_the_scale_elsewhere(self):
        figure = divergence_figure(np.array([[1.5, 1.0]]), ["a"], ["k", "b"], DARK)
        assert figure.data[0].zmax == 1.5
        assert figure.data[0].colorbar.ticktext == ("1 or less", "1.5")


class TestUpdates:
    def test_length_against_direction(self):
        figure = directions_figure(
            np.array([1.0, 10, np.nan, 0.5]),
            np.array([0.9, 0.8, np.nan, -0.7]),
            ["a", "b", "c", "d"],
            LIGHT,
            indices=[0, 1, 2, 3],
            selected=["a"],
            marked=["b"],
        )
        usual, special = figure.data
        assert list(usual.customdata) == ["d"]
        assert list(special.customdata) == ["b", "a"]
        assert list(special.marker.line.width) == [2, 0]
        assert special.marker.color == (LIGHT.faint, client_colour(LIGHT, 0))
        low, high = figure.layout.xaxis.range
        assert (figure.layout.xaxis.type, low < np.log10(0.5), high > 1) == ("log", True, True)
        named = {a.text: (a.x, a.y) for a in figure.layout.annotations}
        assert named["b"] == (1.0, 0.8)
        assert set(named) == {"<b>a</b>", "b", "d"}

    def test_silhouettes_by_cluster(self):
        figure = silhouettes_figure(
            np.array([0.2, 0.5, -0.1, 0.4]),
            np.array([1, 0, 0, 1]),
            ["a", "b", "c", "d"],
            DARK,
            indices=[0, 1, 2, 3],
            selected=["d"],
        )
        others, chosen = figure.data
        assert list(others.customdata) == ["b", "c", "a"]
        assert (list(chosen.customdata), list(chosen.x)) == (["d"], [0.4])
        assert chosen.marker.color == (client_colour(DARK, 3),)
        assert [a.text for a in figure.layout.annotations] == ["cluster 1", "cluster 2"]
        assert figure.layout.yaxis.ticktext == ("b", "c", "<b>d</b>", "a")


def test_a_roc_curve_for_each_detector():
    curves = [
        RocCurve("length", np.array([0, 0.5, 1]), np.array([0, 1, 1]), 0.75, (0.5, 1.0)),
        RocCurve("combined", np.array([0, 0, 1]), np.array([0, 1, 1]), 1.0, (0, 0.5), True),
    ]
    figure = roc_figure(curves, LIGHT)
    assert [list(t.x) for t in figure.data] == [[0, 0.5, 1], [0.5], [0, 0, 1], [0]]
    assert [figure.data[i].line.color for i in (0, 2)] == [LIGHT.faint, LIGHT.ink]
    assert figure.data[3].xaxis == "x2"
    texts = [a.text for a in figure.layout.annotations]
    assert texts[:2] == ["length  0.75", "<b>combined</b>  1.00"]
