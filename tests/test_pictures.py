"""A heatmap in one call: the values, the clients and the names that it takes."""

from __future__ import annotations

import re

import numpy as np
import plotly.graph_objects as go
import pytest

import fedviz as fv
from fedviz.dashboard.folders import SAMPLES

MLP, CNN = SAMPLES / "digits-mlp.h5", SAMPLES / "digits-cnn.h5"


def cells(figure: go.Figure) -> dict[str, np.ndarray]:
    """The cells of each panel, by its title."""
    titles = [
        re.sub("<.*?>", "", label.text).removeprefix("■").strip()
        for label in figure.layout.annotations
        if "■" in label.text
    ]
    drawn = [np.asarray(trace.z) for trace in figure.data if trace.type == "heatmap"]
    return dict(zip(titles, drawn, strict=True))


def test_the_usual_six_panels_hold_the_file_s_values():
    figure = go.Figure(fv.heatmap(MLP, "dense/kernel"))
    with fv.open(MLP) as dataset:
        last = dataset.round(-1)
        server, mean = last.server["dense/kernel"], last.aggregates["mean"]["dense/kernel"]
        first, other = last.clients["c00"]["dense/kernel"], last.clients["c09"]["dense/kernel"]
    found = cells(figure)
    assert list(found) == [
        *("server", "client c00", "client c09", "aggregate"),
        *("c00 − aggregate × 8", "aggregate − server × 8"),
    ]
    for name, expected in (
        *(("server", server), ("client c00", first), ("client c09", other), ("aggregate", mean)),
        *(("c00 − aggregate × 8", first - mean), ("aggregate − server × 8", mean - server)),
    ):
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-7)


def test_panels_clients_round_and_theme_are_chosen():
    with fv.open(MLP) as dataset:
        view = fv.HeatmapView(roles=("client", "other-server"))
        figure = fv.heatmap(
            dataset, "dense/bias", 1, ("c03", "c05"), view=view, theme="dark", symlog=True
        )
        shown = cells(figure)
        round_ = dataset.round(1)
        assert [name.split("  ")[0] for name in shown] == ["client c03", "c05 − server"]
        strip, _ = shown.values()
        np.testing.assert_array_equal(strip.ravel(), round_.clients["c03"]["dense/bias"])


def test_any_rank_is_drawn():
    with fv.open(CNN) as dataset:
        for spec in dataset.signature:
            assert cells(fv.heatmap(dataset, spec.name, clients="c01"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tensor": "dense/kernal"}, "UnknownNameError", "dense/kernal.*there are dense/kernel"),
        ({"aggregate": "median"}, "UnknownNameError", "no aggregate median; there are mean"),
        ({"clients": "c77"}, "UnknownNameError", "no client c77"),
        ({"clients": ("c00", "c01", "c02")}, "InvalidArgumentError", "one or two, found 3"),
        ({"theme": "sepia"}, "InvalidArgumentError", "light or dark, found sepia"),
        ({"round": 9}, "UnknownNameError", "9"),
    ],
)
def test_what_there_is_not_is_said(options, error, message):
    with pytest.raises(fv.FedvizError, match=message) as caught:
        fv.heatmap(MLP, **{"tensor": "dense/kernel", **options})
    assert type(caught.value).__name__ == error
