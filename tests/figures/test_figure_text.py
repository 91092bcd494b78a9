"""Numbers and names as they are written."""

from __future__ import annotations

import doctest
import math

import pytest

from fedviz.figures import colour, text
from fedviz.figures.text import (
    byte_size,
    decimals,
    distinct_names,
    escaped,
    middle_ellipsis,
    number,
    percentage,
    short_number,
    signed,
)


@pytest.mark.parametrize("module", [colour, text], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (9.996, "10.0"),
        (999.6, "1,000"),
        (0.0001, "0.000100"),
        (0.00001, "1.00 × 10⁻⁵"),
        (-2.5e12, "−2.50 × 10¹²"),
        (math.nan, "NaN"),
        (-math.inf, "−∞"),
        (1_234_567, "1,234,567"),
    ],
)
def test_number(value: float, written: str) -> None:
    assert number(value) == written


def test_signs() -> None:
    assert signed(0.0) == "0"
    assert signed(math.inf) == "+∞"
    assert decimals(-0.25, 2) == "−0.25"
    assert decimals(math.nan) == "NaN"
    assert short_number(1e-5) == "1.0 × 10⁻⁵"
    assert short_number(20.0) == "20"


def test_percentages_never_round_away_what_is_there() -> None:
    assert percentage(0.0) == "0%"
    assert percentage(0.0004) == "under 0.1%"
    assert percentage(0.0006) == "0.1%"
    assert percentage(0.9999) == "over 99.9%"
    assert percentage(-0.05) == "−5.0%"
    assert percentage(math.nan) == "NaN"


def test_byte_sizes() -> None:
    assert byte_size(1) == "1 byte"
    assert byte_size(1000) == "1.00 kB"
    assert byte_size(999_999) == "1.00 MB"
    assert byte_size(6_650_000_000) == "6.65 GB"


def test_names() -> None:
    assert middle_ellipsis("kernel", 6) == "kernel"
    assert len(middle_ellipsis("a" * 50, 7)) == 7
    assert distinct_names(["a/b/kernel", "a/b/bias"]) == ["kernel", "bias"]
    assert distinct_names(["dense/kernel"]) == ["dense/kernel"]
    assert distinct_names([]) == []


def test_names_from_files_make_no_markup() -> None:
    assert escaped("<a href='x'>&\n") == "&lt;a href='x'&gt;&amp;\\n"
