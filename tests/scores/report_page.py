"""The report's page in a Chromium without a screen and without a network."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Give a browser, or skip the test."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (it is in the extra dev)"
    )
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def opened(browser: "Browser", report: Path) -> Iterator["Page"]:
    """Open a report's page; afterwards nothing may have been complained of or asked for."""
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.extend([] if request.url.startswith(("file:", "data:")) else [request.url]))
    page.goto((report / "report.html").as_uri())
    yield page
    context.close()
    assert said == []


def count(page: "Page", selector: str) -> int:
    return page.locator(selector).count()


def drawn(page: "Page") -> Any:
    """Return how many charts are visible, and how many of these have a line or a dot with an extent."""
    return page.evaluate(
        """() => { const shown = [...document.querySelectorAll("figure[data-chart]")].filter((f) => f.offsetParent);
        const marks = (f) => [...f.querySelectorAll("svg .line, svg .dot")].some((m) => m.getBBox().width > 0);
        return [shown.length, shown.filter(marks).length]; }"""
    )
