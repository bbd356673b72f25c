"""Reading, computing and writing overlap, in order, by so many and no more; one item's mishap is its own."""

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from pcsr_cli.jobs.pipeline import Belt, BeltStoppedError, Stages, overlapped

STEP = 0.05


@dataclass
class Scripted(Stages):
    """Stages that sleep, keep a diary and fail where they are told to. Numbers stand for errands and for rows."""

    seconds: float = 0.0
    failing: dict[str, int] = field(default_factory=dict)
    diary: list[str] = field(default_factory=list)

    def read(self, item: Any) -> Any:
        return self._do("read", item)

    def compute(self, item: Any, read: Any, belt: Belt[Any]) -> Any:
        for row in range(5):
            belt.put(10 * item + row)
        return self._do("compute", item)

    def write(self, item: Any, read: Any, belt: Belt[Any]) -> Any:
        if self.failing.get("write at once") == item:
            raise OSError("full")
        rows = list(belt.loads())
        self._do("write", item)
        return rows

    def _do(self, what: str, item: int) -> int:
        time.sleep(self.seconds)
        if self.failing.get(what) == item:
            raise ValueError(what)
        self.diary.append(f"{what} {item}")
        return item


def run(items: Any, stages: Stages, jobs: int = 1) -> Any:
    return overlapped(items, stages, jobs)


@pytest.mark.parametrize("jobs", [0, 1, 3])
def test_everything_arrives_whole_and_in_order(jobs: int) -> None:
    done = list(run(range(1, 8), Scripted(), jobs))
    assert [finished.item for finished in done] == list(range(1, 8))
    assert [finished.computed for finished in done] == list(range(1, 8))
    assert [finished.written for finished in done] == [[10 * n + row for row in range(5)] for n in range(1, 8)]


def test_nothing_to_do_is_nothing() -> None:
    assert list(run([], Scripted())) == []


@pytest.mark.parametrize("what", ["read", "compute", "write", "write at once"])
@pytest.mark.parametrize("jobs", [0, 1])
def test_the_mishap_of_one_is_nobody_elses(what: str, jobs: int) -> None:
    done = list(run(range(1, 6), Scripted(failing={what: 3}), jobs))
    assert [finished.item for finished in done if finished.error is not None] == [3]
    assert [finished.written for finished in done if finished.error is None] == [
        [10 * n + row for row in range(5)] for n in (1, 2, 4, 5)
    ]


def seconds_of(jobs: int) -> float:
    started = time.perf_counter()
    assert len(list(run(range(1, 9), Scripted(STEP), jobs))) == 8
    return time.perf_counter() - started


def test_three_stages_of_equal_length_take_a_third() -> None:
    one_by_one, side_by_side = seconds_of(0), seconds_of(1)
    assert one_by_one >= 24 * STEP
    assert side_by_side < 0.6 * one_by_one  # 10 steps instead of 24


@pytest.mark.parametrize("jobs", [0, 1, 2])
def test_no_more_than_jobs_are_read_ahead_or_written_behind(jobs: int) -> None:
    stages = Scripted(STEP / 5)
    list(run(range(1, 10), stages, jobs))
    for number, line in enumerate(stages.diary):
        what, item = line.split()
        before = stages.diary[:number]
        if what == "read":  # the one being computed, and `jobs` ahead of it
            assert before.count(f"compute {int(item) - jobs - 2}") or int(item) <= jobs + 2
        if what == "compute":
            assert before.count(f"write {int(item) - jobs - 1}") or int(item) <= jobs + 1


def test_stopping_early_gives_up_what_is_being_written() -> None:
    stages = Scripted(STEP)
    before = threading.active_count()
    with contextlib.closing(run(range(1, 10), stages, 1)) as done:
        assert next(done).item == 1
    assert threading.active_count() == before
    assert "compute 4" not in stages.diary


def test_an_interruption_goes_through_leaves_nothing_running_and_tells_what_was_written() -> None:
    class Interrupted(Scripted):
        def compute(self, item: Any, read: Any, belt: Belt[Any]) -> Any:
            belt.put(1)
            if item == 3:
                while "write 2" not in self.diary:
                    time.sleep(0.001)
                raise KeyboardInterrupt
            return super().compute(item, read, belt)

    before = threading.active_count()
    stages = Interrupted()
    told: list[int] = []
    with pytest.raises(KeyboardInterrupt), contextlib.closing(run(range(1, 10), stages)) as done:
        told.extend(finished.item for finished in done)
    assert threading.active_count() == before
    assert told == [1, 2], "what was written by then was not told"


class TestABelt:
    def test_holds_the_one_who_puts_up(self) -> None:
        belt: Belt[int] = Belt(room=2)
        put: list[int] = []

        def fill() -> None:
            with contextlib.suppress(BeltStoppedError):
                for number in range(10):
                    belt.put(number)
                    put.append(number)

        thread = threading.Thread(target=fill)
        thread.start()
        time.sleep(STEP)
        assert put == [0, 1]
        loads = belt.loads()
        assert (next(loads), next(loads)) == (0, 1)
        time.sleep(STEP)
        assert put == [0, 1, 2]
        belt.stop()
        thread.join()

    def test_stopped_it_lets_go_of_both_ends(self) -> None:
        belt: Belt[int] = Belt()
        belt.put(1)
        belt.stop()
        for _ in range(2):
            with pytest.raises(BeltStoppedError):
                belt.put(2)
        with pytest.raises(BeltStoppedError):
            next(belt.loads())
