"""A folder run: finished, skipped and repeated images, full disks, and the lock of the folder."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pcsr_cli.api import load_model, start_upscale
from pcsr_cli.engine.rules import Threshold
from pcsr_cli.errors import InputError, OutputError, PcsrError, RefusedOutputError
from pcsr_cli.images.files import Fingerprint, fingerprint
from pcsr_cli.images.read import read_image
from pcsr_cli.images.write import open_writer
from pcsr_cli.jobs import folder as folder_module
from pcsr_cli.jobs import upscale_file
from pcsr_cli.jobs.find import Task
from pcsr_cli.jobs.folder import (
    LATER_SETTINGS,
    Existing,
    FolderRun,
    Work,
    disk_is_full,
    lock,
    plan_work,
    prepare_folders,
    settings_key,
)
from pcsr_cli.jobs.journal import STARTED_NAME, Entry, Journal, Started
from pcsr_cli.jobs.report import Report
from pcsr_cli.jobs.request import Request
from pcsr_cli.model.registry import LoadedModel
from tests.failing import fails
from tests.images import levels, save
from tests.jobs.test_journal import FROM_VERSION_1


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder))


def make_run(
    tmp_path: Path, model: LoadedModel, *names: str, existing: Existing = "refuse", **options: Any
) -> FolderRun:
    """Prepare a run of some images into ``out``."""
    tasks = []
    for name in names:
        save(tmp_path / name, levels(4, 5))
        tasks.append(Task(tmp_path / name, Path(name)))
    (tmp_path / "out").mkdir(exist_ok=True)
    return FolderRun(tmp_path / "out", tasks, model, Request(refine=1, **options), existing)


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "out").glob("*.png"))


def test_each_result_is_in_the_journal_and_not_made_again(tmp_path: Path, model: LoadedModel) -> None:
    results = list(make_run(tmp_path, model, "a.png", "b.png").run())
    assert [type(result) for _, result in results] == [Report, Report]
    assert names(tmp_path) == ["a.png", "b.png"]
    assert all(Journal(tmp_path / "out").find(Path(name)) for name in ("a.png", "b.png"))
    again = make_run(tmp_path, model, "a.png", "b.png")
    assert (len(again.work.todo), len(again.work.skipped)) == (0, 2)
    assert list(again.run()) == []


def test_a_run_resumes_with_the_journal_of_version_1(tmp_path: Path, model: LoadedModel) -> None:
    list(make_run(tmp_path, model, "a.png").run())
    journal = Journal(tmp_path / "out").path
    line = json.loads(journal.read_text())
    line["way"], line["told"], line["version"] = line.pop("settings"), line.pop("info"), 1
    line["way"]["routing"] = "Threshold(cut=0.5)"
    assert line.keys() == json.loads(FROM_VERSION_1).keys()
    assert line["way"].keys() == json.loads(FROM_VERSION_1)["way"].keys()
    journal.write_text(json.dumps(line))
    assert make_run(tmp_path, model, "a.png").work.todo == ()
    assert make_run(tmp_path, model, "a.png", existing="overwrite", routing=Threshold(0.4)).work.todo != ()


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
                raise OutputError(f"Cannot write {output}: no space.", "Free some space.") from reason

    monkeypatch.setattr(upscale_file, "open_writer", full)
    results = make_run(tmp_path, model, "a.png", "b.png", "c.png", "d.png").run(jobs)
    with fails(OutputError, f"The disk is full; the run stopped at {tmp_path / 'out' / 'b.png'}."):
        for task, result in results:
            assert isinstance(result, Report) == (task.output.name == "a.png")
    assert names(tmp_path) == ["a.png"]
    assert not list((tmp_path / "out").glob(".pcsr-*.part"))


@pytest.mark.parametrize(("error", "full"), [(OSError(28, ""), True), (OSError(13, ""), False), (None, False)])
def test_only_one_error_means_a_full_disk(error: OSError | None, full: bool) -> None:
    assert disk_is_full(error) == full


def test_an_image_that_runs_out_of_memory_is_tried_again_at_the_end(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []

    def short(image: Any, *arguments: Any, **named: Any) -> Any:
        sizes.append(image.size)
        if sizes.count((6, 7)) == 1 and image.size == (6, 7):
            raise MemoryError
        return start_upscale(image, *arguments, **named)

    monkeypatch.setattr(upscale_file, "start_upscale", short)
    run = make_run(tmp_path, model, "a.png", "b.png", "c.png")
    save(tmp_path / "b.png", levels(6, 7))
    finished = [task.output.name for task, result in run.run() if isinstance(result, Report)]
    assert finished == ["a.png", "c.png", "b.png"]
    assert names(tmp_path) == ["a.png", "b.png", "c.png"]


def test_an_image_that_runs_out_of_memory_twice_fails(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*arguments: Any, **named: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(upscale_file, "start_upscale", short)
    ((_, error),) = make_run(tmp_path, model, "a.png").run()
    assert isinstance(error, MemoryError)
    assert names(tmp_path) == []


def test_an_image_that_changes_while_it_is_read_fails(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(path: Path, *arguments: Any) -> Any:
        image = read_image(path, *arguments)
        save(path, levels(8, 8))
        return image

    monkeypatch.setattr(upscale_file, "read_image", change)
    ((_, error),) = make_run(tmp_path, model, "a.png").run()
    assert isinstance(error, InputError) and f"{tmp_path / 'a.png'} was changed while it was read." in str(error)


def test_an_image_that_disappears_fails(tmp_path: Path, model: LoadedModel) -> None:
    run = make_run(tmp_path, model, "a.png", "b.png")
    (tmp_path / "a.png").unlink()
    (_, first), (_, second) = run.run()
    assert isinstance(first, InputError) and "There is no file" in str(first)
    assert isinstance(second, Report)


SETTINGS = {"scale": 4.0}


class Folder:
    """An output folder with one finished result."""

    def __init__(self, tmp_path: Path) -> None:
        self.source, self.output = tmp_path / "a.png", tmp_path / "out" / "a_x4.png"
        self.output.parent.mkdir()
        self.source.write_bytes(b"source")
        self.output.write_bytes(b"result")
        self.task = Task(self.source, Path("a_x4.png"))
        made = Entry("a_x4.png", fingerprint(self.source), SETTINGS, fingerprint(self.output), {})
        Journal(self.output.parent).append(made)

    def plan(self, existing: Existing = "refuse", settings: dict[str, float] = SETTINGS) -> Work:
        out = self.output.parent
        return plan_work([self.task], out, Journal(out), lambda task: [settings], existing)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize("existing", ["refuse", "skip", "overwrite"])
def test_a_finished_result_is_skipped_and_a_missing_one_made_again(folder: Folder, existing: Existing) -> None:
    assert folder.plan(existing) == Work((), ((folder.task, "done before"),))
    folder.output.unlink()
    assert folder.plan(existing) == Work((folder.task,), ())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("source", "was made from another image"),
        ("settings", "was made with other options"),
        ("journal", "is not in the folder's journal"),
        ("result", "was changed since"),
        ("result's size", "was changed since"),
    ],
)
def test_another_existing_result_is_refused_skipped_or_overwritten(folder: Folder, change: str, reason: str) -> None:
    settings = {"scale": 2.0} if change == "settings" else SETTINGS
    if change == "source":
        folder.source.write_bytes(b"sourcE")
    if change == "journal":
        Journal(folder.output.parent).path.unlink()
    if change.startswith("result"):
        folder.output.write_bytes(b"resulT" if change == "result" else b"result, edited")
    with fails(RefusedOutputError, f"{folder.output} already exists and {reason}."):
        folder.plan(settings=settings)
    assert folder.plan("skip", settings) == Work((), ((folder.task, "exists"),))
    assert folder.plan("overwrite", settings) == Work((folder.task,), ())


def test_the_error_names_one_of_many_existing_results(tmp_path: Path) -> None:
    tasks = [Task(tmp_path, Path(name)) for name in "abc"]
    for task in tasks:
        (tmp_path / task.output).touch()
    message = f"{tmp_path / 'a'} already exists and is not in the folder's journal; 2 more results exist too."
    with fails(RefusedOutputError, message):
        plan_work(tasks, tmp_path, Journal(tmp_path), lambda task: [SETTINGS], "refuse")


def test_a_missing_source_is_left_to_the_run(folder: Folder) -> None:
    folder.source.unlink()
    assert folder.plan().todo == (folder.task,)


def test_results_that_cannot_be_written_fail_before_any_work_and_alone(tmp_path: Path, model: LoadedModel) -> None:
    source, out = save(tmp_path / "in.png", levels(4, 5)), tmp_path / "out"
    out.mkdir()
    names = ["a" * 252 + ".png", "folder.png", "other.png", "one.png", "good.png"]
    tasks = [Task(source, Path(name)) for name in names]
    run = FolderRun(out, tasks, model, Request(refine=1), "overwrite")
    (out / "folder.png").mkdir()
    for name in ("one.png", "other.png"):
        (out / name).symlink_to("shared.png")
    results = list(run.run())
    reasons = ["file name too long", "is a folder", "Two results have the path"]
    for (_, error), reason in zip(results[:3], reasons, strict=True):
        assert isinstance(error, PcsrError) and reason in str(error)
    assert [task.output.name for task, result in results if isinstance(result, Report)] == ["other.png", "good.png"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a fork")
def test_an_image_that_kills_two_runs_is_not_tried_again_and_the_others_are_done(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(image: Any, *arguments: Any, **named: Any) -> Any:
        if image.size == (6, 7):
            os.kill(os.getpid(), signal.SIGKILL)
        return start_upscale(image, *arguments, **named)

    first = make_run(tmp_path, model, "a.png", "killer.png", "y.png", "z.png")
    save(tmp_path / "killer.png", levels(6, 7))
    monkeypatch.setattr(upscale_file, "start_upscale", kill)

    def run() -> FolderRun:
        return FolderRun(first.folder, first.work.todo, model, Request(refine=1))

    for _ in range(3):
        if (child := os.fork()) == 0:
            list(run().run())
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert "z.png" in names(tmp_path), "the second time, the killer is tried after the images that are not suspect"
    for _ in range(2):
        task, error = next(run().run())
        assert task.output.name == "killer.png" and isinstance(error, InputError)
        assert "killer.png is not tried again: 3 runs were killed while they worked on it." in str(error)
        list(run().run())
        assert names(tmp_path) == ["a.png", "y.png", "z.png"]
    save(tmp_path / "killer.png", levels(4, 5, seed=1))  # another image is tried
    ((task, report),) = run().run()
    assert isinstance(report, Report)


def test_a_run_forgets_images_that_were_done_just_before_a_kill(tmp_path: Path, model: LoadedModel) -> None:
    run = make_run(tmp_path, model, "a.png", "b.png")
    list(run.run())
    for _ in range(2):
        Started(run.folder).start(Path("a.png"), tmp_path / "a.png")
        list(FolderRun(run.folder, run.work.todo, model, Request(refine=1)).run())
        assert not (run.folder / STARTED_NAME).exists()


def test_an_interrupted_or_failed_image_does_not_count_as_killed(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any, **named: Any) -> Any:
        raise raised

    run = make_run(tmp_path, model, "a.png")
    monkeypatch.setattr(upscale_file, "start_upscale", stop)
    for raised in (KeyboardInterrupt(), SystemExit(), InputError("It failed.")):  # noqa: B007
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            list(FolderRun(run.folder, run.work.todo, model, Request(refine=1)).run())
        assert not (run.folder / STARTED_NAME).exists()


def test_an_entry_with_another_checksum_does_not_count(folder: Folder) -> None:
    wrong = Entry("a_x4.png", fingerprint(folder.source), SETTINGS, Fingerprint(6, "0" * 64), {})
    Journal(folder.output.parent).append(wrong)
    assert folder.plan("skip") == Work((), ((folder.task, "exists"),))


def test_checking_reports_its_progress(folder: Folder) -> None:
    shares: list[float] = []
    journal, out = Journal(folder.output.parent), folder.output.parent
    plan_work([folder.task] * 4, out, journal, lambda task: [SETTINGS], "refuse", shares.append)
    assert shares == [0.0, 0.25, 0.5, 0.75]


HOLDER = """
import sys
from pathlib import Path
from pcsr_cli.jobs.folder import lock
with lock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_one_process_holds_the_lock_until_it_is_killed(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    command = [sys.executable, "-c", HOLDER, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with fails(OutputError, f"Another pcsr is writing to {out}."), lock(out):
            pass
        holder.kill()
        holder.wait()
    for _ in range(2):
        with lock(out):
            pass


def test_a_file_cannot_be_the_output_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        fails(RefusedOutputError, f"{tmp_path / 'file'} is not a folder. Several images need a folder."),
        lock(tmp_path / "file"),
    ):
        pass
    with fails(OutputError, "cannot be written:"), lock(tmp_path / "file" / "out"):
        pass


def test_a_read_only_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:  # permissions do not apply to root
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(folder_module, "hold_lock", refuse)
    with fails(OutputError, f"The folder {tmp_path} cannot be written: read-only file system."), lock(tmp_path):
        pass


def test_folders_are_created_and_temporary_files_removed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "elsewhere").mkdir()
    name = f".pcsr-{'0' * 16}.part"
    leftovers = [tmp_path / "sub" / name]
    others = [tmp_path / "elsewhere" / name, tmp_path / "sub" / "result.png", tmp_path / "sub" / ".pcsr-mine.part"]
    for path in leftovers + others:
        path.touch()
    assert prepare_folders(tmp_path, [Path("sub/a.png"), Path("new/er/b.png")]) == {}
    assert (tmp_path / "new" / "er").is_dir()
    assert [path.exists() for path in leftovers + others] == [False, True, True, True]
    (tmp_path / "file").touch()
    refused = prepare_folders(tmp_path, [Path("file/a.png"), Path("sub/b.png"), Path("x" * 300) / "c.png"])
    assert [output.name for output in refused] == ["a.png", "c.png"]


@pytest.mark.parametrize("changed", [{}, {"strength": 0.5}, {"wrap": "x"}, {"background": (0, 0, 0)}])
def test_settings_that_older_journals_lack_are_recorded_only_if_used(
    model: LoadedModel, changed: dict[str, Any]
) -> None:
    key = settings_key(Request(refine=1, **changed), None, Path("a.png"), model)
    assert {name: value for name, value in key.items() if name in LATER_SETTINGS} == changed
