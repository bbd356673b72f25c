"""Reading, computing and writing overlap in order and within limits. An error ends one job only."""

import contextlib
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from pcsr_cli.jobs import pipeline
from pcsr_cli.jobs.pipeline import BoundedQueue, StoppedError, overlapped

STEP = 0.05


@dataclass
class Scripted:
    """Steps that sleep, log their calls and fail on request. Jobs and rows are numbers."""

    seconds: float = 0.0
    failing: dict[str, int] = field(default_factory=dict)
    small: bool = False
    log: list[str] = field(default_factory=list)

    def read(self, job: int) -> int:
        return self._do("read", job)

    def is_small(self, read: int) -> bool:
        return self.small

    def compute(self, job: int, read: int) -> Generator[int, None, None]:
        for row in range(5):
            yield 10 * job + row
        self._do("compute", job)

    def write(self, job: int, read: int, rows: Iterable[int]) -> list[int]:
        if self.failing.get("write at once") == job:
            raise OSError("full")
        written = list(rows)
        self._do("write", job)
        return written

    def report(self, job: int, read: int, computation: object, written: list[int]) -> list[int]:
        return written

    def _do(self, what: str, job: int) -> int:
        time.sleep(self.seconds)
        if self.failing.get(what) == job:
            raise ValueError(what)
        self.log.append(f"{what} {job}")
        return job


@pytest.fixture(autouse=True)
def lists_are_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "Report", list)


def run(jobs: Iterable[int], steps: Scripted, ahead: int = 1) -> Any:
    return overlapped(jobs, steps, ahead)  # type: ignore[arg-type]


def rows_of(*jobs: int) -> list[tuple[int, list[int]]]:
    return [(job, [10 * job + row for row in range(5)]) for job in jobs]


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch has two threads, so that two small images are computed side by side."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("small", [False, True], ids=["large", "small"])
@pytest.mark.parametrize("jobs", [0, 7])
@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_results_are_complete_and_in_order(ahead: int, jobs: int, small: bool) -> None:
    assert list(run(range(jobs), Scripted(small=small), ahead)) == rows_of(*range(jobs))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("side_by_side", [False, True], ids=["large", "small"])
def test_only_small_images_are_computed_side_by_side(side_by_side: bool) -> None:
    computing, most = set(), []

    class Watched(Scripted):
        def compute(self, job: int, read: int) -> Generator[int, None, None]:
            computing.add(job)
            time.sleep(STEP)
            most.append(len(computing))
            computing.remove(job)
            yield from super().compute(job, read)

    assert len(list(run(range(6), Watched(small=side_by_side)))) == 6
    assert max(most) == (2 if side_by_side else 1)


@pytest.mark.usefixtures("two_threads")
def test_a_single_small_image_is_computed_by_all_threads() -> None:
    class Watched(Scripted):
        def compute(self, job: int, read: int) -> Generator[int, None, None]:
            self.log.append(threading.current_thread().name)
            yield from super().compute(job, read)

    steps = Watched(small=True)
    assert list(run([1], steps)) == rows_of(1)
    assert threading.current_thread().name in steps.log


@pytest.mark.usefixtures("two_threads")
def test_an_interruption_ends_small_images_that_are_being_computed() -> None:
    class Endless(Scripted):
        def compute(self, job: int, read: int) -> Generator[int, None, None]:
            while True:
                yield job

    def interrupted() -> Iterator[int]:
        yield from (1, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run(interrupted(), Endless(small=True)))
    wait_for_readers()
    assert running() == []


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("what", ["read", "compute", "write", "write at once"])
@pytest.mark.parametrize(("ahead", "small"), [(0, False), (1, False), (1, True)], ids=str)
def test_an_error_ends_one_job_only(what: str, ahead: int, small: bool) -> None:
    done = list(run(range(1, 6), Scripted(failing={what: 3}, small=small), ahead))
    assert [(job, type(result)) for job, result in done if isinstance(result, Exception)] == [
        (3, OSError if what == "write at once" else ValueError)
    ]
    assert [each for each in done if each[0] != 3] == rows_of(1, 2, 4, 5)


def seconds_of(ahead: int) -> float:
    started = time.perf_counter()
    assert len(list(run(range(1, 9), Scripted(STEP), ahead))) == 8
    return time.perf_counter() - started


