"""Reading, computing and writing, overlapped: readers are ahead of the computing and writers behind, not by much.

Computing is done one picture at a time, in the caller's thread: it uses all cores by itself.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from pcsr_cli.engine.forced import Forced
from pcsr_cli.engine.routing import Routing
from pcsr_cli.engine.routing_map import RoutingMap
from pcsr_cli.engine.upscale import Outcome
from pcsr_cli.images.files import Fingerprint
from pcsr_cli.images.formats import Format
from pcsr_cli.images.image import ImageData, Layout, Pixels
from pcsr_cli.jobs.request import Errand

Load = TypeVar("Load")


class BeltStoppedError(Exception):
    """The other end has gone away; why, it tells itself."""


class Belt(Generic[Load]):
    """One thread puts, another takes, in order; when either stops, the other learns of it at its next step.

    At most ``room`` loads are on it or being taken care of, so that a slow writer holds the computing up instead of
    filling the memory. Made of queues that an interruption cannot leave locked."""

    def __init__(self, room: int = 2) -> None:
        self._loads: SimpleQueue[Load | None] = SimpleQueue()  # None ends it
        self._places: SimpleQueue[None] = SimpleQueue()
        self._stopped = False
        for _ in range(room):
            self._places.put(None)

    def put(self, load: Load) -> None:
        """Hand a load over, when there is room. Raises BeltStoppedError."""
        if not self._stopped:
            self._places.get()
        if self._stopped:
            raise BeltStoppedError
        self._loads.put(load)

    def close(self) -> None:
        """Nothing more comes: who takes gets what is left and is done."""
        self._loads.put(None)

    def stop(self) -> None:
        """End it at once, from either end or from outside."""
        self._stopped = True
        self._places.put(None)
        self._loads.put(None)

    def loads(self) -> Iterator[Load]:
        """What was put, until it is closed. Raises BeltStoppedError if it is stopped before."""
        while True:
            load = self._loads.get()
            if self._stopped:
                raise BeltStoppedError
            if load is None:
                return
            yield load
            self._places.put(None)


@dataclass(frozen=True)
class Ready:
    """A picture that was read, found to fit its output's format, and routed."""

    picture: ImageData
    content: Fingerprint | None
    format: Format
    layout: Layout
    routing: Routing
    notes: tuple[str, ...]
    seconds: float
    forced: Forced | None = None
    routed: RoutingMap | None = None


@dataclass(frozen=True)
class Computed:
    """What came of computing, and when it ended."""

    ready: Ready
    outcome: Outcome
    began: float
    ended: float


@dataclass(frozen=True)
class Finished:
    """An errand that is done: computed, and in its place at the time of ``written``. Or it failed with ``error``."""

    item: Errand
    computed: Computed | None = None
    written: float | None = None
    error: Exception | None = None


class Stages(ABC):
    """What is done for every errand. Each may raise: then that one has failed, and no other."""

    @abstractmethod
    def read(self, item: Errand) -> Ready:
        """In a thread of its own, ahead."""

    @abstractmethod
    def compute(self, item: Errand, read: Ready, belt: Belt[Pixels]) -> Computed:
        """In the caller's thread; puts rows that are finished on the belt."""

    @abstractmethod
    def write(self, item: Errand, read: Ready, belt: Belt[Pixels]) -> float:
        """In a thread of its own, beginning with ``compute`` and going on behind it; when it was done."""


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
    belt: Belt[Pixels]
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

    def _write(self, item: Errand, read: Ready, belt: Belt[Pixels]) -> float:
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
