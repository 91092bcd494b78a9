"""How long a heatmap takes in a browser, from the click to the painted picture, and what it weighs.

The tensor is chosen in the breadcrumb, as a visitor does; the clock starts at the click on its name
and ends when the picture of that tensor is painted and nothing on the page is loading. Memory is
that of the dashboard's own process, before and after a file that is sixteen times as large.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from benchmarks.timing import Row
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.browser.chromium import launch_browser
from tests.browser.driver import open_address, wait_for_app
from tests.browser.server import Dashboard, running_dashboard

REPEATS = 3
SIDES = {"64 × 32": (64, 32), "1,024 × 1,024": (1024, 1024), "4,096 × 4,096": (4096, 4096)}
TARGETS = {"64 × 32": 0.3, "1,024 × 1,024": 0.8, "4,096 × 4,096": 1.2}
WINDOW = (1000, 1300, 2000, 2300)

PAINTED = """([rows, columns]) => {
    const plot = document.querySelector('.st-key-wide_grid .js-plotly-plot');
    if (!plot?._fullLayout?.yaxis) return false;
    const {xaxis, yaxis} = plot._fullLayout;
    const layers = [...plot.querySelectorAll('.heatmaplayer')];
    return layers.length > 0 && layers.every(layer => layer.querySelector('image'))
        && Math.abs(yaxis.range[0] - yaxis.range[1]) === rows
        && Math.abs(xaxis.range[1] - xaxis.range[0]) === columns;
}"""
PLACE = """([row, column]) => {
    const plot = document.querySelector('.st-key-wide_grid .js-plotly-plot');
    const {xaxis, yaxis} = plot._fullLayout, {left, top} = plot.getBoundingClientRect();
    return [left + xaxis._offset + xaxis.l2p(column), top + yaxis._offset + yaxis.l2p(row)];
}"""
CELLS = """() => {
    const plot = document.querySelector('.st-key-wide_grid .js-plotly-plot');
    return Math.max(...plot._fullData.map((trace, i) => trace.type !== 'heatmap' ? 0
        : plot.calcdata[i][0].z.reduce((sum, line) => sum + line.length, 0)));
}"""


def write(path: Path, clients: int) -> None:
    """Clients near a random server model, in three tensors of three sizes."""
    rng = np.random.default_rng(0)
    specs = [TensorSpec(name, shape, "float32", True) for name, shape in SIDES.items()]
    server = [rng.standard_normal(shape, dtype="f4") / np.float32(10) for shape in SIDES.values()]
    moved = [tensor + np.float32(0.005) for tensor in server]
    entries = [ClientEntry(f"c{i}", 10 + i) for i in range(clients)]
    with (
        WeightDatasetWriter(path, Signature(tuple(specs))) as writer,
        writer.round(entries, server) as round_,
    ):
        for i, entry in enumerate(entries):
            round_.write_client(entry.id, [np.roll(tensor, i, axis=0) for tensor in server])
        round_.write_aggregate("mean", moved, aggregator="mean", weighting="num_examples")


def painted(page: Page, shape: tuple[int, int]) -> None:
    """Wait until the heatmaps of a tensor or a window of that shape are there."""
    page.wait_for_function(PAINTED, arg=list(shape), polling=10)


def choose(page: Page, name: str) -> float:
    """Choose a tensor in the breadcrumb; seconds until it is painted."""
    page.locator(".st-key-tensor input").click()
    option = page.get_by_role("option", name=name, exact=True)
    option.wait_for()
    started = time.perf_counter()
    option.click()
    painted(page, SIDES[name])
    seconds = time.perf_counter() - started
    wait_for_app(page)
    return seconds


def drill(page: Page) -> float:
    """Drag a box on the largest tensor; seconds from letting go to the painted window."""
    top, bottom, left, right = WINDOW
    page.mouse.move(*page.evaluate(PLACE, [top, left]))
    page.mouse.down()
    page.mouse.move(*page.evaluate(PLACE, [bottom, right]), steps=3)
    started = time.perf_counter()
    page.mouse.up()
    page.wait_for_function(
        PAINTED.replace("=== rows", "< 400").replace("=== columns", "< 400"),
        arg=[0, 0],
        polling=10,
    )
    return time.perf_counter() - started


def first_and_later(page: Page, url: str) -> Iterator[tuple[str, float, float]]:
    """Each tensor read for the first time, then again from the cache."""
    open_address(page, url)
    wait_for_app(page)
    small, *others = SIDES
    cold = {name: choose(page, name) for name in others}
    cold[small] = choose(page, small)
    warm: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(REPEATS):
        for name in (*others, small):
            warm[name].append(choose(page, name))
    for name in SIDES:
        yield name, cold[name], statistics.median(warm[name])


def payload(page: Page) -> int:
    """Most bytes that one panel's cells take: float32."""
    return int(page.evaluate(CELLS)) * 4


def resident(dashboard: Dashboard) -> float:
    """Megabytes of memory that the dashboard's process has of its own, not mapped from files."""
    port = dashboard.url.rsplit(":", 1)[1]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and f"--server.port\0{port}\0" in _text(entry / "cmdline"):
            lines = _text(entry / "status").splitlines()
            return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1e3
    raise LookupError("the dashboard does not run")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def measure(folder: Path) -> Iterator[Row]:
    """A dashboard with two files of the same tensors, one with many more clients."""
    data = folder / "data"
    data.mkdir()
    write(data / "few.h5", 2)
    write(data / "many.h5", 16)
    with running_dashboard(data) as dashboard, sync_playwright() as playwright:
        browser = launch_browser(playwright)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        for name, cold, warm in first_and_later(page, f"{dashboard.url}/heatmaps?dataset=few.h5"):
            target = f"target {TARGETS[name]} s"
            yield Row(f"{name}, six panels, read for the first time", cold, target)
            yield Row(f"{name}, seen before", warm, target)
        before = resident(dashboard)
        choose(page, "4,096 × 4,096")
        size = payload(page)
        yield Row("drill-down to 300 × 300 of 4,096 × 4,096", drill(page), "target 0.6 s")
        largest = max(size, payload(page))
        yield Row("payload of a panel, MB", largest / 1e6, "in place of seconds; target 1.1 MB")
        open_address(page, f"{dashboard.url}/heatmaps?dataset=many.h5")
        choose(page, "4,096 × 4,096")
        grown = resident(dashboard) - before
        yield Row(
            "memory that a file of 8 times the size adds, MB",
            grown,
            f"in place of seconds; {(data / 'many.h5').stat().st_size / 1e6:,.0f} MB of file",
        )
        browser.close()
