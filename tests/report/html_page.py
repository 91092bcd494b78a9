"""A report read back: its elements, its text, its figures."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from typing import Any

import numpy as np


class ReportPage(HTMLParser):
    """What a browser would find in the file."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: dict[str, str] = {}
        self._inside = ""
        self._script = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self._script = dict(attrs).get("id") or f"script-{len(self.scripts)}"
            self.scripts[self._script] = ""

    def handle_endtag(self, _tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[self._script] += data
        elif data.strip() and self._inside != "style":
            self.texts.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    @property
    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    @property
    def addresses(self) -> list[str]:
        """What the file refers to."""
        names = ("src", "href", "action", "data", "srcset", "poster")
        return [attrs[n] or "" for _, attrs in self.elements for n in names if n in attrs]

    def spec(self, key: str) -> dict[str, Any]:
        return json.loads(self.scripts[f"spec-{key}"])

    def after(self, label: str) -> str:
        """The text that follows another."""
        return self.texts[self.texts.index(label) + 1]


def decoded(value: Any) -> np.ndarray:
    """An array of plotly's JSON."""
    array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
    return array.reshape([int(n) for n in str(value.get("shape", array.size)).split(",")])
