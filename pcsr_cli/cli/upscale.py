"""``pcsr upscale``: enlarge one image, or many into a folder."""

import io
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import typer

from pcsr_cli.cli.console import explain, print_document, print_message, progress_bar
from pcsr_cli.cli.options import check_exclusive, examples, with_options
from pcsr_cli.cli.upscale_options import Options
from pcsr_cli.errors import InputError, RefusedOutputError, UsageError
from pcsr_cli.images.files import exists, is_folder, make_folder, reason
from pcsr_cli.images.objects import ObjectPath, check_whole, look_up, to_path
from pcsr_cli.images.paths import check_outputs, check_source, is_same
from pcsr_cli.jobs.find import (
    CHUNK,
    DEFAULT_TEMPLATE,
    Listing,
    check_template,
    is_pattern,
    name_output,
    parse_shard,
    read_list,
    refused_names,
)
from pcsr_cli.jobs.target import TYPICAL_SCALE

if TYPE_CHECKING:
    from pcsr_cli.cli.upscale_view import Summary
    from pcsr_cli.jobs.find import Task
    from pcsr_cli.jobs.folder import Existing
    from pcsr_cli.jobs.request import Job, Request

EXAMPLES = examples(
    "pcsr upscale in.png  # writes in_x4.png",
    "pcsr upscale folder results --scale 2.5 --skip-existing  # many images",
    "pcsr upscale - - --format png < in.png > out.png  # in a pipe",
)

MAX_BYTES_PER_PIXEL = 8
"""Bytes of a pixel with four channels of 16 bits, not compressed."""

STDIN_BLOCK = 2**24

STREAM = Path("-")
"""The path that means stdin as an input, and stdout as an output."""


@dataclass(frozen=True)
class Batch:
    """Several images that are written to one folder. With a list, ``inputs`` has at most their common folder."""

    inputs: tuple[Path, ...]
    folder: Path

    @property
    def is_one_file(self) -> bool:
        """Whether the work is one named file, which needs no journal."""
        return len(self.inputs) == 1 and not _holds_many(self.inputs[0])


@dataclass(frozen=True)
class Single:
    """One image. ``source`` and ``output`` may be ``STREAM``."""

    source: Path
    output: Path


@with_options
def command(context: typer.Context, given: Options) -> None:
    """Enlarge one image, or many into a folder."""
    started = time.perf_counter()
    given.check()
    if given.name is not None:
        check_template(given.name)
    if given.shard is not None:
        parse_shard(given.shard)
    target = given.choose_target(context.get_parameter_source("scale"))
    if target is not None:
        given = replace(given, scale=TYPICAL_SCALE)
    work = choose_work(given, f"x{given.scale:g}" if target is None else target.label)
    if isinstance(work, Batch) and not work.is_one_file:
        single = {**given.of_one_image, "--preview": given.preview}
        _refuse(single, "is for a single image", "or enlarge one image")
    given.check_engine(given.scale)
    request = given.make_request(target)
    if isinstance(work, Batch) and work.is_one_file:
        _refuse(given.of_folders, "needs a folder or several images", "or give a folder")
        work = _as_single(work, request, given)
    if isinstance(work, Single):
        if given.skip_existing and exists(work.output):
            _report_skipped(work, "exists", given)
            return
        _check_single(work, request, given)
    if isinstance(work, Batch):
        _upscale_many(work, request, given)
    else:
        _upscale_one(work, request, given, started)


