"""Takes a screenshot: ``python -m tests.evaluate.html.screenshot PAGE.html OUT.jpg [WIDTH] [dark]``."""

import sys
from pathlib import Path
from typing import Literal

from tests.evaluate.html.browsing import chromium, opened


def main(page: str, output: str, width: str = "1280", scheme: str = "light") -> None:
    theme: Literal["light", "dark"] = "dark" if scheme == "dark" else "light"
    with chromium() as browser, opened(browser, Path(page).resolve(), int(width), 860, theme) as shown:
        shown.page.evaluate("scrollTo(0, 0)")
        shown.page.screenshot(path=output, type="jpeg", quality=80)


if __name__ == "__main__":
    main(*sys.argv[1:])
