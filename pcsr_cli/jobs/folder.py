"""Upscale many images into one output folder: skip finished images, resume, and share the folder with other runs."""

import errno
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

import pcsr_cli
from pcsr_cli.engine.rules import default_routing
from pcsr_cli.errors import InputError, OutputError, PcsrError, RefusedOutputError, is_out_of_memory
from pcsr_cli.images.files import cannot_write, exists, fingerprint, remove_leftovers, share
from pcsr_cli.images.objects import ObjectPath, etag_of, look_up
from pcsr_cli.images.paths import refused_outputs
from pcsr_cli.images.source import CLEAN, SourceKind
from pcsr_cli.jobs.choice import ModelChoice
from pcsr_cli.jobs.claims import BUSY, CLAIMS, MAX_STARTS, NO_LIMIT, Claims, describe_run
from pcsr_cli.jobs.find import CHUNK, Shard, Task, clash, refused_names
from pcsr_cli.jobs.journal import (
    HIDDEN,
    Entry,
    Failure,
    Journal,
    Segment,
    has_content,
    is_unchanged,
    routing_settings,
    same_settings,
    settled,
)
from pcsr_cli.jobs.pipeline import overlapped
from pcsr_cli.jobs.report import Report
from pcsr_cli.jobs.request import Job, Request, format_of, is_skipped, suffix_of
from pcsr_cli.jobs.upscale_file import JobInput, Upscaler
from pcsr_cli.model.registry import LoadedModel

Existing = Literal["refuse", "skip", "overwrite"]
"""The treatment of an existing result that differs from the result that this run would make."""

SkipReason = Literal["done before", "exists", "already that large"]
"""The reason why an image is skipped."""

Decision = SkipReason | RefusedOutputError | None
"""Why an image is skipped or refused, or None if it is to be upscaled."""

Outcome = Report | Exception | SkipReason
"""What became of an image."""

Execute = Callable[[Iterator[Job], int], Generator[tuple[Job, Report | Exception], None, None]]
"""Runs the jobs of an iterator, and takes at most a given number of jobs in advance. Yields each job with its result.
With 0 in advance, a job is finished and yielded before the next is taken."""

LATER_SETTINGS = ("background", "strength", "wrap")
"""Settings that journals of earlier versions lack: they are recorded unless they have the default value."""

WAIT_SECONDS = 0.5
"""The time between two attempts to take the images that other runs work on."""


def prepare_folders(folder: Path, outputs: Sequence[Path]) -> dict[Path, PcsrError]:
    """Create the folders of the relative ``outputs`` and remove temporary files of killed runs.

    Returns the outputs that cannot be written, with their errors. Outputs in an object store are not checked."""
    if isinstance(folder, ObjectPath):
        remove_leftovers(Path(tempfile.gettempdir()))
        return {}
    for place in sorted({(folder / output).parent for output in outputs}):
        for new in reversed([each for each in (place, *place.parents) if not exists(each)]):
            with suppress(OSError):  # such as a name that is too long; the folder is refused below
                new.mkdir()
                share(new)
    found = refused_outputs([folder / output for output in outputs])
    return {output: found[folder / output] for output in outputs if folder / output in found}


