"""``pcsr status``: the progress of the runs that write to a folder."""

import math
import os
import sys
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcsr_cli.cli import options
from pcsr_cli.cli.console import facts_table, figures_table, print_document, printable, require_stdout, stdout_console
from pcsr_cli.cli.options import option
from pcsr_cli.images.formats import readable_suffixes
from pcsr_cli.images.objects import to_path
from pcsr_cli.images.paths import check_source
from pcsr_cli.jobs.find import Listing, is_pattern

if TYPE_CHECKING:
    from pcsr_cli.jobs.status import Status

EXAMPLES = options.examples(
    "pcsr status archive folder  # what is done, failed and remaining",
    "pcsr status archive --failed > list.txt  # a list for --from-list of upscale",
)

MAX_ROWS = 20
"""Maximum number of listed reasons of failures, and of listed runs."""

Folder = Annotated[str, typer.Argument(metavar="DST", help="Read the journal of this folder of results.")]
Source = Annotated[
    str | None,
    typer.Argument(metavar="SRC", help="Count the images of this folder that remain.", show_default=False),
]
Failed = Annotated[bool, option("--failed", "Print only the images that failed, one a line.")]


def command(
    folder: Folder,
    source: Source = None,
    recursive: options.Recursive = False,
    failed: Failed = False,
    json: options.Json = False,
) -> None:
    """Show what `pcsr upscale` did in a folder: results, failures, rate and runs, also while it runs."""
    options.check_exclusive({"--failed": failed, "--json": json})
    require_stdout()
    from pcsr_cli.jobs.status import Status

    results, images = to_path(folder), None if source is None else to_path(source)
    status = Status(results)
    if failed:
        _print_failed(status, images)
        return
    remaining = None
    if images is not None:
        if not is_pattern(images):
            check_source(images)
        remaining = status.count_remaining(Listing([images], readable_suffixes(), recursive, results))
    if json:
        print_document(_document(status, remaining))
    else:
        _show(status, remaining)


def _print_failed(status: "Status", source: Path | None) -> None:
    """Print the failed images, one a line, or with a NUL byte after each if a name has a line break."""
    images = [path if source is None else source / below for path, below in status.failures()]
    end = b"\0" if any("\n" in str(image) for image in images) else b"\n"
    for image in images:
        sys.stdout.buffer.write(os.fsencode(str(image)) + end)
    sys.stdout.buffer.flush()


def _document(status: "Status", remaining: int | None) -> dict[str, Any]:
    rate = status.per_second
    return {
        "done": status.done,
        "failed": status.failed,
        "reasons": status.reasons,
        "remaining": remaining,
        "images_per_second": rate,
        "seconds_left": remaining / rate if remaining is not None and rate else None,
        "last_activity": status.last,
        "slowest": [{"result": name, "seconds": seconds} for name, seconds in status.slowest],
        "runs": [asdict(run) for run in status.runs],
    }


def _show(status: "Status", remaining: int | None) -> None:
    rate = status.per_second
    facts = [("done", f"{status.done:,}"), ("failed", f"{status.failed:,}")]
    facts += [("", f"{count:,} x {reason}") for reason, count in status.reasons.most_common(MAX_ROWS)]
    if remaining is not None:
        left = f", about {timedelta(seconds=math.ceil(remaining / rate))} at this rate" if rate and remaining else ""
        facts.append(("remaining", f"{remaining:,}{left}"))
    if rate:
        facts.append(("rate", f"{3600 * rate:,.0f} images an hour"))
    facts.append(("last activity", _time(status.last)))
    facts += [
        ("slowest" if not row else "", f"{seconds:.1f} s  {name}") for row, (name, seconds) in enumerate(status.slowest)
    ]
    console = stdout_console()
    console.print(facts_table(facts))
    table = figures_table("run", "shard", "done", "failed", "last activity", "state")
    for run in status.runs[-MAX_ROWS:]:
        name = f"{run.info.host} {run.info.pid}" if run.info.id else "earlier version"
        state = "running" if run.live else "ended"
        table.add_row(printable(name), run.info.shard, f"{run.done:,}", f"{run.failed:,}", _time(run.last), state)
    console.print(table)
    if (more := len(status.runs) - MAX_ROWS) > 0:
        console.print(f"and {more:,} earlier runs")


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).isoformat(sep=" ", timespec="seconds") if at else "unknown"
