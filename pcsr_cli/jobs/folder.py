"""A folder of results made, or gone on with: what is to be done, and its pictures one after the other."""

import errno
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

import pcsr_cli
from pcsr_cli.errors import OutputError, RefusedOutputError, is_out_of_memory
from pcsr_cli.images.files import exists, fingerprint, is_folder, reason, remove_leftovers
from pcsr_cli.jobs.find import Task
from pcsr_cli.jobs.frames import steps_for
from pcsr_cli.jobs.journal import Entry, Journal, is_content_of, same_way
from pcsr_cli.jobs.pipeline import Ready, overlapped
from pcsr_cli.jobs.report import Report
from pcsr_cli.jobs.request import Errand, Request
from pcsr_cli.model.load import LoadedModel

Existing = Literal["refuse", "skip", "overwrite"]
"""What to do about a file in the way: one that is not as this very command has made it."""


class Why(StrEnum):
    """Why a picture is not done again."""

    DONE_BEFORE = "done before"
    EXISTS = "there already"


@dataclass(frozen=True)
class Work:
    """What is to be done, in order, and what not."""

    todo: tuple[Task, ...]
    skipped: tuple[tuple[Task, Why], ...]


def sort_out(
    tasks: Sequence[Task],
    folder: Path,
    journal: Journal,
    way: Callable[[Task], Mapping[str, Any]],
    existing: Existing,
    progress: Callable[[float], None] = lambda share: None,
) -> Work:
    """Compare what is asked for with what is there; ``way`` tells how a result would be made (``Entry.way``).

    A result is done if the journal says that it was made of this content in this way and the file has the hash it
    names. Whatever else is in its place, by whomever it was put or changed, is in the way: RefusedOutputError, unless
    ``existing`` says what to do. ``progress`` hears the share of the tasks that was looked at."""
    todo: list[Task] = []
    skipped: list[tuple[Task, Why]] = []
    refused: list[Path] = []
    for number, task in enumerate(tasks):
        progress(number / len(tasks))
        output = folder / task.output
        if not exists(task.source.path) or not _is_there(output):  # that a source is gone, reading it will tell
            todo.append(task)
        elif _is_done(task, output, journal.find(task.output), way(task)):
            skipped.append((task, Why.DONE_BEFORE))
        elif existing == "skip":
            skipped.append((task, Why.EXISTS))
        else:
            todo.append(task)
            refused.append(output)
    if refused and existing == "refuse":
        more = f" and {len(refused) - 1} other results are" if len(refused) > 1 else " is"
        raise RefusedOutputError(
            f"{refused[0]}{more} in the way: changed since, or not made by this very command.",
            "Say --skip-existing or --overwrite, or give another folder.",
        )
    return Work(tuple(todo), tuple(skipped))


def _is_done(task: Task, output: Path, entry: Entry | None, way: Mapping[str, Any]) -> bool:
    """Whether a result is what the journal has made of this very content, with these options and weights."""
    return (
        entry is not None
        and same_way(entry, way)
        and is_content_of(entry.source, task.source.path)
        and is_content_of(entry.result, output)
    )


def _is_there(output: Path) -> bool:
    try:
        output.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # such as a name that is too long
        raise OutputError(f"{output} cannot be written: {reason(error)}.", "Choose another name.") from error
    return True