class FolderRun:
    """One run that writes to an output folder, which other runs may share. Use it as a context manager.

    ``total`` counts the images of this run that are listed so far, ``reported`` the images that are done, failed or
    skipped. ``all_listed`` states whether all images are listed."""

    def __init__(
        self,
        folder: Path,
        tasks: Iterable[Task],
        models: LoadedModel | ModelChoice,
        request: Request,
        existing: Existing = "refuse",
        shard: Shard | None = None,
        *,
        has_workers: bool = False,
        report: Callable[[Task, Outcome], None],
        progress: Callable[[Job, float], None] | None = None,
        checking: Callable[[float], None] = lambda share: None,
    ) -> None:
        """Load the models for the first images, and find which of these images have no result yet.

        ``report`` is called with each image and its report, its error, or the reason why it is skipped. ``progress`` is
        called with the computed share of an image, ``checking`` with the checked share of the first images. With
        ``has_workers``, other processes compute. Images during which this process was killed are then not set aside,
        because no image caused the kill.

        Raises RefusedOutputError if a name or an existing result among the first images is refused, UsageError,
        OutputError, and the errors of listing and loading."""
        self.folder = folder
        self.total = self.reported = 0
        self.all_listed = False
        self.journal = Journal(folder)
        self.info = describe_run("" if shard is None else str(shard))
        self.segment = Segment(folder, self.info)
        self.claims = Claims(folder, self.info, NO_LIMIT if has_workers else MAX_STARTS)
        models = models if isinstance(models, ModelChoice) else ModelChoice.single(models)
        self._existing, self._report, self._shard = existing, report, shard
        self._has_workers = has_workers
        self._tasks = iter(tasks)
        self._alone: list[Task] = []
        self._busy: list[Task] = []
        self._pending: dict[Job, tuple[Task, int]] = {}
        self._started = 0
        self._failed = False
        self.upscaler = Upscaler(
            models,
            request,
            progress=progress,
            record=Recorder(folder, self.segment, self.info.id, request, models.kind),
        )
        models.kept = self.journal.models(scale_key(request))
        listed = self._list()
        near = [task.source for task in listed if not isinstance(task.source, ObjectPath)]
        models.prepare(near or [task.source for task in listed[:1]])
        self._first = self._check_first(listed, checking)

    def __enter__(self) -> Self:
        """Claim the place of a run in the folder. Raises OutputError if the folder cannot be written."""
        self.claims.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.claims.__exit__(*error)

    def position(self, job: Job) -> int:
        """Return the number of a running job among all images, from 1."""
        return self._pending[job][1]

    def is_done(self, job: Job) -> bool:
        """Return whether the result of a running job is in the journal. Raises OutputError."""
        return isinstance(self._decide_again(self._pending[job][0]), str)

    def run(self, jobs: int = 1, fail_fast: bool = False, execute: Execute | None = None) -> None:
        """Upscale the images. ``execute`` runs jobs, up to ``jobs`` in advance; the default is ``overlapped``.

        Images whose results cannot be written fail before any work. After a failure the run continues, unless
        ``fail_fast`` is set or the disk is full, which raises OutputError. An image that runs out of memory, or during
        which an earlier run was killed, is tried at the end, alone. So is an image of another run that ends without
        its result. The traceback of an error is dropped, because it keeps the image in memory."""
        execute = execute or (lambda coming, ahead: overlapped(coming, self.upscaler, ahead))
        tasks: Iterable[Task] = self._todo()
        alone = False
        while True:
            with closing(execute(self._claimed(tasks, alone, fail_fast), 0 if alone else jobs)) as line:
                for job, result in line:
                    self._finish(job, result, repeat=jobs > 0 and not (alone or fail_fast))
                    if self._failed and fail_fast:
                        return
            tasks, self._alone, self._busy = [*self._alone, *self._busy], [], []
            if not tasks or (self._failed and fail_fast):
                return
            if alone:  # other runs work on all of these
                time.sleep(WAIT_SECONDS)
            alone = True

    def _list(self) -> list[Task]:
        listed = list(islice(self._tasks, CHUNK))
        self.all_listed = len(listed) < CHUNK
        return list(dict.fromkeys(listed))  # a list may name an image twice

    def _own(self, listed: Sequence[Task]) -> list[Task]:
        own = [task for task in listed if self._shard is None or self._shard.holds(task)]
        self.total += len(own)
        return own

    def _check_first(self, listed: Sequence[Task], checking: Callable[[float], None]) -> list[Task]:
        """Skip finished images and return the others. Raises RefusedOutputError if any image is refused."""
        for error in refused_names(listed, self.folder).values():
            raise error
        own = self._own(listed)
        todo, refused = [], []
        outputs = self._outputs(listed if self._existing == "refuse" else own)
        for number, task in enumerate(own):
            checking(number / len(own))
            decision = self._decide(task, outputs[task])
            if isinstance(decision, RefusedOutputError):
                refused.append(decision)
            elif self._is_todo(task, decision):
                todo.append(task)
        if self._existing == "refuse":
            others = set(listed) - set(own)
            refused += [
                other for task in listed if task in others and (other := self._other_options(task, outputs[task]))
            ]
        if refused:
            more = f"; {len(refused) - 1} more result{'s exist' if len(refused) > 2 else ' exists'} too"
            sentence = refused[0].sentence.removesuffix(".") + (more if len(refused) > 1 else "")
            raise RefusedOutputError(f"{sentence}.", refused[0].next_step, setting="existing")
        return todo

    def _todo(self) -> Iterator[Task]:
        """Yield the images to upscale, and report the images that are skipped or cannot be written."""
        todo = self._first
        while True:
            refused = prepare_folders(self.folder, [task.output for task in todo])
            for task in todo:
                if (failure := refused.get(task.output)) is not None:
                    self._fail(task, failure)
                else:
                    yield task
            if self.all_listed:
                return
            listed = self._list()
            names = refused_names(listed, self.folder)
            waiting, self._busy = self._busy, []
            if waiting:
                self.journal.refresh()
            tasks = (*waiting, *self._own(listed))
            outputs = self._outputs(tasks)
            todo = [task for task in tasks if self._is_todo(task, names.get(task) or self._decide(task, outputs[task]))]

    def _claimed(self, tasks: Iterable[Task], alone: bool, fail_fast: bool) -> Iterator[Job]:
        """Yield the jobs of images that no other run works on, and keep the others for later.

        An image during which a run was killed is also kept for later, unless ``alone`` is set or there are workers."""
        for task in tasks:
            if self._failed and fail_fast:
                return
            most_kills = self.claims.max_starts - 1 if alone or self._has_workers else 0
            kills = self.claims.take(task.output, task.source, most_kills)
            if kills == BUSY:
                self._busy.append(task)
            elif kills == MAX_STARTS:
                self._fail(task, self._given_up(task.source))
            elif kills is not None:
                self._alone.append(task)
            elif self._is_todo(task, self._decide_again(task)):
                self._started += 1
                job = Job(task.source, self.folder / task.output, self._existing == "overwrite", task.path)
                self._pending[job] = task, self._started
                yield job
            else:
                self.claims.release(task.output)

    def _finish(self, job: Job, result: Report | Exception, repeat: bool) -> None:
        task, _ = self._pending.pop(job)
        self.claims.release(task.output)
        if isinstance(result, Report):
            self._end(task, replace(result, notes=(*result.notes, *self._note_of_suffix(task))))
            return
        if is_out_of_memory(result) and repeat and len(self._alone) < CHUNK:
            self._alone.append(task)
        elif isinstance(result, RefusedOutputError) and isinstance(done := self._decide_again(task), str):
            self._is_todo(task, done)
        else:
            self._fail(task, result)
        if disk_is_full(result):
            raise OutputError(
                f"The disk is full; the run stopped at {self.folder / task.output}.",
                "Free some space and run the command again.",
            ) from result
        result.__traceback__ = result.__cause__ = result.__context__ = None

    def _is_todo(self, task: Task, decision: Decision) -> bool:
        """Report an image that is skipped or refused. Returns whether it is to be upscaled."""
        if isinstance(decision, RefusedOutputError):
            self._fail(task, decision)
        elif decision is not None:
            self._started += 1
            self._end(task, decision)
        return decision is None

    def _end(self, task: Task, outcome: Outcome) -> None:
        self.reported += 1
        self._report(task, outcome)

    def _fail(self, task: Task, error: Exception) -> None:
        self._failed = True
        sentence = error.sentence if isinstance(error, PcsrError) else f"{type(error).__name__}: {error}"
        with suppress(OutputError):
            self.segment.append(
                Failure(task.output.as_posix(), str(task.source), task.path.as_posix(), sentence, time.time())
            )
        self._end(task, error)

    def _outputs(self, tasks: Sequence[Task]) -> dict[Task, Path]:
        """Return the paths of results, and look up the states of objects."""
        look_up(task.source for task in tasks)
        return dict(zip(tasks, look_up(self.folder / task.output for task in tasks), strict=True))

    def _decide(self, task: Task, output: Path) -> Decision:
        """Decide about an image by the journal. Before an image is refused, new lines of the journal are read."""
        decision = self._decide_by_read_lines(task, output)
        return self._decide_again(task) if isinstance(decision, RefusedOutputError) else decision

    def _decide_again(self, task: Task) -> Decision:
        """Decide again about an image, because another run may have made its result."""
        output = self.folder / task.output
        if not exists(output):
            return None
        self.journal.refresh()
        return self._decide_by_read_lines(task, output)

    def _decide_by_read_lines(self, task: Task, output: Path) -> Decision:
        """Return None for an image to upscale, or why it is skipped or refused.

        A task is done if the journal lists its result with the same source content, settings and checksum."""
        if is_skipped(task.source, self.upscaler.request):
            return "already that large"
        if not exists(task.source) or not exists(output):  # reading reports a missing source
            return None
        entries = self.journal.find(task.output)
        difference = self._difference(task, output, entries)
        if difference is None:
            self.claims.forget(task.output, task.source)
            return "done before"
        if self._existing == "skip":
            return "exists"
        made = entries[0].info if entries else {}
        if made.get("run") == self.info.id and made.get("source") != str(task.source):
            return clash(str(made.get("source")), task)
        return None if self._existing == "overwrite" else _exists(output, difference)

    def _difference(self, task: Task, output: Path, entries: Sequence[Entry]) -> str | None:
        """Describe how an existing result differs from the one this run would make; None if the two are equal."""
        differences = [self._difference_of(task, output, entry) for entry in entries]
        if None in differences:
            return None
        return differences[0] if differences else "is not in the folder's journal"

    def _difference_of(self, task: Task, output: Path, entry: Entry) -> str | None:
        possible = self._possible_settings(task, entry)
        if not any(same_settings(entry, settings) for settings in possible):
            same_model = replace(entry, settings={**entry.settings, "model": possible[0].get("model")})
            only_model = same_settings(same_model, possible[0])
            return f"was made with {'another model or other weights' if only_model else 'other options'}"
        if not has_content(task.source, entry.source):
            return "was made from another image"
        return None if has_content(output, entry.result) else "was changed since"

    def _other_options(self, task: Task, output: Path) -> RefusedOutputError | None:
        """Return the error for a result of another shard that was made with other options."""
        entries = self.journal.find(task.output)
        if not entries or not exists(output) or not exists(task.source):
            return None
        same = any(same_settings(entry, each) for entry in entries for each in self._possible_settings(task, entry))
        return None if same else _exists(output, "was made with other options, by another shard")

    def _possible_settings(self, task: Task, entry: Entry) -> list[Mapping[str, Any]]:
        """Return the settings of a task (``Entry.settings``), one for each model that it may get.

        An image that is unchanged since ``entry`` is not read."""
        models = self.upscaler.models
        if is_unchanged(task.source, entry.source):
            lossy = entry.info.get("source_kind", str(CLEAN)) != str(CLEAN)
            possible: Sequence[LoadedModel] = [models.get(models.kind or SourceKind(lossy))]
        else:
            possible = models.possible(task.source)
        return [settings_key(self.upscaler.request, models.kind, task.output, model) for model in possible]

    def _note_of_suffix(self, task: Task) -> tuple[str, ...]:
        """Return a note if the result has another format than the image, although no format was requested."""
        request, before, after = self.upscaler.request, task.source.suffix, task.output.suffix
        if request.format is not None or before == after or after != suffix_of(task.source, None, request.frames):
            return ()
        return (f"{before} images became {after}; the format option chooses another format",)

    def _given_up(self, source: Path) -> InputError:
        return InputError(
            f"{source} is not tried again: {MAX_STARTS} runs were killed while they worked on it.",
            f"The image may need too much memory. Remove {self.folder / HIDDEN / CLAIMS} to try it again.",
        )


