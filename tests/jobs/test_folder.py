"""A run into a folder: what stops it, and what is tried again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pcsr_cli.api import load_model, upscale_onto
from pcsr_cli.errors import InputError, OutputError
from pcsr_cli.images.read import read_image
from pcsr_cli.images.write import open_writer
from pcsr_cli.jobs import upscale_file as enlarging
from pcsr_cli.jobs.find import Source, Task
from pcsr_cli.jobs.folder import Done, Failed, Run, disk_is_full
from pcsr_cli.jobs.journal import Journal
from pcsr_cli.jobs.request import Request
from pcsr_cli.model.load import LoadedModel
from tests.failing import fails
from tests.images import levels, save


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder))


def make_run(tmp_path: Path, model: LoadedModel, *names: str, **asked: Any) -> Run:
    """A run of some pictures into ``out``."""
    tasks = []
    for name in names:
        save(tmp_path / name, levels(4, 5))
        tasks.append(Task(Source(tmp_path / name), Path(name)))
    (tmp_path / "out").mkdir(exist_ok=True)
    return Run(tmp_path / "out", tasks, model, Request(refine=1, **asked))


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "out").glob("*.png"))


def test_every_picture_is_done_and_in_the_journal(tmp_path: Path, model: LoadedModel) -> None:
    events = list(make_run(tmp_path, model, "a.png", "b.png").go())
    assert [type(event) for event in events] == [Done, Done]
    assert names(tmp_path) == ["a.png", "b.png"]
    assert all(Journal(tmp_path / "out").find(Path(name)) for name in ("a.png", "b.png"))
    again = make_run(tmp_path, model, "a.png", "b.png")
    assert (len(again.work.todo), len(again.work.skipped)) == (0, 2)
    assert list(again.go()) == []


@pytest.mark.parametrize("jobs", [0, 1])
def test_a_full_disk_stops_the_run(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:

    @contextmanager
    def full(output: Path, *arguments: Any) -> Iterator[Any]:
        with open_writer(output, *arguments) as writer:
            yield writer
            if output.name >= "b.png":
                reason = OSError(28, "No space left on device")
                raise OutputError(f"{output} cannot be written: no space.", "Free space, or choose another") from reason

    monkeypatch.setattr(enlarging, "open_writer", full)
    events = make_run(tmp_path, model, "a.png", "b.png", "c.png", "d.png").go(jobs)
    with fails(OutputError, f"The disk is full: stopped at {tmp_path / 'out' / 'b.png'}."):
        for event in events:
            assert isinstance(event, Done) == (event.task.output.name == "a.png")
    assert names(tmp_path) == ["a.png"]
    assert not list((tmp_path / "out").glob(".pcsr-*.part"))


def test_only_want_of_space_means_a_full_disk() -> None:
    assert disk_is_full(OSError(28, "No space left on device"))
    assert not disk_is_full(OSError(13, "Permission denied"))
    assert not disk_is_full(None)


def test_what_finds_too_little_memory_is_tried_again_alone(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def short(picture: Any, *arguments: Any, **named: Any) -> Any:
        asked.append(str(picture.size))
        if asked.count(str(picture.size)) == 1 and picture.size == (6, 7):
            raise MemoryError
        return upscale_onto(picture, *arguments, **named)

    monkeypatch.setattr(enlarging, "upscale_onto", short)
    run = make_run(tmp_path, model, "a.png", "b.png", "c.png")
    save(tmp_path / "b.png", levels(6, 7))
    events = list(run.go())
    assert [event.task.output.name for event in events if isinstance(event, Done)] == ["a.png", "c.png", "b.png"]
    assert names(tmp_path) == ["a.png", "b.png", "c.png"]


def test_a_picture_for_which_memory_never_suffices_fails(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*arguments: Any, **named: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(enlarging, "upscale_onto", short)
    (event,) = make_run(tmp_path, model, "a.png").go()
    assert isinstance(event, Failed) and isinstance(event.error, MemoryError)
    assert names(tmp_path) == []


def test_a_picture_that_changes_while_it_is_read(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:

    def meddle(path: Path, *arguments: Any) -> Any:
        picture = read_image(path, *arguments)
        save(path, levels(8, 8))
        return picture

    monkeypatch.setattr(enlarging, "read_image", meddle)
    (event,) = make_run(tmp_path, model, "a.png").go()
    assert isinstance(event, Failed)
    with fails(InputError, f"{tmp_path / 'a.png'} was changed while it was read."):
        raise event.error


def test_a_picture_that_vanishes_meanwhile(tmp_path: Path, model: LoadedModel) -> None:
    run = make_run(tmp_path, model, "a.png", "b.png")
    (tmp_path / "a.png").unlink()
    first, second = run.go()
    assert isinstance(first, Failed) and "There is no file" in str(first.error)
    assert isinstance(second, Done)
