"""A data folder of each test's own, and pages opened on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import app_test

from tests.dashboard.opened import OpenedPage


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("FEDVIZ_DATA_DIR", str(folder))
    monkeypatch.delenv("FEDVIZ_OPEN", raising=False)
    return folder


class NavigatedPages(PagesManager):
    """The pages of a server in which app.py has run: AppTest forgets that before each run."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        PagesManager.uses_pages_directory = False


@pytest.fixture
def open_page(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., OpenedPage]:
    """Open a page by its name and the selection in its address."""
    del data_dir
    monkeypatch.setattr(app_test, "PagesManager", NavigatedPages)
    return OpenedPage
