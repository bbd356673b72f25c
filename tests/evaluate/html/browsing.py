"""Opens a page from disk in headless Chromium and records its errors and requests."""

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Start Chromium, from PCSR_CHROMIUM or the path, or skip the test without it."""
    program = os.environ.get("PCSR_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium: install it (Debian: apt-get install chromium) or set PCSR_CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class OpenPage:
    """An open page with its console errors and requests."""

    page: "Page"
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, file: Path) -> None:
        """Load or reload a page."""
        self.page.goto(file.as_uri())
        self.page.locator("article .stage").first.scroll_into_view_if_needed()
        self.page.wait_for_selector('article[data-image="0"] .stage[data-ready]')

    def values(self, which: str) -> dict[str, str]:
        """Return the exact figures of a panel (``0`` for the first image, or ``mean``) by name."""
        return self._figures(which, "element.value")

    def texts(self, which: str) -> dict[str, str]:
        """Return the printed figures of a panel."""
        return self._figures(which, "element.textContent")

    def _figures(self, which: str, what: str) -> dict[str, str]:
        found: list[tuple[str, str]] = self.page.eval_on_selector_all(
            f'[data-figures="{which}"] data',
            f"elements => elements.map((element) => [element.dataset.figure, {what}])",
        )
        return dict(found)

    def centre(self, selector: str) -> tuple[float, float]:
        """Scroll to the first element of a selector and return its centre in the window."""
        self.page.locator(selector).first.scroll_into_view_if_needed()
        box = self.page.locator(selector).first.bounding_box()
        assert box is not None, selector
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at one point, move it, and release it at another."""
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        self.page.mouse.move(*end, steps=4)
        self.page.mouse.up()

    def style(self, selector: str, name: str) -> str:
        """Return a computed style."""
        return str(
            self.page.eval_on_selector(selector, f"element => getComputedStyle(element).getPropertyValue('{name}')")
        )

    def pixels(self, side: str) -> bytes:
        """Return the RGBA bytes of a layer of the first image."""
        found = self.page.eval_on_selector(
            f'article[data-image="0"] .side.{side} canvas',
            """canvas => {
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                return btoa(Array.from(data, (level) => String.fromCharCode(level)).join(""));
            }""",
        )
        return base64.b64decode(found)


@contextmanager
def opened(
    browser: "Browser", file: Path, width: int = 1280, height: int = 900, scheme: Literal["light", "dark"] = "light"
) -> Iterator[OpenPage]:
    """Open a page in a new window without transitions and wait for its first image."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    opened = OpenPage(context.new_page())
    opened.page.on("console", lambda message: opened.errors.append(message.text) if message.type == "error" else None)
    opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.page.on("request", lambda request: opened.requests.append(request.url))
    opened.open(file)
    yield opened
    context.close()