LOCK_NAME = ".pcsr-lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a folder and hold it: nobody else gets it until this block ends, or its process does, in whatever way.

    Raises OutputError where another run holds it or nothing can be written there, RefusedOutputError for a file."""
    if exists(folder) and not is_folder(folder):
        raise RefusedOutputError(
            f"{folder} is no folder, and the results of many pictures need one.", "Give another name."
        )
    lock = FileLock(folder / LOCK_NAME, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"Another pcsr is writing into {folder}.", "Wait until it has finished, or give another folder."
        ) from error
    except OSError as error:
        raise OutputError(
            f"Nothing can be written to the folder {folder}: {reason(error)}.",
            "Check its permissions, or give another.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def make_room(folder: Path, outputs: Iterable[Path]) -> None:
    """Make the folders that relative ``outputs`` go to, and rid them of leftovers. Raises OutputError."""
    for place in sorted({folder, *((folder / output).parent for output in outputs)}):
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"Nothing can be written to the folder {place}: {reason(error)}.",
                "Check its permissions, or give another.",
            ) from error
        remove_leftovers(place)


@dataclass(frozen=True)
class Done:
    """A picture that is done."""

    task: Task
    report: Report


@dataclass(frozen=True)
class Failed:
    """A picture that is not, and why."""

    task: Task
    error: Exception


class Run:
    """One run into a folder that is held (``place.held``)."""

    def __init__(
        self,
        folder: Path,
        tasks: Sequence[Task],
        model: LoadedModel,
        request: Request,
        existing: Existing = "refuse",
        progress: Callable[[Errand, float], None] | None = None,
        looking: Callable[[float], None] = lambda share: None,
    ) -> None:
        """See what is to be done; ``looking`` hears how much of it is seen, ``progress`` how much of each is computed.

        Raises RefusedOutputError for what is in the way, UsageError, OutputError."""
        self.folder = folder
        self._replace = existing == "overwrite"
        self.journal = Journal(folder)
        self.enlarging = steps_for(model, request, progress, self._record)
        self.work: Work = sort_out(
            tasks, folder, self.journal, lambda task: self.enlarging.way(folder / task.output), existing, looking
        )

    def go(self, jobs: int = 1, fail_fast: bool = False) -> Generator[Done | Failed, None, None]:
        """Do it, one picture after the other; what becomes of each is told when it is known.

        A picture that fails stops no other, unless with ``fail_fast``, or where the disk is full: that ends in
        OutputError. One for which there is too little memory is tried again at the end, alone. An error loses its
        traceback, and with it the picture that this holds in memory, as soon as the next event is asked for.
        To be closed like ``overlapped``."""
        make_room(self.folder, [task.output for task in self.work.todo])
        waiting = {Errand(task.source.path, self.folder / task.output, self._replace): task for task in self.work.todo}
        while waiting:
            # Those that found too little memory are tried once more, with nothing else under way.
            once_more: dict[Errand, Task] = {}
            with closing(overlapped(waiting, self.enlarging, jobs)) as line:
                for finished in line:
                    task, error = waiting[finished.item], finished.error
                    if error is None:
                        yield Done(task, self.enlarging.report(finished))
                    elif is_out_of_memory(error) and jobs > 0 and not fail_fast:
                        once_more[finished.item] = task
                    else:
                        yield Failed(task, error)
                        if fail_fast:
                            return
                        if disk_is_full(error):
                            raise OutputError(
                                f"The disk is full: stopped at {self.folder / task.output}.",
                                "Free space and run the command again.",
                            ) from error
                    if error is not None:
                        error.__traceback__ = error.__cause__ = error.__context__ = None
            waiting, jobs = once_more, 0

    def _record(self, errand: Errand, ready: Ready, file: Path) -> None:
        """Write a finished file into the journal, before it is put in its place; first its content is on the disk, so
        that even where the power fails there is no file of that name but a whole one. Raises OutputError."""
        assert isinstance(errand.output, Path) and ready.content is not None
        name = errand.output.relative_to(self.folder).as_posix()
        told = {"source": str(errand.source), "pcsr": pcsr_cli.__version__}
        way = self.enlarging.way(errand.output)
        try:
            with file.open("rb+") as written:
                os.fsync(written.fileno())
            result = fingerprint(file)
        except OSError as error:
            raise OutputError(
                f"{errand.output} cannot be written: {reason(error)}.", "Free space, or choose another."
            ) from error
        self.journal.append(Entry(name, ready.content, way, result, told))


def disk_is_full(error: BaseException | None) -> bool:
    """Whether it is for want of space, so that the next picture would fare no better."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}:
            return True
        error = error.__cause__
    return False
