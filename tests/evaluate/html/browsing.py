"""A page in the system's Chromium, without a window: opened from disk, watched for errors and requests."""

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
    """The browser; skips the test where there is none. PCSR_CHROMIUM names another than the one on the path."""
    program = os.environ.get("PCSR_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium: install it (Debian: apt-get install chromium), or name it in PCSR_CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Seen:
    """An open page, and what it said and asked for."""

    page: "Page"
    said: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, file: Path) -> None:
        """Open a page, afresh if it was open."""
        self.page.goto(file.as_uri())
        self.page.locator("article .stage").first.scroll_into_view_if_needed()
        self.page.wait_for_selector('article[data-picture="0"] .stage[data-ready]')

    def values(self, which: str) -> dict[str, str]:
        """The exact figures of a panel, ``0`` for the first picture or ``mean``, by their names."""
        return self._figures(which, "element.value")

    def texts(self, which: str) -> dict[str, str]:
        """The same as they are printed."""
        return self._figures(which, "element.textContent")

    def _figures(self, which: str, what: str) -> dict[str, str]:
        found: list[tuple[str, str]] = self.page.eval_on_selector_all(
            f'[data-figures="{which}"] data',
            f"elements => elements.map((element) => [element.dataset.figure, {what}])",
        )
        return dict(found)

    def centre(self, selector: str) -> tuple[float, float]:
        """The middle of what a selector finds first, in the window; it is scrolled to."""
        self.page.locator(selector).first.scroll_into_view_if_needed()
        box = self.page.locator(selector).first.bounding_box()
        assert box is not None, selector
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press at one place, move, and let go at another."""
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        self.page.mouse.move(*end, steps=4)
        self.page.mouse.up()

    def style(self, selector: str, name: str) -> str:
        """A computed style."""
        return str(
            self.page.eval_on_selector(selector, f"element => getComputedStyle(element).getPropertyValue('{name}')")
        )

    def pixels(self, side: str) -> bytes:
        """The pixels of a layer of the first picture: red, green, blue and alpha of each."""
        found = self.page.eval_on_selector(
            f'article[data-picture="0"] .side.{side} canvas',
            """canvas => {
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                return btoa(Array.from(data, (level) => String.fromCharCode(level)).join(""));
            }""",
        )
        return base64.b64decode(found)


@contextmanager
def opened(
    browser: "Browser", file: Path, width: int = 1280, height: int = 900, scheme: Literal["light", "dark"] = "light"
) -> Iterator[Seen]:
    """The page in a window of its own, without transitions, once its first picture is there."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    seen = Seen(context.new_page())
    seen.page.on("console", lambda message: seen.said.append(message.text) if message.type == "error" else None)
    seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    seen.open(file)
    yield seen
    context.close()
