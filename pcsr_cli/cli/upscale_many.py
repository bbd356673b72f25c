"""Many pictures into a folder: what becomes of each is said as it happens, and counted at the end."""

import os
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from pcsr_cli.cli.console import explain, print_document, print_message, progress_bar, stderr_console
from pcsr_cli.cli.tally import Tally
from pcsr_cli.cli.upscale_options import Batch
from pcsr_cli.cli.upscale_progress import ManyProgress
from pcsr_cli.errors import RefusedOutputError
from pcsr_cli.images.files import exists, is_folder

if TYPE_CHECKING:
    from pcsr_cli.jobs.find import Task
    from pcsr_cli.jobs.folder import Existing, FolderRun
    from pcsr_cli.jobs.request import Request
    from pcsr_cli.model.registry import LoadedModel


def run(
    work: Batch, request: "Request", load: "Callable[[], LoadedModel]", overwrite: bool, json: bool, quiet: bool
) -> None:
    """Enlarge what there is and was not done before, and tell; SystemExit(1) where a picture failed.

    Raises, before any work, InputError, RefusedOutputError, OutputError, UsageError; on the way OutputError where the
    disk is full."""
    from pcsr_cli.images.formats import readable_suffixes
    from pcsr_cli.jobs.find import find_images
    from pcsr_cli.jobs.folder import FolderRun, lock

    _check_folder(work)
    found = find_images(work.inputs, readable_suffixes(), work.recursive, work.folder)
    tasks = _plan(found.tasks, work, request)
    model = load()
    tally = Tally(others=found.others)
    for folder, error in found.unread:
        tally.fail(folder, None, error)
    with lock(work.folder):
        existing: Existing = "skip" if work.skip_existing else "overwrite" if overwrite else "refuse"
        progress = ManyProgress(quiet or json)
        with progress_bar("looking at what is there", quiet or json) as looking:
            pictures = FolderRun(work.folder, tasks, model, request, existing, progress.share_of_picture, looking)
        for task, why in pictures.work.skipped:
            tally.skip(task.source, work.folder / task.output, why)
        tally.waiting = len(pictures.work.todo)
        try:
            with progress.shown(pictures.work.todo):
                _go(pictures, work, progress, tally)
        finally:
            _tell(tally, model.notes, json, quiet)
    if tally.failed:
        raise SystemExit(1)


def _check_folder(work: Batch) -> None:
    """Refuse a folder for the results that is a file, or is named like one, or is read from."""
    from pcsr_cli.images.formats import readable_suffixes
    from pcsr_cli.jobs.find import find_images, is_pattern

    named_like_a_file = work.folder.suffix.lower() in readable_suffixes()
    if not is_folder(work.folder) and (exists(work.folder) or named_like_a_file):
        raise RefusedOutputError(f"{work.folder} is not a folder. Several images need one.", "Choose another name.")
    read = [path for path in work.inputs if is_folder(path)]
    for pattern in filter(is_pattern, work.inputs):
        read += {task.source.parent for task in find_images([pattern], ()).tasks}
    if is_folder(work.folder) and any(path.samefile(work.folder) for path in read):
        raise RefusedOutputError(
            f"{work.folder} is read from and cannot take the results: they would be pictures to enlarge, too.",
            "Give another folder; one within it will do.",
        )


def _plan(tasks: "Sequence[Task]", work: Batch, request: "Request") -> "tuple[Task, ...]":
    """Every picture with its result, of a format that has the options asked for. Raises UsageError and others."""
    from pcsr_cli.jobs.find import name_outputs
    from pcsr_cli.jobs.request import format_of, suffix_of

    def suffix(path: Path) -> str:
        return suffix_of(path, request.format, request.frames)

    named = name_outputs(tasks, work.folder, work.template, request.scale, suffix)
    for output in {task.output.suffix: task.output for task in named}.values():
        format_of(output, request)
    return named


def _go(pictures: "FolderRun", work: Batch, progress: ManyProgress, tally: Tally) -> None:
    from pcsr_cli.jobs.folder import Done

    with closing(pictures.run(work.jobs, work.fail_fast)) as line:
        for event in line:
            progress.picture_done()
            tally.waiting -= 1
            if isinstance(event, Done):
                tally.reports.append(event.report)
                continue
            told = explain(event.error)
            tally.fail(event.task.source, work.folder / event.task.output, told)
            print_message(f"pcsr: left out: {told.sentence}")
            if os.environ.get("PCSR_DEBUG") == "1":
                traceback.print_exception(event.error)


def _tell(tally: Tally, notes: tuple[str, ...], json: bool, quiet: bool) -> None:
    if json:
        print_document(tally.as_document())
    elif not quiet:
        tally.show(stderr_console(), notes)
