"""What the browser is sent of a figure that a component of our own draws."""

from __future__ import annotations

import json

import numpy as np
import plotly.graph_objects as go
import pytest

from fedviz.dashboard import plot
from fedviz.errors import FedvizError
from tests.dashboard.opened import unpacked

CELLS = np.array([[0.1, np.nan, np.inf], [-np.inf, -0.0, 1e-45]], np.float32)


def test_arrays_arrive_as_they_are():
    sent = {
        "z": CELLS,
        "x": np.array([1.5, 2.5, np.nan]),
        "customdata": np.array([1, 2**40]),
        "text": np.array([["a", "b", "c"], ["d", "e", "f"]]),
    }
    data = plot.packed(go.Figure(go.Heatmap(**sent)), {"displaylogo": False})
    arrived = unpacked(data)
    assert arrived["config"] == {"displaylogo": False}
    (trace,) = arrived["data"]
    assert trace["z"].dtype == np.float32
    assert trace["z"].tobytes() == CELLS.tobytes()
    np.testing.assert_array_equal(trace["x"], sent["x"])
    np.testing.assert_array_equal(trace["customdata"], [1.0, 2.0**40])
    assert trace["text"] == sent["text"].tolist()


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "i2", "i4", "u1", "u2", "u4", ">f4", ">i8"])
def test_numbers_of_every_width(dtype):
    numbers = np.array([0, 1, 100], dtype)
    (trace,) = unpacked(plot.packed(go.Figure(go.Bar(y=numbers)), {}))["data"]
    np.testing.assert_array_equal(trace["y"], numbers)


def test_a_single_number_and_what_has_three_axes_are_json():
    trace = go.Bar(width=np.float32(0.5), customdata=np.zeros((1, 2, 3)))
    figure = go.Figure(trace, {"meta": [np.int64(7)]})
    arrived = unpacked(plot.packed(figure, {}))
    assert arrived["layout"]["meta"] == [7]
    assert arrived["data"][0]["width"] == 0.5
    assert np.shape(arrived["data"][0]["customdata"]) == (1, 2, 3)


def test_a_cell_weighs_what_its_number_does():
    figure = go.Figure(go.Heatmap(z=np.zeros((376, 376), np.float32)))
    assert 376 * 376 * 4 < len(plot.packed(figure, {})) < 376 * 376 * 4 + 20_000


def test_the_rest_is_json_that_a_browser_reads():
    data = plot.packed(go.Figure(go.Heatmap(z=CELLS), {"height": 300}), {})
    length = int.from_bytes(data[:4], "little")
    head = json.loads(data[4 : 4 + length], parse_constant=pytest.fail)
    assert head["layout"]["height"] == 300
    assert head["data"][0]["z"] == {"array": "f4", "at": 0, "shape": [2, 3]}


def test_what_is_not_finite_outside_arrays_is_null():
    figure = go.Figure(go.Scatter(x=[1.5, float("nan"), float("-inf")], text=["NaN", "", "a"]))
    figure.add_heatmap(z=CELLS)
    scatter, heatmap = unpacked(plot.packed(figure, {}))["data"]
    assert scatter["x"] == [1.5, None, None]
    assert scatter["text"] == ["NaN", "", "a"]
    assert heatmap["z"].tobytes() == CELLS.tobytes()


def test_a_streamlit_without_plotly_is_said(monkeypatch, tmp_path):
    plot._plotly_script.cache_clear()
    monkeypatch.setattr(plot, "_SCRIPTS", tmp_path)
    with pytest.raises(FedvizError, match=r"has no PlotlyChart.*requirements.txt"):
        plot.packed(go.Figure(), {})
    plot._plotly_script.cache_clear()
