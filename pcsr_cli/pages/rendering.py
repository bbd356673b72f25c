"""From what a page holds to one HTML file that asks for nothing: style, script and data lie within it.

A Content-Security-Policy names style and script by their hashes and forbids every request.
"""

import base64
import hashlib
import math
from functools import cache
from importlib.resources import files
from pathlib import Path

import jinja2

from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.files import put_in_place, written_whole
from pcsr_cli.measuring.sweep import KNEE_RULE, Grid
from pcsr_cli.pages.page import Page, readable
from pcsr_cli.pages.previews import MOST_BOUNDARIES

SUFFIXES = {".html", ".htm"}
SCRIPTS = ("figures.js", "table.js", "curve.js", "pan.js", "stage.js", "page.js")
KEYS = ("heavy_share", "psnr", "ssim", "paper", "executed", "saved", "saved_executed")
"""The columns of the table of pictures that follow the cut."""


def check_page(output: Path, grid: Grid) -> None:
    """Raise, before any work, RefusedOutputError for a page by another name, UsageError for one of too many cuts."""
    if output.suffix.lower() not in SUFFIXES:
        raise RefusedOutputError(f"A report is not written as {output.name!r}.", "Give it a name that ends in .html.")
    if len(grid.values) > MOST_BOUNDARIES:
        raise UsageError(
            f"A report holds at most {MOST_BOUNDARIES} cuts, not {len(grid.values)}.", "Give a coarser grid."
        )


def write_page(output: Path, page: Page, replace: bool) -> None:
    """Write the page, whole or not at all. Raises OutputError, and RefusedOutputError without
    ``replace`` where something is there."""
    with written_whole(output) as temporary:
        temporary.write_text(render(page), encoding="utf-8", errors="replace")
        put_in_place(temporary, output, replace)


def render(page: Page) -> str:
    """The page as HTML."""
    style = _asset("page.css")
    script = "\n".join(_asset(name) for name in SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    template = _environment().get_template("page.html")
    return template.render(
        title=_title(page),
        made=page.made,
        shave=math.ceil(page.made.scale),
        pictures=page.pictures,
        left_out=page.left_out,
        rows=page.rows,
        mean=page.mean,
        keys=KEYS,
        knee_rule=KNEE_RULE,
        infinity=math.inf,
        document=page.as_document(),
        policy=policy,
        style=style,
        script=script,
    )


def _title(page: Page) -> str:
    count = len(page.pictures)
    what = readable(page.pictures[0].name) if count == 1 else f"{count} pictures"
    return f"{page.made.model.name} ×{page.made.scale:g}: {what}"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pcsr_cli.pages", "assets"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["readable"] = readable
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False}
    return environment


@cache
def _asset(name: str) -> str:
    return (files("pcsr_cli.pages") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A source expression for an inline block."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
