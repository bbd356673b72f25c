"""Upscale many images into one output folder: lock it, skip finished images, resume after an interruption."""

import errno
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pcsr_cli
from pcsr_cli.engine.rules import default_routing
from pcsr_cli.errors import InputError, OutputError, PcsrError, RefusedOutputError, is_out_of_memory
from pcsr_cli.images.files import cannot_write, exists, fingerprint, hold_lock, is_folder, reason, share
from pcsr_cli.images.paths import refused_outputs
from pcsr_cli.images.source import SourceKind
from pcsr_cli.jobs.choice import ModelChoice
from pcsr_cli.jobs.find import Task
from pcsr_cli.jobs.journal import MAX_STARTS, Entry, Journal, Started, has_content, routing_settings, same_settings
from pcsr_cli.jobs.pipeline import overlapped
from pcsr_cli.jobs.report import Report
from pcsr_cli.jobs.request import Job, Request, format_of, is_skipped, suffix_of
from pcsr_cli.jobs.upscale_file import JobInput, Upscaler
from pcsr_cli.model.registry import LoadedModel

Existing = Literal["refuse", "skip", "overwrite"]
"""The treatment of an existing result that differs from the one this run would make."""

LATER_SETTINGS = ("background", "strength", "wrap")
"""Settings that journals of earlier versions lack: they are recorded unless they have the default value."""

SkipReason = Literal["done before", "exists", "already that large"]
"""The reason why an image is skipped."""


@dataclass(frozen=True)
class Work:
    """The tasks to do, in order, and the tasks to skip."""

    todo: tuple[Task, ...]
    skipped: tuple[tuple[Task, SkipReason], ...]


def plan_work(
    tasks: Sequence[Task],
    folder: Path,
    journal: Journal,
    settings_keys: Callable[[Task], Sequence[Mapping[str, Any]]],
    existing: Existing,
    progress: Callable[[float], None] = lambda share: None,
) -> Work:
    """Decide which tasks to do.

    ``settings_keys`` returns the settings of a task (``Entry.settings``), one for each model that it may get.

    A task is done if the journal lists its result with the same source content, settings and checksum. An existing
    result of a task that is not done raises RefusedOutputError if ``existing`` is "refuse". ``progress`` is called with
    the share of checked tasks."""
    todo: list[Task] = []
    skipped: list[tuple[Task, SkipReason]] = []
    refused: list[str] = []
    for number, task in enumerate(tasks):
        progress(number / len(tasks))
        output = folder / task.output
        if not exists(task.source) or not exists(output):  # reading reports a missing source
            todo.append(task)
            continue
        difference = _difference(task, output, journal.find(task.output), settings_keys(task))
        if difference is None:
            skipped.append((task, "done before"))
        elif existing == "skip":
            skipped.append((task, "exists"))
        else:
            todo.append(task)
            refused.append(f"{output} already exists and {difference}")
    if refused and existing == "refuse":
        others = len(refused) - 1
        more = f"; {others} more result{'s exist' if others > 1 else ' exists'} too" if others else ""
        raise RefusedOutputError(
            f"{refused[0]}{more}.", "Choose another folder, or what to do with existing results.", setting="existing"
        )
    return Work(tuple(todo), tuple(skipped))


def _difference(task: Task, output: Path, entry: Entry | None, possible: Sequence[Mapping[str, Any]]) -> str | None:
    """Describe how an existing result differs from the one this run would make; None if the two are equal."""
    if entry is None:
        return "is not in the folder's journal"
    if not any(same_settings(entry, settings) for settings in possible):
        same_model = replace(entry, settings={**entry.settings, "model": possible[0].get("model")})
        only_model = same_settings(same_model, possible[0])
        return f"was made with {'another model or other weights' if only_model else 'other options'}"
    if not has_content(task.source, entry.source):
        return "was made from another image"
    return None if has_content(output, entry.result) else "was changed since"


LOCK_NAME = ".pcsr-lock"


