"""Run jobs with overlapping steps: while one image is computed, the next are read and the previous are written.

A large image is computed in the calling thread, on all cores. Small images are computed side by side, each on one core:
the threads of one small image spend more time waiting for each other than computing.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

import torch

from pcsr_cli.images.image import Pixels
from pcsr_cli.jobs.report import Report
from pcsr_cli.jobs.request import Job
from pcsr_cli.jobs.upscale_file import Computation, JobInput, Upscaler

Item = TypeVar("Item")

MAX_SIDE_BY_SIDE = 8
"""Maximum number of small images that are computed at the same time."""


class StoppedError(Exception):
    """The other end of a queue stopped. The exception of the other end has the reason."""


class BoundedQueue(Generic[Item]):
    """A queue between two threads: one puts items, the other iterates. If one thread stops, the other stops at its next
    step.

    At most ``size`` items are queued or in use, so that a slow consumer blocks the producer instead of filling the
    memory. The queue is a SimpleQueue, because an interruption cannot leave the lock of a SimpleQueue held."""

    def __init__(self, size: int = 2) -> None:
        self._items: SimpleQueue[Item | None] = SimpleQueue()  # None marks the end
        self._places: SimpleQueue[None] = SimpleQueue()
        self._stopped = False
        for _ in range(size):
            self._places.put(None)

    def put(self, item: Item) -> None:
        """Put an item, and wait while the queue is full. Raises StoppedError."""
        if not self._stopped:
            self._places.get()
        if self._stopped:
            raise StoppedError
        self._items.put(item)

    def close(self) -> None:
        """End the queue after its remaining items."""
        self._items.put(None)

    def stop(self) -> None:
        """End the queue at once. Any thread may call this method."""
        self._stopped = True
        self._places.put(None)
        self._items.put(None)

    def __iter__(self) -> Iterator[Item]:
        """Yield items until the queue is closed. Raises StoppedError if the queue is stopped before."""
        while True:
            item = self._items.get()
            if self._stopped:
                raise StoppedError
            if item is None:
                return
            yield item
            del item
            self._places.put(None)


def overlapped(
    jobs: Iterable[Job], upscaler: Upscaler, ahead: int = 1
) -> Generator[tuple[Job, Report | Exception], None, None]:
    """Run every job. Yield each finished job, in order, with its report or its error.

    While one job is computed, up to ``ahead`` jobs are read in advance and up to ``ahead`` are still being written.
    Small images count as being written while they are computed side by side, one for each thread of torch. With
    ``ahead`` 0, each job is finished before the next starts. An error ends only its own job. Close this generator
    (use ``contextlib.closing``): closing or interrupting it stops all threads and removes unfinished files."""
    line = _Line(upscaler, ahead)
    coming = iter(jobs)
    try:
        while True:
            while line.may_read and (job := next(coming, None)) is not None:
                line.read(job)
            if not line.ahead:
                break
            line.compute()
            while len(line.behind) > ahead + line.beside:
                yield line.finish()
        while line.behind:
            yield line.finish()
    except (KeyboardInterrupt, SystemExit):  # jobs that are already written count as done
        line.stop()
        while line.behind:
            job, result = line.finish()
            if isinstance(result, Report):
                yield job, result
        raise
    finally:
        line.stop()


@dataclass
class _Started:
    """The state of a job that is being computed or written."""

    job: Job
    queue: BoundedQueue[Pixels]
    read: JobInput | None = None
    computation: Computation | None = None
    writing: "Future[float] | None" = None
    computing: "Future[None] | None" = None
    error: Exception | None = None


class _Line:
    """The jobs that are read in advance, and the started jobs."""

    def __init__(self, upscaler: Upscaler, ahead: int) -> None:
        self.ahead: deque[tuple[Job, Future[JobInput]]] = deque()
        self.behind: deque[_Started] = deque()
        self._upscaler = upscaler
        self._most_ahead = ahead
        self._readers = ThreadPoolExecutor(max(1, ahead), "read")
        self._threads = torch.get_num_threads()
        workers = min(self._threads, MAX_SIDE_BY_SIDE) if ahead else 1
        self._most_beside = workers - 1
        self._computers = ThreadPoolExecutor(workers, "compute")
        self._writers = ThreadPoolExecutor(ahead + workers, "write")

    @property
    def may_read(self) -> bool:
        """Whether another job may be read. At most ``ahead`` jobs are read besides the next one to compute."""
        return len(self.ahead) <= self._most_ahead

    def read(self, job: Job) -> None:
        self.ahead.append((job, self._readers.submit(self._upscaler.read, job)))

    @property
    def beside(self) -> int:
        """The number of jobs that may be computed at the same time as the last started job."""
        return self._most_beside if self.behind and self.behind[-1].computing is not None else 0

    def compute(self) -> None:
        """Compute the next job while its writer takes the rows. A small job that is not the only one is started in
        another thread."""
        job, reading = self.ahead.popleft()
        # Listed before any thread waits for its queue, so that `stop` finds it after an interruption.
        started = _Started(job, BoundedQueue())
        self.behind.append(started)
        try:
            started.read = reading.result()
        except Exception as error:
            started.error = error
            return
        started.writing = self._writers.submit(self._write, job, started.read, started.queue)
        others = self.ahead or len(self.behind) > 1
        if others and self._most_beside and self._upscaler.is_small(started.read):
            started.computing = self._computers.submit(self._run, started, started.read, 1)
        else:
            self._run(started, started.read, self._threads)

    def _run(self, started: _Started, read: JobInput, threads: int) -> None:
        try:
            torch.set_num_threads(threads)  # of this Python thread
            started.computation = self._upscaler.compute(started.job, read)
            with closing(started.computation) as computation:
                for rows in computation:
                    started.queue.put(rows)
            started.queue.close()
        except StoppedError:  # the writer failed, and its error is reported
            pass
        except Exception as error:
            if (interruption := _interruption(error)) is not None:
                raise interruption from None
            started.error = error
            started.queue.stop()

    def _write(self, job: Job, read: JobInput, queue: BoundedQueue[Pixels]) -> float:
        try:
            return self._upscaler.write(job, read, queue)
        finally:
            queue.stop()

    def finish(self) -> tuple[Job, Report | Exception]:
        """Wait until the oldest started job is written or has failed."""
        first = self.behind[0]
        result: Report | Exception = first.error or StoppedError()
        try:
            if first.computing is not None:
                first.computing.result()
            written = None if first.writing is None else first.writing.result()
            if written is not None and first.error is None:
                assert first.read is not None and first.computation is not None
                result = self._upscaler.report(first.job, first.read, first.computation, written)
        except Exception as error:
            result = first.error or error
        self.behind.popleft()
        return first.job, result

    def stop(self) -> None:
        """Stop all jobs and wait for their writers, which remove unfinished files.

        The function does not wait for readers, because a reader leaves no file behind and may take long."""
        for started in self.behind:
            started.queue.stop()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._computers.shutdown(wait=True, cancel_futures=True)
        self._writers.shutdown(wait=True, cancel_futures=True)


def _interruption(error: BaseException) -> BaseException | None:
    """Return the interruption that an error replaced, if any. One that comes while torch enters a mode causes an error
    of torch."""
    context = error.__context__
    while context is not None and not isinstance(context, KeyboardInterrupt | SystemExit):
        context = context.__context__
    return context
