"""How the dashboard starts: without TensorFlow, on whichever page is asked for first."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from streamlit.testing.v1 import AppTest

from tests.dashboard.opened import PAGES, ROOT

FIRST_PAINT = """
    import sys
    from streamlit.testing.v1 import AppTest
    app = AppTest.from_file("app.py", default_timeout=60).run()
    assert not app.exception
    print(app.header[0].value)
    for page in sys.argv[1:]:
        app.switch_page(f"pages/{page}.py").run()
        assert not app.exception
    print(sorted({"tensorflow", "tensorflow_federated", "keras", "jax"} & set(sys.modules)))
"""


def test_looking_imports_no_tensorflow_and_leaves_nothing(tmp_path):
    """TensorFlow loads in the engine, which ends with the process and says nothing."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FIRST_PAINT), *PAGES],
        cwd=ROOT,
        env=os.environ | {"FEDVIZ_DATA_DIR": str(tmp_path / "data"), "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=True,
    )
    answer, modules = done.stdout.splitlines()
    assert answer == "Ten clients, one signature, 5 rounds: fit to be averaged."
    assert modules == "[]"
    assert "Exception" not in done.stderr
    assert list(temporary.glob("fedviz-*")) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_server_s_first_visitor_may_open_any_page(data_dir, name):
    del data_dir
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.switch_page(f"pages/{name}.py").run()
    assert not app.exception
    assert app.title[0].value.lower() == name
    assert app.header[0].value


def test_a_selection_that_the_address_lacks_is_told_to_the_browser(open_page):
    """Else a browser that was clicked on early draws the first dataset, and then selects it."""
    page = open_page(dataset="digits-cnn.h5")
    page.app.query_params.clear()
    page.go_to("signatures")
    chosen = page.app.selectbox(key="dataset").proto
    assert (chosen.set_value, chosen.raw_value) == (True, "digits-cnn.h5")
