"""Headless Chromium, where there is one."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qcompiler.report.html.render import render
from tests.qcompiler.report.html.pages import page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

DRAWN = "document.documentElement.dataset.charts"
PATIENCE_S = 30
"""Plotly is 4.8 MB to unpack and compile, on a machine that may be busy."""


@dataclass
class Opened:
    """A page in the browser, and what it said and asked for."""

    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def evaluate(self, script: str) -> Any:
        return self.page.evaluate(script)

    def wait_until(self, condition: str) -> None:
        """Ask until it holds; a page may not evaluate text itself, as its policy forbids that."""
        end = time.monotonic() + PATIENCE_S
        while not self.evaluate(condition):
            assert time.monotonic() < end, f"{condition} does not hold; the page said {self.messages}"
            self.page.wait_for_timeout(50)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed: on Debian, apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("html") / "report.html"
    path.write_text(render(page(30)), encoding="utf-8")
    return path


def opened(chromium: Browser, path: Path, **settings: Any) -> Opened:
    """Open a file and wait until its charts are drawn."""
    found = Opened(chromium.new_context(**settings).new_page())
    found.page.on("console", lambda message: found.messages.append(f"{message.type}: {message.text}"))
    found.page.on("pageerror", lambda error: found.messages.append(f"error: {error}"))
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.goto(path.as_uri())
    found.wait_until(DRAWN)
    return found


@pytest.fixture(scope="session")
def desktop(chromium: Browser, report: Path) -> Iterator[Opened]:
    found = opened(chromium, report, viewport={"width": 1280, "height": 900}, color_scheme="light")
    yield found
    found.page.context.close()


@pytest.fixture(scope="session")
def phone(chromium: Browser, report: Path) -> Iterator[Opened]:
    found = opened(
        chromium, report, viewport={"width": 390, "height": 844}, has_touch=True, color_scheme="dark"
    )
    yield found
    found.page.context.close()
