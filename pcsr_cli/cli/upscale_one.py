"""One picture: from a file or stdin to a file or stdout."""

import io
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pcsr_cli.cli.console import print_document, progress_bar, stderr_console
from pcsr_cli.cli.preview import look_out
from pcsr_cli.cli.upscale_options import STREAM, Single
from pcsr_cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from pcsr_cli.jobs.report import Report
    from pcsr_cli.jobs.request import Request
    from pcsr_cli.model.registry import LoadedModel


def run(
    work: Single,
    request: "Request",
    load: "Callable[[], LoadedModel]",
    overwrite: bool,
    json: bool,
    quiet: bool,
    started: float,
    preview: bool = False,
) -> None:
    """Enlarge it and tell. Raises as the steps of ``Enlarging`` do."""
    from pcsr_cli.images.read import open_source
    from pcsr_cli.jobs.frames import steps_for
    from pcsr_cli.jobs.pipeline import overlapped
    from pcsr_cli.jobs.request import Errand, format_of

    output = _output(work, request, json)
    format_of(output, request)
    _check_results(output, work, request, overwrite)
    source = _stdin() if work.source == STREAM else work.source
    with open_source(source):  # else the model would be loaded, or fetched, before a mistyped name is told
        pass
    lookout = look_out() if preview else None
    model = load()
    name = "stdin" if work.source == STREAM else work.source.name
    with progress_bar(f"x{request.scale:g} {name}", quiet or json) as progress:
        watch = None if lookout is None else lookout.watch
        enlarging = steps_for(model, request, lambda errand, share: progress(share), watch=watch, stills=False)
        loading = time.perf_counter() - started
        with closing(overlapped([Errand(source, output, overwrite)], enlarging)) as line:
            (finished,) = line
    if finished.error is not None:
        raise finished.error
    report = enlarging.report(finished, loading)
    _tell(report, json, quiet, told=model.notes)
    if lookout is not None:
        lookout.draw()


def _output(work: Single, request: "Request", json: bool) -> Path | BinaryIO:
    if work.output != STREAM:
        return work.output
    if json:
        raise UsageError("--json and the picture cannot both go to stdout.", "Give the result a file.")
    if request.format is None:
        raise UsageError("A result on stdout has no suffix.", "Say which format: --format png.")
    if sys.stdout.isatty():
        raise UsageError("stdout is a terminal, which no picture is for.", "Redirect it to a file.")
    return sys.stdout.buffer


def _check_results(output: Path | BinaryIO, work: Single, request: "Request", overwrite: bool) -> None:
    """Refuse a result, or a map, in the place of anything that is there. Raises RefusedOutputError, OutputError."""
    from pcsr_cli.images.files import check_outputs

    drawn = None if request.map is None else request.map.output
    results = [result for result in (output, drawn) if isinstance(result, Path)]
    read = [file for file in (work.source, request.force_heavy, request.force_light) if file is not None]
    check_outputs(results, read, overwrite)


def _stdin() -> BinaryIO:
    """All of stdin. Raises InputError where it is closed or empty."""
    content = b"" if sys.stdin is None else sys.stdin.buffer.read()
    if not content:
        raise InputError("There is nothing on stdin.", "Pipe a picture in.")
    return io.BytesIO(content)


def _tell(report: "Report", json: bool, quiet: bool, told: tuple[str, ...]) -> None:
    if json:
        print_document(report.as_document())
    elif not quiet:
        from pcsr_cli.cli.panel import show

        show(report, stderr_console(), told)