def _exists(output: Path, difference: str) -> RefusedOutputError:
    return RefusedOutputError(
        f"{output} already exists and {difference}.",
        "Choose another folder, or keep or replace the existing results.",
        setting="existing",
    )


class Recorder:
    """Adds each finished result to a segment of the journal, for ``Upscaler``.

    ``run`` is the id of the run, and ``kind`` the requested kind of all sources."""

    def __init__(self, folder: Path, segment: Segment, run: str, request: Request, kind: SourceKind | None) -> None:
        self._folder, self._segment, self._run = folder, segment, run
        self._request, self._kind = request, kind
        self._last = time.perf_counter()

    def __call__(self, job: Job, read: JobInput, file: Path) -> None:
        """Add a temporary file before it is synced and moved into place. Raises OutputError."""
        assert isinstance(job.output, Path) and read.content is not None
        now, before = time.perf_counter(), self._last
        self._last = now
        info = {
            "source": str(job.source),
            "path": job.path.as_posix(),
            "pcsr": pcsr_cli.__version__,
            "run": self._run,
            "at": time.time(),
            "seconds": round(now - max(read.began, before), 3),  # images overlap
        }
        if read.kind is not None:
            info["source_kind"] = str(read.kind)
        try:
            result = fingerprint(file)
            if isinstance(job.output, ObjectPath):
                result = replace(result, modified=etag_of(file))
        except OSError as error:
            raise cannot_write(job.output, error) from error
        settings = settings_key(self._request, self._kind, job.output, read.model)
        name = job.output.relative_to(self._folder).as_posix()
        self._segment.append(Entry(name, settled(read.content), settings, result, info))


def settings_key(request: Request, kind: SourceKind | None, output: Path, model: LoadedModel) -> Mapping[str, Any]:
    """Return the settings that determine a result, for the journal. ``kind`` is the requested kind of all sources."""
    identity = model.identity
    routing = request.allowance or request.routing or default_routing(model.network.spec.branches)
    source = {} if kind is None else {"source": str(kind)}
    return {
        "scale": scale_key(request),
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


def scale_key(request: Request) -> float | str:
    """Return the scale or the target of a request as in ``settings_key``."""
    return request.scale if request.target is None else f"{request.label}, {request.if_larger}"


def disk_is_full(error: BaseException | None) -> bool:
    """Return whether an error was caused by a full disk, which would make all later images fail."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}:
            return True
        error = error.__cause__
    return False
