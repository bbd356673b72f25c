"""A folder of results made, or gone on with: what is to be done, and its pictures one after the other."""

import errno
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pcsr_cli
from pcsr_cli.account import Report
from pcsr_cli.errors import OutputError, is_out_of_memory
from pcsr_cli.files import fingerprint, reason
from pcsr_cli.folders.journal import Entry, Journal
from pcsr_cli.folders.naming import Task
from pcsr_cli.folders.place import make_room
from pcsr_cli.folders.standing import Existing, Work, sort_out
from pcsr_cli.jobs.frames import steps_for
from pcsr_cli.jobs.pipeline import overlapped
from pcsr_cli.jobs.requests import Errand, Request
from pcsr_cli.jobs.stages import Ready
from pcsr_cli.models import LoadedModel


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
