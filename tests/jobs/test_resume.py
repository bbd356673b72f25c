"""What is there already is recognised by content, way and hash; what is in the way is refused, kept or replaced."""

from pathlib import Path

import pytest

from pcsr_cli.errors import OutputError, RefusedOutputError
from pcsr_cli.images.files import Fingerprint, fingerprint
from pcsr_cli.jobs.find import Source, Task
from pcsr_cli.jobs.folder import Existing, Why, Work, sort_out
from pcsr_cli.jobs.journal import Entry, Journal
from tests.failing import fails

WAY = {"scale": 4.0}


class Folder:
    """A folder of results with one picture done."""

    def __init__(self, tmp_path: Path) -> None:
        self.source, self.output = tmp_path / "a.png", tmp_path / "out" / "a_x4.png"
        self.output.parent.mkdir()
        self.source.write_bytes(b"source")
        self.output.write_bytes(b"result")
        self.task = Task(Source(self.source), Path("a_x4.png"))
        made = Entry("a_x4.png", fingerprint(self.source), WAY, fingerprint(self.output), {})
        Journal(self.output.parent).append(made)

    def sorted_out(self, existing: Existing = "refuse", way: dict[str, float] = WAY) -> Work:
        return sort_out([self.task], self.output.parent, Journal(self.output.parent), lambda task: way, existing)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize("existing", ["refuse", "skip", "overwrite"])
def test_what_was_made_just_so_is_not_made_again(folder: Folder, existing: Existing) -> None:
    assert folder.sorted_out(existing) == Work((), ((folder.task, Why.DONE_BEFORE),))


@pytest.mark.parametrize("existing", ["refuse", "skip", "overwrite"])
def test_a_result_that_is_not_there_is_made_again(folder: Folder, existing: Existing) -> None:
    folder.output.unlink()  # or was never put in its place
    assert folder.sorted_out(existing) == Work((folder.task,), ())


@pytest.mark.parametrize("change", ["source", "way", "journal", "result", "result's size"])
def test_what_was_made_otherwise_or_changed_since_is_in_the_way(folder: Folder, change: str) -> None:
    way = {"scale": 2.0} if change == "way" else WAY
    if change == "source":
        folder.source.write_bytes(b"sourcE")
    if change == "journal":
        Journal(folder.output.parent).path.unlink()
    if change.startswith("result"):
        folder.output.write_bytes(b"resulT" if change == "result" else b"result, edited")
    with fails(RefusedOutputError, f"{folder.output} is in the way: changed since, or not made by this very command."):
        folder.sorted_out(way=way)
    assert folder.sorted_out("skip", way) == Work((), ((folder.task, Why.EXISTS),))
    assert folder.sorted_out("overwrite", way) == Work((folder.task,), ())


def test_of_many_in_the_way_one_is_named(tmp_path: Path) -> None:
    tasks = [Task(Source(tmp_path), Path(name)) for name in "abc"]
    for task in tasks:
        (tmp_path / task.output).touch()
    with fails(
        RefusedOutputError,
        f"{tmp_path / 'a'} and 2 other results are in the way: changed since, or not made by this very command.",
    ):
        sort_out(tasks, tmp_path, Journal(tmp_path), lambda task: WAY, "refuse")


def test_that_a_source_is_gone_its_reading_tells(folder: Folder) -> None:
    folder.source.unlink()
    assert folder.sorted_out().todo == (folder.task,)


def test_a_name_that_cannot_be_is_told_before_any_work(tmp_path: Path) -> None:
    task = Task(Source(tmp_path), Path("a" * 999))
    with fails(OutputError, "cannot be written:", "Choose another name."):
        sort_out([task], tmp_path, Journal(tmp_path), lambda task: WAY, "refuse")


def test_a_journal_of_lies_is_not_believed(folder: Folder) -> None:
    lie = Entry("a_x4.png", fingerprint(folder.source), WAY, Fingerprint(6, "0" * 64), {})
    Journal(folder.output.parent).append(lie)
    assert folder.sorted_out("skip") == Work((), ((folder.task, Why.EXISTS),))


def test_how_much_was_looked_at_is_told(folder: Folder) -> None:
    told: list[float] = []
    journal, out = Journal(folder.output.parent), folder.output.parent
    sort_out([folder.task] * 4, out, journal, lambda task: WAY, "refuse", told.append)
    assert told == [0.0, 0.25, 0.5, 0.75]