@pytest.mark.slow
def test_stages_run_at_the_same_time() -> None:
    one_by_one, side_by_side = seconds_of(0), seconds_of(1)
    assert one_by_one >= 24 * STEP
    assert side_by_side < 0.6 * one_by_one  # 10 steps instead of 24


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_reading_and_writing_stay_within_their_limits(ahead: int) -> None:
    steps = Scripted(STEP / 5)
    list(run(range(1, 10), steps, ahead))
    for number, line in enumerate(steps.log):
        what, job = line.split()
        before = steps.log[:number]
        if what == "read":  # the one being computed, and `ahead` before it
            assert before.count(f"compute {int(job) - ahead - 2}") or int(job) <= ahead + 2
        if what == "compute":
            assert before.count(f"write {int(job) - ahead - 1}") or int(job) <= ahead + 1


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("read", "compute", "write"))]


def wait_for_readers() -> None:
    for _ in range(100):
        if running():
            time.sleep(STEP / 10)


def test_stopping_early_ends_all_threads() -> None:
    steps = Scripted(STEP)
    with contextlib.closing(run(range(1, 10), steps, 1)) as done:
        assert next(done)[0] == 1
    wait_for_readers()
    assert running() == []
    assert "compute 4" not in steps.log


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interruption_does_not_wait_for_a_reader(stop: type[BaseException]) -> None:
    reading, released = threading.Event(), threading.Event()

    class Slow(Scripted):
        def read(self, job: int) -> int:
            if job == 3:
                reading.set()
                released.wait(5)
            return super().read(job)

        def compute(self, job: int, read: int) -> Generator[int, None, None]:
            if job == 2:
                reading.wait(5)
                raise stop
            yield from super().compute(job, read)

    finished: list[int] = []
    with pytest.raises(stop):
        finished.extend(job for job, _ in run(range(1, 10), Slow()))
    assert any(name.startswith("read") for name in running()), "it waited"
    assert not any(name.startswith("write") for name in running())
    released.set()
    wait_for_readers()


def test_an_interruption_yields_written_results_and_ends_all_threads() -> None:
    class Interrupted(Scripted):
        def compute(self, job: int, read: int) -> Generator[int, None, None]:
            yield 1
            if job == 3:
                while "write 2" not in self.log:
                    time.sleep(0.001)
                raise KeyboardInterrupt
            yield from super().compute(job, read)

    finished: list[int] = []
    with pytest.raises(KeyboardInterrupt), contextlib.closing(run(range(1, 10), Interrupted())) as done:
        finished.extend(job for job, _ in done)
    wait_for_readers()
    assert running() == []
    assert finished == [1, 2], "written results should be yielded"


def test_an_interruption_while_reading_is_raised() -> None:
    class Interrupted(Scripted):
        def read(self, job: int) -> int:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run([1], Interrupted()))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interruption_that_causes_another_error_is_raised(stop: type[BaseException]) -> None:
    class Interrupted(Scripted):
        def compute(self, job: int, read: int) -> Generator[int, None, None]:
            yield 1
            try:
                raise stop
            finally:
                raise RuntimeError("trying to pop from empty mode stack")

    with pytest.raises(stop):
        list(run([1, 2], Interrupted()))
    wait_for_readers()
    assert running() == []


def test_a_failed_writer_ends_the_computation() -> None:
    closed: list[int] = []

    class Endless(Scripted):
        def compute(self, job: int, read: int) -> Generator[int, None, None]:
            try:
                while True:
                    yield job
            finally:
                closed.append(job)

    ((_, error),) = run([3], Endless(failing={"write at once": 3}))
    assert isinstance(error, OSError) and closed == [3]


class TestBoundedQueue:
    """A full queue blocks its writer, and stopping it ends reading and writing."""

    def test_a_full_queue_blocks_the_writer(self) -> None:
        queue: BoundedQueue[int] = BoundedQueue(size=2)
        put: list[int] = []

        def fill() -> None:
            with contextlib.suppress(StoppedError):
                for number in range(10):
                    queue.put(number)
                    put.append(number)

        thread = threading.Thread(target=fill)
        thread.start()
        time.sleep(STEP)
        assert put == [0, 1]
        items = iter(queue)
        assert (next(items), next(items)) == (0, 1)
        time.sleep(STEP)
        assert put == [0, 1, 2]
        queue.stop()
        thread.join()

    def test_stopping_ends_reading_and_writing(self) -> None:
        queue: BoundedQueue[int] = BoundedQueue()
        queue.put(1)
        queue.stop()
        for _ in range(2):
            with pytest.raises(StoppedError):
                queue.put(2)
        with pytest.raises(StoppedError):
            next(iter(queue))
