from __future__ import annotations

import csv

import numpy as np
import plotly.graph_objects as go

from fedviz.figures.numbers import figure_csv


def rows(figure):
    return list(csv.DictReader(figure_csv(figure).splitlines()))


def test_points_and_bars_with_their_labels():
    figure = go.Figure()
    figure.add_scatter(x=[0, 1, 2], y=[0.1, np.nan, 1 / 3], customdata=["a", "b", "c &lt;x&gt;"])
    figure.add_bar(x=[5], y=["k"], name="<b>sum</b>")
    found = rows(figure)
    assert [(r["x"], r["y"], r["label"]) for r in found[:2]] == [
        ("0", "0.1", "a"),
        ("2", "0.3333333333333333", "c <x>"),
    ]
    assert (found[2]["trace"], found[2]["x"], found[2]["y"]) == ("sum", "5", "k")


def test_cells_have_their_own_places():
    figure = go.Figure()
    values = np.array([[1.5, np.nan], [np.inf, -2.0]], dtype="f4")
    figure.add_heatmap(z=values, x0=10, dx=2, y=[7, 8], name="server")
    found = [(r["trace"], r["x"], r["y"], r["value"]) for r in rows(figure)]
    assert found == [("server", "10", "7", "1.5"), ("server", "12", "8", "-2")]


def test_a_name_is_no_formula():
    figure = go.Figure()
    figure.add_scatter(x=[1], y=[-1], text=["=HYPERLINK(1)"], name="@SUM(1)")
    (row,) = rows(figure)
    assert (row["trace"], row["label"], row["y"]) == ("'@SUM(1)", "'=HYPERLINK(1)", "-1")
