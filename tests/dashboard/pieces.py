"""Pieces of a page, each in a small app of its own."""

from __future__ import annotations

from typing import Any

from streamlit.testing.v1 import AppTest

from tests.dashboard.opened import OpenedPage

_HEAD = """
from fedviz.dashboard import cache, pasting, repairing, state, verdicts, widgets
from fedviz.dashboard.references import ReferenceChoice

state.choose(("dataset", "round"))
chosen = state.selection()
report = cache.checked(chosen.round, ReferenceChoice({reference!r}, {name!r}), "values")
{call}
"""


class OpenedPiece(OpenedPage):
    """A piece of the signatures page.

    Parameters
    ----------
    call : str
        What draws it, of ``chosen`` and ``report``.
    dataset : str
        As the picker shows it.
    client : str
        The client that the report compares with; the server model by default.
    **levels : str
        The rest of the address.
    """

    def __init__(self, call: str, *, dataset: str, client: str = "", **levels: str) -> None:
        reference = "client" if client else "server"
        script = _HEAD.format(reference=reference, name=client, call=call)
        self.app = AppTest.from_string(script, default_timeout=120)
        self.app.query_params.update({"dataset": dataset, **levels})
        self.run()

    def control(self, options: list[str]) -> Any:
        """The segmented control with these options."""
        (found,) = [g for g in self.app.button_group if list(g.options) == options]
        return found