@contextmanager
def lock(folder: Path) -> Iterator[tuple[str, ...]]:
    """Create a folder and lock it until the block ends. The lock of a killed process is released.

    Yields notes. Raises OutputError if another run holds the lock or the folder is not writable, RefusedOutputError for
    a file."""
    if exists(folder) and not is_folder(folder):
        raise RefusedOutputError(f"{folder} is not a folder. Several images need a folder.", "Choose another name.")
    path = folder / LOCK_NAME
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write_folder(folder, error) from error
        try:
            locked = stack.enter_context(hold_lock(path))
        except BlockingIOError as error:
            raise OutputError(f"Another pcsr is writing to {folder}.", "Wait, or choose another folder.") from error
        except OSError as error:
            if error.errno == errno.EROFS or not os.path.lexists(path):
                raise _cannot_write_folder(folder, error) from error
            raise OutputError(
                f"The lock {path} cannot be used: {reason(error)}.", "Remove the lock, or choose another folder."
            ) from error
        yield () if locked else (f"the file system of {folder} has no locks: run one pcsr at a time there",)


def _cannot_write_folder(folder: Path, error: OSError) -> OutputError:
    return cannot_write(f"The folder {folder}", error, "Check its permissions, or choose another.")


def prepare_folders(folder: Path, outputs: Sequence[Path]) -> dict[Path, PcsrError]:
    """Create the folders of the relative ``outputs`` and remove temporary files of killed runs.

    Returns the outputs that cannot be written, with their errors."""
    for place in sorted({(folder / output).parent for output in outputs}):
        for new in reversed([each for each in (place, *place.parents) if not exists(each)]):
            with suppress(OSError):  # such as a name that is too long; the folder is refused below
                new.mkdir()
                share(new)
    found = refused_outputs([folder / output for output in outputs])
    return {output: found[folder / output] for output in outputs if folder / output in found}


