"""How long a heatmap takes in a browser, from the click to the painted picture, and what it weighs.

The tensor is chosen in the breadcrumb, as a visitor does. The clock is the browser's: it starts
when the mouse is let go and ends with the first frame in which the picture of that tensor is there.
TensorFlow is loaded before: for about ten seconds from the first page on that takes one of two
processors, and each of these a tenth of a second longer.
Memory is that of the dashboard's own process, before and after a file that is eight times as large.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from benchmarks.process_memory import family
from benchmarks.timing import Goal, Row
from fedviz.signature import Signature, TensorSpec
from fedviz.writer import ClientEntry, WeightDatasetWriter
from tests.browser.chromium import launch_browser
from tests.browser.driver import open_address, wait_for_app
from tests.browser.server import Dashboard, running_dashboard

REPEATS = 5
SIDES = {"64 × 32": (64, 32), "1,024 × 1,024": (1024, 1024), "4,096 × 4,096": (4096, 4096)}
LARGEST = "4,096 × 4,096"
TARGETS = {"64 × 32": 0.3, "1,024 × 1,024": 0.8, "4,096 × 4,096": 1.2}
WINDOWS = [(1000, 1300, left, left + 300) for left in (700, 2000, 3000)]
CLOSER = 400
DRILL_TARGET = 0.6
WORKER, WARM_SECONDS = "worker_binary\n", 120

LET_GO = "addEventListener('mouseup', () => { window.letGo = performance.now() }, true)"
PAINTED = """([rows, columns]) => {
    const plot = document.querySelector('.st-key-wide_grid .js-plotly-plot');
    if (!plot?._fullLayout?.yaxis) return false;
    const {xaxis, yaxis} = plot._fullLayout;
    const layers = [...plot.querySelectorAll('.heatmaplayer')];
    const isThere = layers.length > 0 && layers.every(layer => layer.querySelector('image'))
        && Math.abs(yaxis.range[0] - yaxis.range[1]) === rows
        && Math.abs(xaxis.range[1] - xaxis.range[0]) === columns;
    return isThere && Math.max(1, performance.now() - window.letGo);
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


def painted(page: Page, rows: int, columns: int) -> float:
    """Wait for the heatmaps of so many cells; seconds since the mouse was let go."""
    found = page.wait_for_function(PAINTED, arg=[rows, columns], polling="raf")
    return float(found.json_value()) / 1000


def choose(page: Page, name: str) -> float:
    """Choose a tensor in the breadcrumb; seconds until it is painted."""
    page.locator(".st-key-tensor input").click()
    page.get_by_role("option", name=name, exact=True).click()
    seconds = painted(page, *SIDES[name])
    wait_for_app(page)
    return seconds


def drill(page: Page, window: tuple[int, int, int, int]) -> float:
    """Drag a box on the largest tensor; seconds from letting go to the painted window."""
    top, bottom, left, right = window
    page.mouse.move(*page.evaluate(PLACE, [top, left]))
    page.mouse.down()
    page.mouse.move(*page.evaluate(PLACE, [bottom, right]), steps=3)
    page.mouse.up()
    found = page.wait_for_function(
        PAINTED.replace("=== rows", "< rows").replace("=== columns", "< columns"),
        arg=[CLOSER, CLOSER],
        polling="raf",
    )
    seconds = float(found.json_value()) / 1000
    wait_for_app(page)
    return seconds


def first_and_later(page: Page, addresses: list[str]) -> Iterator[tuple[str, float, float]]:
    """Each tensor of several files read for the first time, then again from the cache: medians."""
    small, *others = SIDES
    first: dict[str, list[float]] = {name: [] for name in SIDES}
    again: dict[str, list[float]] = {name: [] for name in SIDES}
    for address in addresses:
        open_address(page, address)
        wait_for_app(page)
        for name in (*others, small):
            first[name].append(choose(page, name))
        for name in (*others, small):
            again[name].append(choose(page, name))
    for name in SIDES:
        yield name, statistics.median(first[name]), statistics.median(again[name])


def drilled(page: Page) -> float:
    """Median of several windows, none of which was seen before."""
    taken = []
    for window in WINDOWS:
        taken.append(drill(page, window))
        page.get_by_role("button", name="Whole tensor").click()
        painted(page, *SIDES[LARGEST])
        wait_for_app(page)
    return statistics.median(taken)


def timed(case: str, seconds: dict[str, float], target: float) -> Iterator[Row | Goal]:
    """Rows of one case, and what was to be reached in all of them."""
    for when, value in seconds.items():
        yield Row(f"{case}, {when}" if when else case, value)
    figure = ", ".join(f"{value:.2f} s {when}".strip() for when, value in seconds.items())
    yield Goal(f"{case}: below {target} s", figure, max(seconds.values()) < target)


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


def wait_until_warm() -> None:
    """Return when a dashboard that we started has its TFF worker."""
    deadline = time.monotonic() + WARM_SECONDS
    while not any(_text(Path(f"/proc/{pid}/comm")) == WORKER for pid in family(os.getpid())):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {WORKER.strip()} after {WARM_SECONDS} s")
        time.sleep(0.1)


def measure(folder: Path) -> Iterator[Row | Goal]:
    """A dashboard with two files of the same tensors, one with many more clients."""
    data = folder / "data"
    data.mkdir()
    names = [f"few-{i}.h5" for i in range(REPEATS)]
    write(data / names[0], 2)
    for name in names[1:]:
        shutil.copyfile(data / names[0], data / name)
    write(data / "many.h5", 16)
    with running_dashboard(data) as dashboard, sync_playwright() as playwright:
        browser = launch_browser(playwright)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        page.add_init_script(LET_GO)
        addresses = [f"{dashboard.url}/heatmaps?dataset={name}" for name in names]
        open_address(page, addresses[0])
        wait_until_warm()
        for name, first, again in first_and_later(page, addresses):
            times = {"read for the first time": first, "seen before": again}
            yield from timed(f"{name}, six panels", times, TARGETS[name])
        before = resident(dashboard)
        choose(page, LARGEST)
        size = payload(page)
        yield from timed(f"300 × 300 of {LARGEST}", {"": drilled(page)}, DRILL_TARGET)
        largest = max(size, payload(page)) / 1e6
        yield Goal("payload of a panel at most 1.1 MB", f"{largest:.2f} MB", largest <= 1.1)
        open_address(page, f"{dashboard.url}/heatmaps?dataset=many.h5")
        choose(page, LARGEST)
        grown = resident(dashboard) - before
        yield Row(
            "memory that a file of 8 times the size adds, MB",
            grown,
            f"in place of seconds; {(data / 'many.h5').stat().st_size / 1e6:,.0f} MB of file",
        )
        browser.close()
