"""The registry: what people use is in it, and each says what it is."""

import pytest

from fedviz.aggregation.aggregators import AGGREGATORS
from fedviz.aggregation.average import average
from fedviz.errors import CohortError
from tests.aggregation.helpers import f32, write_round

OF_TFF = (
    "mean tff-mean tff-unweighted-mean clipping zeroing robust dp compression secure ddp-secure "
    "composition dp-composition"
)
BEYOND = (
    "median trimmed-mean krum multi-krum bulyan geometric-median norm-bounded-mean proximal-mean "
    "fedavgm fedadam fedyogi"
)


def test_all_are_there_with_formula_source_ranges_and_what_they_protect_against():
    assert list(AGGREGATORS) == [*OF_TFF.split(), *BEYOND.split()]
    for name, rule in AGGREGATORS.items():
        assert all((rule.title, rule.description, rule.formula, rule.source, rule.cohort)), name
        assert rule.protects_against, name
        assert all(each.range and each.help for each in rule.parameters), name
        # Server optimisers make their step of TFF's mean.
        by_tff = name in OF_TFF.split() or rule.history == "always"
        assert rule.engine == ("tff" if by_tff else "numpy"), name


@pytest.mark.parametrize(
    ("name", "parameters", "smallest", "formula"),
    [
        ("trimmed-mean", {"trim": 2}, 5, "n ≥ 2k \\+ 1"),
        ("krum", {"f": 2}, 7, "n ≥ 2f \\+ 3"),
        ("multi-krum", {"f": 1, "m": 6}, 6, "n ≥ 2f \\+ 3 and n ≥ m"),
        ("bulyan", {"f": 1}, 7, "n ≥ 4f \\+ 3"),
    ],
)
def test_too_few_clients_are_an_error_that_says_how_many(
    tmp_path, name, parameters, smallest, formula
):
    path = write_round(tmp_path / "a.h5", [{"w": f32(i, -i)} for i in range(smallest)])
    assert len(average(path, aggregator=name, parameters=parameters).clients) == smallest
    path = write_round(tmp_path / "b.h5", [{"w": f32(i)} for i in range(smallest - 1)])
    message = f"b.h5, round 0: {name} needs {formula}, here {smallest} .* found {smallest - 1}"
    with pytest.raises(CohortError, match=message):
        average(path, aggregator=name, parameters=parameters)
