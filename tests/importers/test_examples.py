from pathlib import Path

import pytest

from fedviz.errors import InvalidArgumentError
from fedviz.importers.examples import assigned_examples, read_examples
from fedviz.importers.sources import ClientSource

SOURCES = [ClientSource(f"in/c{i}.npz", Path(f"c{i}.npz")) for i in (1, 2)]
IDS = ["c1", "c2"]


def assigned(given, own=(None, None), order=SOURCES):
    return assigned_examples(given, SOURCES, IDS, own, order)


@pytest.mark.parametrize(
    "text",
    [
        "c1,120\nc2,7\n",
        "client,num_examples\nc1,120\nc2,7",
        "\ufeffclient;num_examples\r\nc1;120\r\nc2;7\r\n",
        "num_examples,site,client\n120,x,c1\n\n7,y,c2\n",
        "name,count\nc1, 120\nc2, 7",
    ],
)
def test_a_csv_with_and_without_a_header(tmp_path, text):
    (tmp_path / "n.csv").write_text(text, encoding="utf-8")
    assert read_examples(tmp_path / "n.csv") == {"c1": 120, "c2": 7}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("c1,120\nc2,many", r"n\.csv: row 2: expected a client and a whole number"),
        ("c1,-1\nc2,3", r"n\.csv: row 1: expected a client and"),
        ("c1,1\nc1,2", r"n\.csv, client c1: row 2: listed twice"),
        ("c1", r"n\.csv: row 1: expected a client"),
        ('c1,"1', r"n\.csv: expected a CSV"),
    ],
)
def test_a_csv_that_says_something_else(tmp_path, text, message):
    (tmp_path / "n.csv").write_text(text)
    with pytest.raises(InvalidArgumentError, match=message):
        assigned(tmp_path / "n.csv")


def test_what_the_user_says_goes_before_the_file_and_its_name():
    named = [ClientSource("c1_n5.npz", Path("c1_n5.npz")), ClientSource("c2_n6.npz", Path("x"))]
    assert assigned_examples(None, named, IDS, [None, None], named) == [5, 6]
    assert assigned_examples(None, named, IDS, [50, 0], named) == [50, 0]
    assert assigned_examples({"c2": 9}, named, IDS, [50, None], named) == [50, 9]
    assert assigned_examples([1, 2], named, IDS, [50, 60], named) == [1, 2]


def test_by_file_name_and_by_the_path_that_is_shown():
    assert assigned({"c1.npz": 3, "in/c2.npz": 4}) == [3, 4]
    assert assigned({"c1": 3}) == [3, None]


def test_a_list_is_refused_where_the_order_is_not_what_it_seems():
    with pytest.raises(InvalidArgumentError, match=r"in/c2\.npz where in/c1\.npz comes by its"):
        assigned([1, 2], order=SOURCES[::-1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1], "expected one num_examples for each of the 2 clients, found 1"),
        ([1, -2], "client c2: num_examples is -2; expected 0 or more"),
        ([1, 2**63], "client c2: num_examples is 9223372036854775808"),
        ({"c3": 1}, "there is no client c3; there are c1, c2"),
    ],
)
def test_numbers_that_do_not_fit(given, message):
    with pytest.raises(InvalidArgumentError, match=message):
        assigned(given)