def choose_work(given: Options, label: str = "") -> Single | Batch:
    """Return the work that the arguments describe. ``label`` is the scale or the size in the name of a folder.

    Raises UsageError, InputError."""
    paths, output, out_dir = [*(given.input or ()), *(given.paths or ())], given.output, given.out_dir
    check_exclusive({"--output": output is not None, "--out-dir": out_dir is not None})
    if given.from_list is not None:
        return _choose_listed(given, paths, output or out_dir)
    if not paths:
        raise UsageError("There is no image to enlarge.", "Give a file or a folder. See `pcsr upscale --help`.")
    for text in paths:
        if text.lower().startswith(("http://", "https://")):
            raise InputError(f"{text} is a URL.", "Download the image first.")
    last = output if output is not None or len(paths) == 1 or out_dir is not None else paths[-1]
    check_whole(to_path(out_dir or last or paths[0]))
    inputs = tuple(_path(text) for text in (paths if last is output else paths[:-1]))
    if last is None:
        folder = _folder_beside(inputs, label) if out_dir is None else to_path(out_dir)
        if folder is None:
            return Single(STREAM, STREAM)
    elif is_folder(folder := _path(last)) or last.endswith("/") or _holds_many(inputs[0]):
        pass
    elif len(inputs) > 1:
        if output is None:
            raise UsageError(
                "Several images need a folder for their results.", "End with a folder, such as results/, or use -o."
            )
    else:
        of_batches = {
            "--recursive": given.recursive,
            "--name": given.name is not None,
            "--fail-fast": given.fail_fast,
            "--jobs": given.jobs is not None,
            **given.of_folders,
        }
        _refuse(of_batches, "needs a folder or several images", "or give a folder for the results")
        _check_exists(inputs[0])
        return Single(inputs[0], folder)
    if STREAM in (*inputs, folder):
        raise UsageError("- (stdin or stdout) cannot be one of several images.", "Use a file.")
    if len(inputs) == 1 and not _holds_many(inputs[0]):
        _check_exists(inputs[0])
    return Batch(inputs, folder)


def _choose_listed(given: Options, paths: list[str], output: str | None) -> Batch:
    """Return the work of a list. ``paths`` are the common folder of the listed images, if any, and OUT.

    Raises UsageError."""
    if output is None:
        if not paths:
            raise UsageError("A list of images needs a folder for the results.", "Give the folder with -o.")
        output = paths.pop()
    check_whole(to_path(output))
    if len(paths) > 1 or not all(is_folder(_path(path)) for path in paths):
        raise UsageError(
            f"Besides a list, {paths[0]} has to be the folder that has all listed images.", "Give one folder, or none."
        )
    return Batch(tuple(map(_path, paths)), _path(output))


def _folder_beside(inputs: Sequence[Path], label: str) -> Path | None:
    """Return the default folder for results: the folder of an image, or ``folder_x4`` beside a folder.

    Returns None for a stream. Raises UsageError."""
    if len(inputs) > 1 or is_pattern(inputs[0]):
        raise UsageError("Several images need a folder for their results.", "Give the folder with -o.")
    if inputs[0] == STREAM:
        return None
    if not is_folder(inputs[0]):
        return inputs[0].parent
    folder = inputs[0] if inputs[0].name not in {"", ".."} else inputs[0].resolve()
    return folder.parent / f"{folder.name}_{label}"


def _holds_many(path: Path) -> bool:
    return is_folder(path) or is_pattern(path)


def _check_exists(path: Path) -> None:
    if path != STREAM:
        check_source(path)


def _path(text: str) -> Path:
    """Return the path of an argument. ``./-`` is a file called ``-``, not ``STREAM``. Raises UsageError, StoreError."""
    (path,) = look_up([to_path(text)])
    return path.absolute() if path == STREAM and text != str(STREAM) else path


def _refuse(given: Mapping[str, bool], problem: str, other: str) -> None:
    """Raise UsageError for the first option that is given."""
    for flag in (flag for flag, value in given.items() if value):
        raise UsageError(f"{flag} {problem}.", f"Remove this option, {other}.")


def _as_single(work: Batch, request: "Request", given: Options) -> Single:
    """Create the folder for the result of one image, and name the result. Raises the errors of ``_upscale_many``."""
    _check_folder(work)
    (task,) = _name_outputs(Listing(work.inputs, ()), request, given)
    for error in refused_names([task], work.folder).values():
        raise error
    make_folder(work.folder)
    return Single(task.source, work.folder / task.output)