class FolderRun:
    """One run that writes to an output folder. Lock the folder first with ``lock``."""

    def __init__(
        self,
        folder: Path,
        tasks: Sequence[Task],
        models: LoadedModel | ModelChoice,
        request: Request,
        existing: Existing = "refuse",
        progress: Callable[[Job, float], None] | None = None,
        checking: Callable[[float], None] = lambda share: None,
    ) -> None:
        """Decide which tasks to do. ``checking`` is called with the share of checked tasks. ``run`` calls ``progress``
        with the computed share of an image.

        Raises RefusedOutputError for existing results, UsageError and OutputError."""
        self.folder = folder
        self._replace = existing == "overwrite"
        self.journal = Journal(folder)
        self.started = Started(folder)
        self.upscaler = Upscaler(models, request, progress=progress, record=self._record)
        large = dict.fromkeys(task for task in tasks if is_skipped(task.source, request))
        small = [task for task in tasks if task not in large]
        work = plan_work(small, folder, self.journal, self._settings_keys, existing, checking)
        self.work = Work(work.todo, (*((task, "already that large") for task in large), *work.skipped))

    def run(self, jobs: int = 1, fail_fast: bool = False) -> Generator[tuple[Task, Report | Exception], None, None]:
        """Upscale the images in order. Yield each image with its report or its error. Close the generator after use.

        Images whose results cannot be written fail before any work. After a failure the run continues, unless
        ``fail_fast`` is set or the disk is full, which raises OutputError. An image that runs out of memory, or during
        which an earlier run was killed, is tried at the end, alone. The traceback of an error is dropped before the
        next event, because it keeps the image in memory."""
        refused = prepare_folders(self.folder, [task.output for task in self.work.todo])
        self.journal.check_writable()
        pending: dict[Job, Task] = {}
        alone: dict[Job, Task] = {}
        for task in self.work.todo:
            count = self.started.count(task.output, task.source)
            if error := refused.get(task.output) or self._given_up(task.source, count):
                yield task, error
                if fail_fast:
                    return
            else:
                chosen = alone if count else pending
                chosen[Job(task.source, self.folder / task.output, self._replace)] = task
        try:
            while pending or alone:
                if not pending:
                    pending, alone, jobs = alone, {}, 0
                with closing(overlapped(self._starting(pending), self.upscaler, jobs)) as line:
                    for job, result in line:
                        task = pending[job]
                        self.started.end(task.output)
                        if isinstance(result, Report):
                            yield task, replace(result, notes=(*result.notes, *self._note_of_suffix(task)))
                            continue
                        if is_out_of_memory(result) and jobs > 0 and not fail_fast:
                            alone[job] = task
                        else:
                            yield task, result
                        if fail_fast:
                            return
                        if disk_is_full(result):
                            raise OutputError(
                                f"The disk is full; the run stopped at {self.folder / task.output}.",
                                "Free some space and run the command again.",
                            ) from result
                        result.__traceback__ = result.__cause__ = result.__context__ = None
                pending = {}
        finally:
            self.started.close()

    def _starting(self, tasks: Mapping[Job, Task]) -> Iterator[Job]:
        """Yield jobs, and record each before it is read."""
        for job, task in tasks.items():
            self.started.start(task.output, task.source)
            yield job

    def _note_of_suffix(self, task: Task) -> tuple[str, ...]:
        """Return a note if the format of the result differs from that of the image without a request."""
        request, before, after = self.upscaler.request, task.source.suffix, task.output.suffix
        if request.format is not None or before == after or after != suffix_of(task.source, None, request.frames):
            return ()
        return (f"{before} images became {after}; the format option chooses another format",)

    def _given_up(self, source: Path, count: int) -> InputError | None:
        """Return the error of an image during which ``count`` runs were killed, or None to try the image."""
        if count < MAX_STARTS:
            return None
        return InputError(
            f"{source} is not tried again: {count} runs were killed while they worked on it.",
            f"The image may need too much memory. Remove {self.started.path} to try it again.",
        )

    def _settings_keys(self, task: Task) -> list[Mapping[str, Any]]:
        return [self._settings_key(task.output, model) for model in self.upscaler.models.possible(task.source)]

    def _settings_key(self, output: Path, model: LoadedModel) -> Mapping[str, Any]:
        return settings_key(self.upscaler.request, self.upscaler.models.kind, output, model)

    def _record(self, job: Job, read: JobInput, file: Path) -> None:
        """Add a finished temporary file to the journal before it is synced and moved into place. Raises OutputError."""
        assert isinstance(job.output, Path) and read.content is not None
        name = job.output.relative_to(self.folder).as_posix()
        info = {"source": str(job.source), "pcsr": pcsr_cli.__version__}
        if read.kind is not None:
            info["source_kind"] = str(read.kind)
        try:
            result = fingerprint(file)
        except OSError as error:
            raise cannot_write(job.output, error) from error
        self.journal.append(Entry(name, read.content, self._settings_key(job.output, read.model), result, info))


def settings_key(request: Request, kind: SourceKind | None, output: Path, model: LoadedModel) -> Mapping[str, Any]:
    """Return the settings that determine a result, for the journal. ``kind`` is the requested kind of all sources."""
    identity = model.identity
    routing = request.allowance or request.routing or default_routing(model.network.spec.branches)
    source = {} if kind is None else {"source": str(kind)}
    return {
        "scale": request.scale if request.target is None else f"{request.label}, {request.if_larger}",
        "routing": routing_settings(routing),
        "refine": request.refine,
        "precision": model.network.precision,
        "format": format_of(output, request).name,
        "frames": request.frames,
        **asdict(request.save),
        **{name: value for name in LATER_SETTINGS if (value := getattr(request, name)) != getattr(Request, name)},
        "model": {"name": identity.name, "revision": identity.revision, "sha256": identity.sha256},
        **source,
    }


def disk_is_full(error: BaseException | None) -> bool:
    """Return whether an error was caused by a full disk, which would make all later images fail."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}:
            return True
        error = error.__cause__
    return False
