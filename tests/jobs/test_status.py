"""The state of an output folder: results in place, failures without a result, remaining images, rate and runs."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from pcsr_cli.errors import InputError
from pcsr_cli.images.files import Fingerprint
from pcsr_cli.jobs.claims import Claims, describe_run
from pcsr_cli.jobs.find import Task
from pcsr_cli.jobs.journal import OLD_NAME, Entry, Failure, RunInfo, Segment
from pcsr_cli.jobs.status import Status
from tests.failing import fails
from tests.jobs.test_journal import FROM_VERSION_1

CONTENT = Fingerprint(1, "aa")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def done(out: Path, name: str, at: float = 1.0, seconds: float = 1.0) -> Entry:
    """A result in place."""
    (out / name).touch()
    info = {"source": f"in/{name}", "path": name, "at": at, "seconds": seconds}
    return Entry(name, CONTENT, {}, CONTENT, info)


def failed(name: str, error: str = "It failed.", at: float = 1.0) -> Failure:
    return Failure(name, f"in/{name}", name, error, at)


def run(out: Path, *lines: Entry | Failure, id: str = "1", shard: str = "") -> RunInfo:
    info = RunInfo(id, "host", 1, shard, 0.5)
    segment = Segment(out, info)
    for line in lines:
        segment.append(line)
    return info


def test_a_folder_without_a_journal_is_an_error(tmp_path: Path) -> None:
    with fails(InputError, f"{tmp_path} has no journal."):
        Status(tmp_path)


def test_results_and_failures_are_counted_over_all_runs(out: Path) -> None:
    run(out, done(out, "a"), failed("b"), failed("c"), id="1", shard="1/2")
    run(out, done(out, "b", at=3.0), failed("a", at=4.0), failed("c"), done(out, "gone"), id="2", shard="2/2")
    (out / "gone").unlink()
    status = Status(out)
    assert (status.done, status.failed, status.last) == (2, 1, 4.0), "c failed twice"
    assert list(status.failures()) == [(Path("in/c"), Path("c"))]
    runs = [(each.info.shard, each.done, each.failed, each.last) for each in status.runs]
    assert runs == [("1/2", 1, 2, 1.0), ("2/2", 1, 2, 4.0)]


def test_reasons_do_not_depend_on_names(out: Path) -> None:
    errors = [f"in/{name} is damaged." for name in "ab"] + [f"{out / 'c'} cannot be written: no space."]
    run(out, *(failed(name, error) for name, error in zip("abc", errors, strict=True)))
    assert Status(out).reasons == {"the image is damaged.": 2, "the result cannot be written: no space.": 1}


def test_images_that_are_neither_done_nor_failed_remain(out: Path) -> None:
    (out / OLD_NAME).write_text(FROM_VERSION_1)
    (out / "a_x4.png").touch()
    run(out, done(out, "b"), failed("\udcff"))
    tasks = [Task(Path("in", name), Path(name), Path(name)) for name in ("a.png", "b", "c", "\udcff")]
    status = Status(out)
    assert status.count_remaining(tasks) == 1
    assert (status.done, status.runs[0].info.id) == (2, "")


def test_the_rate_is_that_of_the_last_ten_minutes(out: Path) -> None:
    run(out, done(out, "old", at=1.0))
    assert Status(out).per_second == 0
    run(out, *(done(out, str(number), at=10_000.0 + 10 * number) for number in range(101)), id="2")
    assert Status(out).per_second == pytest.approx(0.1)


def test_the_slowest_images_come_first(out: Path) -> None:
    run(out, *(done(out, str(number), seconds=number) for number in range(9)))
    assert Status(out).slowest == tuple((str(number), number) for number in (8, 7, 6, 5, 4))


def test_a_run_is_live_until_it_ends(out: Path) -> None:
    info = replace(describe_run(), began=time.time())
    Segment(out, info).append(done(out, "a"))
    with Claims(out, info):
        assert [each.live for each in Status(out).runs] == [True]
    assert [each.live for each in Status(out).runs] == [False]