def _check_single(work: Single, request: "Request", given: Options) -> None:
    """Check the image and its output. Raises UsageError, InputError, RefusedOutputError, OutputError."""
    from pcsr_cli.jobs.request import format_of

    if work.output == STREAM:
        if given.json:
            raise UsageError("--json and the image cannot both go to stdout.", "Give the result a file name.")
        if request.format is None:
            raise UsageError("A result on stdout has no suffix.", "Choose the format, such as --format png.")
        if sys.stdout.isatty():
            raise UsageError("Refusing to write image data to a terminal.", "Redirect stdout: > out.png")
    format_of(work.output, request)
    results = [result for result in (work.output, given.map) if result not in {None, STREAM}]
    inputs = [file for file in (work.source, given.force_heavy, given.force_light) if file is not None]
    check_outputs(results, inputs, given.overwrite)
    if work.source != STREAM and not isinstance(work.source, ObjectPath):
        from pcsr_cli.images.read import open_source

        with open_source(work.source):
            pass


def _report_skipped(work: Single, why: str, given: Options) -> None:
    if given.json:
        print_document({"skipped": [{"source": str(work.source), "output": str(work.output), "why": why}]})
    elif not given.quiet:
        kept = why == "exists"
        print_message(f"{work.output} already exists and is kept." if kept else f"The image is {why}: skipped.")


def _upscale_one(work: Single, request: "Request", given: Options, started: float) -> None:
    models = given.choose_models(given.quiet)
    from pcsr_cli.cli.upscale_view import show_line, show_preview, show_report
    from pcsr_cli.jobs.pipeline import overlapped
    from pcsr_cli.jobs.request import Job, is_skipped
    from pcsr_cli.jobs.upscale_file import Upscaler

    output = sys.stdout.buffer if work.output == STREAM else work.output
    source = _read_stdin(request.allow_huge) if work.source == STREAM else work.source
    if is_skipped(source, request):
        _report_skipped(work, "already that large", given)
        return
    if not isinstance(source, ObjectPath) and models.is_certain(source):
        models.prepare([source])
    name = "stdin" if work.source == STREAM else work.source.name
    label = f"x{request.label}" if request.target is None else request.label
    with progress_bar(f"{label} {name}", given.quiet or given.json) as progress:
        upscaler = Upscaler(models, request, progress=lambda job, share: progress(share), stills=False)
        loading = time.perf_counter() - started
        with closing(overlapped([Job(source, output, given.overwrite)], upscaler)) as line:
            ((_, result),) = line
    if isinstance(result, Exception):
        raise result
    report = replace(result, seconds=replace(result.seconds, load=loading + result.seconds.load))
    if given.json:
        print_document(report.as_document())
    elif not given.quiet:
        show_report(report, models.notes) if given.verbose else show_line(report, models.notes)
    if given.preview:
        show_preview(source, output, report.output_size)


