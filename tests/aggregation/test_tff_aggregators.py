import subprocess
import sys

import pytest

from fedviz.aggregation.tff_aggregators import TFF_AGGREGATORS, Choice
from fedviz.errors import InvalidArgumentError, UnknownNameError

DP = TFF_AGGREGATORS["dp"]


def test_every_row_says_what_it_is():
    for name, row in TFF_AGGREGATORS.items():
        assert row.name == name
        assert all((row.title, row.description, row.formula, row.protects_against))
        assert row.source.startswith("tff.")
        assert all(p.help and p.range for p in row.parameters)
        assert len({p.name for p in row.parameters}) == len(row.parameters)


def test_the_secure_ones_say_that_they_are_simulated():
    for name in ("secure", "ddp-secure"):
        assert "simulated in the clear" in TFF_AGGREGATORS[name].description
        assert TFF_AGGREGATORS[name].context == "test"


@pytest.mark.parametrize("name", TFF_AGGREGATORS)
def test_defaults_are_within_their_ranges(name):
    row = TFF_AGGREGATORS[name]

    settings = row.settings({})

    assert settings == {p.name: p.default for p in row.parameters}
    assert row.settings(settings) == settings


def test_text_of_a_command_is_taken():
    settings = DP.settings({"noise_multiplier": "1.5", "num_rounds": "20", "adaptive": False})

    assert (settings["noise_multiplier"], settings["num_rounds"]) == (1.5, 20)
    assert settings["adaptive"] == "no"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"noise_multiplier": -1}, "noise_multiplier: expected a number from 0, found -1"),
        ({"noise_multiplier": "much"}, "noise_multiplier: expected a number from 0, found 'much'"),
        ({"clipping_norm": 0}, "clipping_norm: expected a number above 0, found 0"),
        ({"num_rounds": 2.5}, "num_rounds: expected an integer from 1 to 100000, found 2.5"),
        ({"target_quantile": 1.1}, "target_quantile: expected a number from 0 to 1, found 1.1"),
        ({"delta": 1.0}, "delta: expected a number above 0 and below 1, found 1.0"),
        ({"clients_per_round": "all"}, "clients_per_round: expected a number above 0 or cohort"),
        ({"zeroing": "maybe"}, "zeroing: expected yes or no, found 'maybe'"),
        ({"zeroing": 1.0}, "zeroing: expected yes or no, found 1.0"),
        ({"zeroing": [1]}, r"zeroing: expected yes or no, found \[1\]"),
    ],
)
def test_values_outside_their_range(parameters, message):
    with pytest.raises(InvalidArgumentError, match=message):
        DP.settings(parameters)


def test_unknown_parameters():
    with pytest.raises(UnknownNameError, match="tff-mean has no parameter norm; it has none"):
        TFF_AGGREGATORS["tff-mean"].settings({"norm": 1})
    with pytest.raises(UnknownNameError, match="robust has no parameter x; it has zeroing, clip"):
        TFF_AGGREGATORS["robust"].settings({"x": 1})


def test_choice_range_in_words():
    assert Choice("sum", ("plain", "compressed", "secure"), "plain", "").range == (
        "plain, compressed or secure"
    )


def test_the_table_loads_neither_tensorflow_nor_tff():
    code = (
        "import sys, fedviz.aggregation.tff_aggregators;"
        "sys.exit(any(m.split('.')[0] in ('tensorflow', 'tensorflow_federated') "
        "for m in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
