"""Reading, computing and writing, overlapped: readers are ahead of the computing and writers behind, not by much.

Computing is done one picture at a time, in the caller's thread: it uses all cores by itself.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from pcsr_cli.jobs.belt import Belt, BeltStoppedError
from pcsr_cli.jobs.requests import Errand
from pcsr_cli.jobs.stages import Computed, Finished, Ready, Stages
from pcsr_cli.pictures.picture import Levels


def overlapped(items: Iterable[Errand], stages: Stages, jobs: int = 1) -> Generator[Finished, None, None]:
    """Take every errand through its stages and give them in order, each when it is finished.

    Up to ``jobs`` items are read ahead of the one that is computed and as many are still being written behind it;
    with 0 each is finished before the next is begun. When this is closed (``contextlib.closing`` sees to it) nothing
    is left running: what is being written is given up."""
    line = _Line(stages, jobs)
    coming = iter(items)
    try:
        while True:
            while line.wants_more and (item := next(coming, None)) is not None:
                line.read(item)
            if not line.ahead:
                break
            line.compute()
            while len(line.behind) > jobs:
                yield line.settle()
        while line.behind:
            yield line.settle()
    except (KeyboardInterrupt, SystemExit):  # what was written by then counts
        line.give_up()
        yield from line.written()
        raise
    finally:
        line.give_up()


@dataclass
class _UnderWay:
    item: Errand
    belt: Belt[Levels]
    writing: "Future[float] | None" = None
    computed: Computed | None = None
    error: Exception | None = None


class _Line:
    """What is ahead of the computing and what behind it."""

    def __init__(self, stages: Stages, jobs: int) -> None:
        self.ahead: deque[tuple[Errand, Future[Ready]]] = deque()
        self.behind: deque[_UnderWay] = deque()
        self._stages = stages
        self._jobs = jobs
        self._readers = ThreadPoolExecutor(max(1, jobs), "read")
        self._writers = ThreadPoolExecutor(jobs + 1, "write")

    @property
    def wants_more(self) -> bool:
        """Whether another may be read: the one to be computed and those ahead of it."""
        return len(self.ahead) <= self._jobs

    def read(self, item: Errand) -> None:
        self.ahead.append((item, self._readers.submit(self._stages.read, item)))

    def compute(self) -> None:
        """Compute the next item while its writer takes what is done."""
        item, reading = self.ahead.popleft()
        # Known before anything waits for its belt: whatever interrupts, `give_up` finds it.
        this = _UnderWay(item, Belt())
        self.behind.append(this)
        try:
            read = reading.result()
            this.writing = self._writers.submit(self._write, item, read, this.belt)
            this.computed = self._stages.compute(item, read, this.belt)
            this.belt.close()
        except BeltStoppedError:  # the writer tells why
            pass
        except Exception as error:
            this.error = error
            this.belt.stop()

    def _write(self, item: Errand, read: Ready, belt: Belt[Levels]) -> float:
        try:
            return self._stages.write(item, read, belt)
        finally:
            belt.stop()

    def settle(self) -> Finished:
        """Wait until the first of those behind is written."""
        first = self.behind[0]
        written: float | None = None
        error = first.error
        try:
            written = None if first.writing is None else first.writing.result()
        except Exception as mishap:
            error = error or mishap
        self.behind.popleft()
        return Finished(first.item, error=error) if error else Finished(first.item, first.computed, written)

    def written(self) -> Iterator[Finished]:
        """Those that are in their place, after the others were given up."""
        while self.behind:
            done = self.settle()
            if done.written is not None and done.error is None:
                yield done

    def give_up(self) -> None:
        """Stop whatever is under way and wait until it has."""
        for under_way in self.behind:
            under_way.belt.stop()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._writers.shutdown(wait=True, cancel_futures=True)
        self._readers.shutdown(wait=True)