def _read_stdin(allow_huge: bool) -> BinaryIO:
    """Return the content of stdin. Raises InputError if stdin is empty, or larger than any image of the permitted
    size."""
    from pcsr_cli.engine.limits import available_memory
    from pcsr_cli.images.read import MAX_PIXELS

    limit = min(MAX_BYTES_PER_PIXEL * MAX_PIXELS, available_memory() // 2)
    file = io.BytesIO()
    while sys.stdin is not None and (block := sys.stdin.buffer.read(STDIN_BLOCK)):
        file.write(block)
        if file.tell() > limit and not allow_huge:
            raise InputError(f"stdin has more than the limit of {limit:,} bytes.", "Use a file.", setting="allow_huge")
    if not file.tell():
        raise InputError("stdin is empty.", "Pipe an image into pcsr.")
    file.seek(0)
    return file


def _upscale_many(work: Batch, request: "Request", given: Options) -> None:
    """Enlarge the images that are not done, and print a summary. Raises SystemExit(1) if an image fails."""
    from pcsr_cli.images.formats import readable_suffixes

    _check_folder(work)
    with _opened_list(given.from_list) as names:
        listing = Listing(work.inputs, readable_suffixes(), given.recursive, work.folder, names)
        tasks = _name_outputs(listing, request, given)
        first = list(islice(tasks, CHUNK))  # a wrong path is found before torch is imported
        summary = _upscale_listed(work.folder, chain(first, tasks), listing, request, given)
    if summary.failures:
        raise SystemExit(1)


def _upscale_listed(
    folder: Path, tasks: "Iterator[Task]", listing: Listing, request: "Request", given: Options
) -> "Summary":
    models = given.choose_models(given.quiet)
    from pcsr_cli.cli.upscale_view import Summary
    from pcsr_cli.jobs.cluster import run_on_cluster
    from pcsr_cli.jobs.folder import FolderRun

    summary = Summary(folder, given.json, given.verbose)

    def update(job: "Job", share: float) -> None:
        number, more = run.position(job), "" if run.all_listed else "+"
        progress((number - 1 + share) / run.total, f"{number:,}/{run.total:,}{more} {Path(str(job.source)).name}")

    def update_all(workers: int) -> None:
        more = "" if run.all_listed else "+"
        counts = f"{run.reported:,}/{run.total:,}{more}, {summary.rate:.1f}/s"
        progress(run.reported / run.total, f"{counts}, workers: {workers}, failed: {summary.failures}")

    existing: Existing = "skip" if given.skip_existing else "overwrite" if given.overwrite else "refuse"
    shard = None if given.shard is None else parse_shard(given.shard)
    with progress_bar("images", given.quiet or given.json) as progress:
        run = FolderRun(
            folder,
            tasks,
            models,
            request,
            existing,
            shard,
            report=summary.add,
            progress=update,
            checking=progress,
            has_workers=given.ray is not None,
        )
        with run:
            try:
                if given.ray is None:
                    run.run(1 if given.jobs is None else given.jobs, given.fail_fast)
                else:
                    cpus = given.cpus_per_worker or 1
                    run_on_cluster(run, given.ray, given.device, cpus, given.fail_fast, update_all)
            finally:
                summary.pending, summary.all_listed = run.total - run.reported, run.all_listed
                summary.ignored = listing.others
                for subfolder, error in listing.unread:
                    summary.add_failure(subfolder, explain(error))
                if given.json:
                    print_document(summary.as_document())
                elif not given.quiet:
                    summary.show(models.notes)
                    if not run.total and not summary.failures:
                        print_message(
                            f"Note: {'the list is empty' if shard is None else f'shard {shard} has no image'}."
                        )
    return summary


@contextmanager
def _opened_list(name: str | None) -> "Iterator[Iterator[Path] | None]":
    """Open a list of images, and yield its paths, or None without a list. Raises InputError."""
    if name is None:
        yield None
        return
    is_stdin = name == str(STREAM)
    try:
        file = open(sys.stdin.fileno() if is_stdin else name, "rb", closefd=not is_stdin)  # noqa: SIM115
    except OSError as error:
        raise InputError(f"Cannot read the list {name}: {reason(error)}.", "Check the path.") from error
    with file:
        yield read_list(file)


def _check_folder(work: Batch) -> None:
    """Raise RefusedOutputError if the folder for the results is a file, looks like one, or is an input."""
    from pcsr_cli.images.formats import readable_suffixes

    looks_like_a_file = work.folder.suffix.lower() in readable_suffixes()
    if not is_folder(work.folder) and (exists(work.folder) or looks_like_a_file):
        raise RefusedOutputError(
            f"{work.folder} is not a folder. Several images need a folder.", "Choose another name."
        )
    inputs = [path for path in work.inputs if is_folder(path)]
    for pattern in filter(is_pattern, work.inputs):
        inputs += {task.source.parent for task in Listing([pattern], ())}
    if is_folder(work.folder) and any(is_same(path, work.folder) for path in inputs):
        raise RefusedOutputError(
            f"{work.folder} is an input: results in it would be enlarged again by the next run.",
            "Use another folder, such as one within it.",
        )


def _name_outputs(tasks: "Iterable[Task]", request: "Request", given: Options) -> "Iterator[Task]":
    """Name the result of every image and check that its format supports the options. Raises UsageError."""
    from pcsr_cli.jobs.request import format_of, suffix_of

    def suffix(path: Path) -> str:
        return suffix_of(path, request.format, request.frames)

    template = given.name or DEFAULT_TEMPLATE
    if request.target is not None and template == DEFAULT_TEMPLATE:
        template = template.replace("x{scale}", "{scale}")
    checked: set[str] = set()
    for number, task in enumerate(tasks):
        named = name_output(task, template, request.label, suffix, given.fan_out)
        if number < CHUNK and named.output.suffix not in checked:  # later images fail alone
            format_of(named.output, request)
            checked.add(named.output.suffix)
        yield named
