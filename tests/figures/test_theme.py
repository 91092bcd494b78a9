"""One visual language: the tokens, their contrast, and that Streamlit's theme has the same."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from fedviz.figures.theme import (
    DARK,
    KIND_BADGE,
    KIND_LETTER,
    LIGHT,
    Swatch,
    Theme,
    blend,
    client_colour,
    colour_at,
    colourscale,
    contrast_ratio,
    readable_on,
    template,
    theme_for,
)
from fedviz.signature import MismatchKind
from tests.figures.colour_vision import least_distance

BOTH = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    path = Path(__file__).parents[2] / ".streamlit" / "config.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


@BOTH
def test_streamlit_has_the_same_tokens(theme: Theme, config: dict[str, Any]) -> None:
    found = config["theme"][theme.mode]
    swatches = {
        name: getattr(theme, name) for name in ("red", "orange", "blue", "violet", "green", "gray")
    }
    expected: dict[str, Any] = {
        "primaryColor": theme.aggregate,
        "backgroundColor": theme.page,
        "secondaryBackgroundColor": theme.panel,
        "textColor": theme.ink,
        "borderColor": theme.rule,
        "dataframeBorderColor": theme.table_rule,
        "dataframeHeaderBackgroundColor": theme.page,
        "linkColor": theme.aggregate,
        "codeTextColor": theme.ink,
        "codeBackgroundColor": theme.panel,
    }
    for name, swatch in swatches.items():
        expected[f"{name}Color"] = swatch.colour
        expected[f"{name}TextColor"] = swatch.text
        expected[f"{name}BackgroundColor"] = swatch.background
    assert found == expected


def test_streamlit_stays_on_this_machine_and_calls_nobody(config: dict[str, Any]) -> None:
    assert config["browser"]["gatherUsageStats"] is False
    assert config["server"]["address"] == "127.0.0.1"
    assert config["server"]["headless"] is True
    assert config["server"]["fileWatcherType"] == "none"
    assert config["client"]["toolbarMode"] == "viewer"


@BOTH
def test_text_contrasts_with_what_is_behind_it(theme: Theme) -> None:
    for text in (theme.ink, theme.sub, theme.aggregate, theme.failure):
        assert contrast_ratio(text, theme.page) >= 4.5
    for text in (theme.ink, theme.sub):
        assert contrast_ratio(text, theme.panel) >= 4.5
    for swatch in (theme.red, theme.orange, theme.blue, theme.violet, theme.green, theme.gray):
        assert isinstance(swatch, Swatch)
        assert contrast_ratio(swatch.text, swatch.background) >= 4.5


@BOTH
def test_marks_contrast_with_the_page(theme: Theme) -> None:
    for mark in (*theme.clients, theme.faint, theme.server, theme.aggregate):
        assert contrast_ratio(mark, theme.page) >= 3
    assert contrast_ratio(theme.fine, theme.page) < 1.4


@BOTH
def test_letters_and_numbers_contrast_with_their_cells(theme: Theme) -> None:
    for kind, colour in theme.kinds.items():
        if kind is not MismatchKind.NONFINITE:
            assert contrast_ratio(readable_on(colour), colour) >= 4.5
    assert contrast_ratio(theme.ink, theme.fine) >= 4.5
    for stops in (theme.sequential, theme.diverging):
        for k in range(101):
            cell = colour_at(stops, k / 100)
            assert contrast_ratio(readable_on(cell), cell) >= 4.5


@BOTH
def test_scales(theme: Theme) -> None:
    assert len(theme.diverging) == 11
    assert theme.diverging[5] == theme.page
    distances = [contrast_ratio(colour, theme.page) for colour in theme.sequential]
    assert distances == sorted(distances)
    below = [contrast_ratio(colour, theme.page) for colour in theme.diverging[5::-1]]
    above = [contrast_ratio(colour, theme.page) for colour in theme.diverging[5:]]
    assert below == sorted(below)
    assert above == sorted(above)


@BOTH
def test_special_cells_are_told_from_the_scale_and_each_other_by_every_eye(theme: Theme) -> None:
    scale = [colour_at(theme.diverging, k / 60) for k in range(61)]
    special = [*theme.beyond, theme.ink, theme.sub, theme.faint]
    for k, colour in enumerate(special):
        assert least_distance(colour, [*scale, *special[:k], *special[k + 1 :]]) > 0.05
    sequential = [colour_at(theme.sequential, k / 60) for k in range(61)]
    assert least_distance(theme.beyond_spread, [*sequential, theme.ink, theme.sub]) > 0.05


@BOTH
def test_clients_have_neither_the_server_s_nor_the_aggregate_s_colour(theme: Theme) -> None:
    assert len(set(theme.clients)) == 10
    assert not {theme.server, theme.aggregate} & set(theme.clients)
    assert client_colour(theme, 0) == client_colour(theme, 10) == theme.clients[0]


def test_every_kind_has_a_letter_of_its_own_and_a_badge() -> None:
    assert set(KIND_LETTER) == set(KIND_BADGE) == set(MismatchKind)
    assert "".join(KIND_LETTER[kind] for kind in MismatchKind) == "SDMXORNA"


def test_theme_for() -> None:
    assert theme_for("dark") is DARK
    assert theme_for("light") is theme_for(None) is LIGHT


def test_contrast_by_hand() -> None:
    assert contrast_ratio("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast_ratio("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.005)
    assert readable_on("#E69F00") == "#1B2126"
    assert readable_on("#0072B2") == "#FFFFFF"


def test_colours_between_stops() -> None:
    assert blend("#FF0000", 0.5, "#0000FF") == "#800080"
    assert colour_at(("#000000", "#FFFFFF"), 0.2) == "#333333"
    assert colour_at(("#000000", "#FFFFFF"), 7) == "#FFFFFF"
    assert colourscale(("#000000", "#888888", "#FFFFFF"))[1] == (0.5, "#888888")


@BOTH
def test_template(theme: Theme) -> None:
    layout = template(theme).layout
    assert layout.font.color == theme.ink
    assert layout.xaxis.gridcolor == theme.grid
    assert layout.xaxis.fixedrange is True
    assert layout.dragmode is False
    assert layout.showlegend is False
