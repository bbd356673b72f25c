"""A folder run: finished, skipped and repeated images, full disks, and the lock of the folder."""

import contextlib
import gc
import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pcsr_cli.api import load_model, start_upscale
from pcsr_cli.engine.rules import Threshold
from pcsr_cli.errors import InputError, OutputError, PcsrError, RefusedOutputError
from pcsr_cli.images.files import Fingerprint, machine
from pcsr_cli.images.read import read_image
from pcsr_cli.images.write import open_writer
from pcsr_cli.jobs import claims as claims_module
from pcsr_cli.jobs import folder as folder_module
from pcsr_cli.jobs import journal as journal_module
from pcsr_cli.jobs import upscale_file
from pcsr_cli.jobs.claims import CLAIMS, Claims, describe_run
from pcsr_cli.jobs.find import Shard, Task
from pcsr_cli.jobs.folder import (
    LATER_SETTINGS,
    Existing,
    FolderRun,
    Outcome,
    disk_is_full,
    prepare_folders,
    settings_key,
)
from pcsr_cli.jobs.journal import HIDDEN, OLD_NAME, Journal, Segment, segments
from pcsr_cli.jobs.report import Report
from pcsr_cli.jobs.request import Job, Request
from pcsr_cli.model.registry import LoadedModel
from tests.failing import fails
from tests.images import levels, save
from tests.jobs.test_journal import FROM_VERSION_1


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder))


class Run(FolderRun):
    """A run that keeps what became of each image."""

    def __init__(self, folder: Path, tasks: Iterable[Task], model: LoadedModel, request: Request, *more: Any) -> None:
        self.outcomes: list[tuple[Task, Outcome]] = []

        def report(task: Task, outcome: Outcome) -> None:
            self.outcomes.append((task, outcome))

        super().__init__(folder, tasks, model, request, *more, report=report)

    def results(self, jobs: int = 1) -> list[tuple[Task, Outcome]]:
        """Run, and return the images that are not skipped in the order in which they ended."""
        with self:
            self.run(jobs)
        return [(task, outcome) for task, outcome in self.outcomes if not isinstance(outcome, str)]

    def skipped(self) -> dict[str, Outcome]:
        return {task.output.name: outcome for task, outcome in self.outcomes if isinstance(outcome, str)}


def make_run(tmp_path: Path, model: LoadedModel, *names: str, existing: Existing = "refuse", **options: Any) -> Run:
    """Prepare a run of some images into ``out``."""
    tasks = []
    for name in names:
        save(tmp_path / name, levels(4, 5))
        tasks.append(Task(tmp_path / name, Path(name), Path(name)))
    return Run(tmp_path / "out", tasks, model, Request(refine=1, **options), existing)


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "out").glob("*.png"))


def test_each_result_is_in_the_journal_and_not_made_again(tmp_path: Path, model: LoadedModel) -> None:
    results = make_run(tmp_path, model, "a.png", "b.png").results()
    assert [type(result) for _, result in results] == [Report, Report]
    assert names(tmp_path) == ["a.png", "b.png"]
    assert all(Journal(tmp_path / "out").find(Path(name)) for name in ("a.png", "b.png"))
    again = make_run(tmp_path, model, "a.png", "b.png")
    assert again.skipped() == {"a.png": "done before", "b.png": "done before"}
    assert again.results() == []


def test_a_run_resumes_with_the_journal_of_version_1(tmp_path: Path, model: LoadedModel) -> None:
    make_run(tmp_path, model, "a.png").results()
    (segment,) = segments(tmp_path / "out")
    _, text = segment.read_text().splitlines()
    segment.unlink()
    line = json.loads(text)
    for part in ("source", "result"):
        del line[part]["modified"]
    line["way"], line["told"], line["version"] = line.pop("settings"), line.pop("info"), 1
    line["way"]["routing"] = "Threshold(cut=0.5)"
    assert line.keys() == json.loads(FROM_VERSION_1).keys()
    assert line["way"].keys() == json.loads(FROM_VERSION_1)["way"].keys()
    (tmp_path / "out" / OLD_NAME).write_text(json.dumps(line))
    assert make_run(tmp_path, model, "a.png").skipped() == {"a.png": "done before"}
    assert make_run(tmp_path, model, "a.png", existing="overwrite", routing=Threshold(0.4)).skipped() == {}


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
    run = make_run(tmp_path, model, "a.png", "b.png", "c.png", "d.png")
    with fails(OutputError, f"The disk is full; the run stopped at {tmp_path / 'out' / 'b.png'}."):
        run.results(jobs)
    assert [type(outcome) for _, outcome in run.outcomes] == [Report, OutputError]
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
    finished = [task.output.name for task, result in run.results() if isinstance(result, Report)]
    assert finished == ["a.png", "c.png", "b.png"]
    assert names(tmp_path) == ["a.png", "b.png", "c.png"]


def test_an_image_that_runs_out_of_memory_twice_fails(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*arguments: Any, **named: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(upscale_file, "start_upscale", short)
    ((_, error),) = make_run(tmp_path, model, "a.png").results()
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
    ((_, error),) = make_run(tmp_path, model, "a.png").results()
    assert isinstance(error, InputError) and f"{tmp_path / 'a.png'} was changed while it was read." in str(error)


def test_an_image_that_disappears_fails(tmp_path: Path, model: LoadedModel) -> None:
    run = make_run(tmp_path, model, "a.png", "b.png")
    (tmp_path / "a.png").unlink()
    (_, first), (_, second) = run.results()
    assert isinstance(first, InputError) and "There is no file" in str(first)
    assert isinstance(second, Report)


@pytest.fixture
def finished(tmp_path: Path, model: LoadedModel) -> Path:
    """A folder with one image, and its result in ``out``."""
    make_run(tmp_path, model, "a.png").results()
    os.utime(tmp_path / "out" / "a.png", (1, 1))  # the time of a file that changes at once may stay the same
    return tmp_path


def again(finished: Path, model: LoadedModel, existing: Existing = "refuse", **options: Any) -> Run:
    task = Task(finished / "a.png", Path("a.png"), Path("a.png"))
    return Run(finished / "out", [task], model, Request(refine=1, **options), existing)


@pytest.mark.parametrize("existing", ["refuse", "skip", "overwrite"])
def test_a_finished_result_is_skipped_and_a_missing_one_made_again(
    finished: Path, model: LoadedModel, existing: Existing
) -> None:
    assert again(finished, model, existing).skipped() == {"a.png": "done before"}
    (finished / "out" / "a.png").unlink()
    assert again(finished, model, existing).skipped() == {}


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
def test_another_existing_result_is_refused_skipped_or_overwritten(
    finished: Path, model: LoadedModel, change: str, reason: str
) -> None:
    output = finished / "out" / "a.png"
    options: dict[str, Any] = {"strength": 0.5} if change == "settings" else {}
    if change == "source":
        save(finished / "a.png", levels(4, 5, seed=1))
    if change == "journal":
        shutil.rmtree(finished / "out" / HIDDEN)
    if change.startswith("result"):
        content = output.read_bytes()
        output.write_bytes(content[::-1] if change == "result" else content + b"edited")
    with fails(RefusedOutputError, f"{output} already exists and {reason}."):
        again(finished, model, **options)
    assert again(finished, model, "skip", **options).skipped() == {"a.png": "exists"}
    assert again(finished, model, "overwrite", **options).skipped() == {}


def test_unchanged_files_are_not_read_again(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, model, "a.png")
    os.utime(tmp_path / "a.png", (1, 1))
    run.results()

    def refuse(path: Path) -> Fingerprint:
        raise AssertionError(f"{path} is read")

    monkeypatch.setattr(journal_module, "fingerprint", refuse)
    assert again(tmp_path, model).skipped() == {"a.png": "done before"}
    os.utime(tmp_path / "a.png", (2, 2))
    with pytest.raises(AssertionError, match="is read"):
        again(tmp_path, model)


def test_the_error_names_one_of_many_existing_results(tmp_path: Path, model: LoadedModel) -> None:
    (tmp_path / "out").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / "out" / name).touch()
    output = tmp_path / "out" / "a.png"
    message = f"{output} already exists and is not in the folder's journal; 2 more results exist too."
    with fails(RefusedOutputError, message):
        make_run(tmp_path, model, "a.png", "b.png", "c.png")


def test_refusals_after_the_first_images_cost_only_their_own_result(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "CHUNK", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "c.png").touch()
    run = make_run(tmp_path, model, "a.png", "b.png", "c.png", "d.png", "e.png")
    assert (run.total, run.all_listed) == (2, False)
    outcomes = {task.output.name: outcome for task, outcome in run.results()}
    assert (run.total, run.all_listed) == (5, True)
    assert "already exists and is not in the folder's journal" in str(outcomes.pop("c.png"))
    assert [type(outcome) for outcome in outcomes.values()] == [Report] * 4
    assert (tmp_path / "out" / "c.png").stat().st_size == 0


def test_a_run_keeps_only_the_images_that_are_listed_at_once(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "CHUNK", 20)
    kept: list[tuple[int, int]] = []

    def refuse(jobs: Iterator[Job], ahead: int) -> Generator[tuple[Job, Exception], None, None]:
        for job in jobs:
            yield job, InputError("It failed.")

    def report(task: Task, outcome: Outcome) -> None:
        if task.output.stem.endswith("99"):
            gc.collect()  # the tasks of other tests
            kept.append((sum(type(each) is Task for each in gc.get_objects()), psutil.Process().num_fds()))

    tasks = (Task(tmp_path / name, Path(name)) for name in map(str, range(300)))
    with FolderRun(tmp_path / "out", tasks, model, Request(refine=1), report=report) as run:
        run.run(execute=refuse)
    images, files = zip(*kept, strict=True)
    assert (len(kept), run.reported) == (3, 300)
    assert max(images) <= 3 * 20 and len(set(files)) == 1


def test_two_images_with_one_result_are_refused_or_the_second_fails(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(existing: Existing) -> Run:
        tasks = [
            Task(save(tmp_path / name, levels(4, 5, seed=len(name))), Path("a.png")) for name in ("a.png", "aa.png")
        ]
        return Run(tmp_path / "out", tasks, model, Request(refine=1), existing)

    with fails(RefusedOutputError, "would both become a.png."):
        run("overwrite")
    monkeypatch.setattr(folder_module, "CHUNK", 1)
    for existing in ("refuse", "overwrite"):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        (_, report), (_, error) = run(existing).results()
        assert isinstance(report, Report) and "would both become a.png." in str(error)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_a_partition_of_the_images_and_resume_with_another_count(
    tmp_path: Path, model: LoadedModel, count: int
) -> None:
    files = [f"{number}.png" for number in range(6)]

    def run(shard: Shard) -> Run:
        make_run(tmp_path, model, *files)
        tasks = [Task(tmp_path / name, Path(name), Path(name)) for name in files]
        return Run(tmp_path / "out", tasks, model, Request(refine=1), "refuse", shard)

    done = [task.output.name for number in range(count) for task, _ in run(Shard(number + 1, count)).results()]
    assert sorted(done) == files == names(tmp_path)
    assert len(segments(tmp_path / "out")) <= count
    others = [run(Shard(number + 1, 5)) for number in range(5)]
    assert all(other.results() == [] for other in others)
    skipped = [name for other in others for name in other.skipped()]
    assert sorted(skipped) == files


def test_a_shard_refuses_the_results_of_other_options_in_another_shard(tmp_path: Path, model: LoadedModel) -> None:
    files = [f"{number}.png" for number in range(6)]
    make_run(tmp_path, model, *files)
    tasks = [Task(tmp_path / name, Path(name), Path(name)) for name in files]
    Run(tmp_path / "out", tasks, model, Request(refine=1), "refuse", Shard(1, 2)).results()
    with fails(RefusedOutputError, "was made with other options, by another shard"):
        Run(tmp_path / "out", tasks, model, Request(refine=9), "refuse", Shard(2, 2))


def test_a_missing_source_is_left_to_the_run(finished: Path, model: LoadedModel) -> None:
    (finished / "a.png").unlink()
    assert again(finished, model).skipped() == {}


def test_results_that_cannot_be_written_fail_before_any_work_and_alone(tmp_path: Path, model: LoadedModel) -> None:
    source, out = save(tmp_path / "in.png", levels(4, 5)), tmp_path / "out"
    out.mkdir()
    names = ["a" * 252 + ".png", "folder.png", "other.png", "one.png", "good.png"]
    tasks = [Task(source, Path(name)) for name in names]
    run = Run(out, tasks, model, Request(refine=1), "overwrite")
    (out / "folder.png").mkdir()
    for name in ("one.png", "other.png"):
        (out / name).symlink_to("shared.png")
    results = run.results()
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

    def run() -> Run:
        tasks = [Task(tmp_path / name, Path(name)) for name in ("a.png", "killer.png", "y.png", "z.png")]
        return Run(first.folder, tasks, model, Request(refine=1))

    for _ in range(3):
        if (child := os.fork()) == 0:
            run().results()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert "z.png" in names(tmp_path), "the second time, the killer is tried after the images that are not suspect"
    for _ in range(2):
        outcomes = {task.output.name: outcome for task, outcome in run().results()}
        error = outcomes.pop("killer.png")
        assert isinstance(error, InputError) and all(isinstance(other, Report) for other in outcomes.values())
        assert "killer.png is not tried again: 3 runs were killed while they worked on it." in str(error)
        assert names(tmp_path) == ["a.png", "y.png", "z.png"]
    save(tmp_path / "killer.png", levels(4, 5, seed=1))  # another image is tried
    ((_, report),) = run().results()
    assert isinstance(report, Report)


def claimed(folder: Path) -> list[str]:
    return [path.name for path in (folder / HIDDEN / CLAIMS).iterdir()]


def test_a_run_forgets_images_that_were_done_just_before_a_kill(finished: Path, model: LoadedModel) -> None:
    with Claims(finished / "out", replace(describe_run(), id="0-0-0-0")) as killed:
        killed.take(Path("a.png"), finished / "a.png")
        killed._held.clear()
    assert len(claimed(finished / "out")) == 1
    run = again(finished, model)
    assert run.results() == [] and run.skipped() == {"a.png": "done before"}
    assert claimed(finished / "out") == []


def test_an_interrupted_or_failed_image_does_not_count_as_killed(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any, **named: Any) -> Any:
        raise raised

    monkeypatch.setattr(upscale_file, "start_upscale", stop)
    for raised in (KeyboardInterrupt(), SystemExit(), InputError("It failed.")):  # noqa: B007
        run = make_run(tmp_path, model, "a.png")
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            run.results()
        assert claimed(run.folder) == []


def test_an_entry_with_another_checksum_does_not_count(finished: Path, model: LoadedModel) -> None:
    (entry,) = Journal(finished / "out").find(Path("a.png"))
    shutil.rmtree(finished / "out" / HIDDEN)
    Segment(finished / "out", describe_run()).append(replace(entry, result=Fingerprint(entry.result.size, "0" * 64)))
    assert again(finished, model, "skip").skipped() == {"a.png": "exists"}


def test_checking_reports_its_progress(finished: Path, model: LoadedModel) -> None:
    shares: list[float] = []
    tasks = [Task(finished / "a.png", Path(name)) for name in "abcd"]
    FolderRun(finished / "out", tasks, model, Request(refine=1), report=lambda *_: None, checking=shares.append)
    assert shares == [0.0, 0.25, 0.5, 0.75]


def test_two_runs_at_once_make_each_result_once(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(*arguments: Any, **named: Any) -> Any:
        begun.set()
        go_on.wait(5)
        return start_upscale(*arguments, **named)

    monkeypatch.setattr(upscale_file, "start_upscale", wait)
    monkeypatch.setattr(folder_module, "WAIT_SECONDS", 0.01)
    files = [f"{number}.png" for number in range(8)]
    first, second = make_run(tmp_path, model, *files), make_run(tmp_path, model, *files)
    thread = threading.Thread(target=first.results)
    thread.start()
    begun.wait(5)
    threading.Timer(0.2, go_on.set).start()
    second.results()
    thread.join()
    outcomes: dict[str, list[str]] = {name: [] for name in files}
    for task, outcome in first.outcomes + second.outcomes:
        outcomes[task.output.name].append("done" if isinstance(outcome, Report) else str(outcome))
    assert list(map(sorted, outcomes.values())) == [["done", "done before"]] * 8
    assert any(isinstance(outcome, Report) for _, outcome in second.outcomes), "they share the work"
    assert claimed(first.folder) == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks")
def test_runs_that_are_killed_at_random_moments_make_each_result_once(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "WAIT_SECONDS", 0.02)
    for module in (folder_module, claims_module):  # chance may kill three runs during one image
        monkeypatch.setattr(module, "MAX_STARTS", 20)
    files = [f"{number}.png" for number in range(30)]
    make_run(tmp_path, model, *files).results()
    expected = {name: (tmp_path / "out" / name).read_bytes() for name in files}
    shutil.rmtree(tmp_path / "out")
    tasks = [Task(tmp_path / name, Path(name), Path(name)) for name in files]
    chance = random.Random(5)

    def start(shard: Shard | None) -> int:
        if (child := os.fork()) == 0:

            def log(task: Task, outcome: Outcome) -> None:
                with (tmp_path / "log").open("a") as file:
                    file.write("" if isinstance(outcome, str) else f"{type(outcome).__name__} {task.output}\n")

            with FolderRun(tmp_path / "out", tasks, model, Request(refine=1), shard=shard, report=log) as run:
                run.run()
            os._exit(0)
        return child

    live = [start(None) for _ in range(3)]
    for _ in range(10):
        time.sleep(chance.uniform(0.02, 0.3))
        killed = live.pop(0)
        os.kill(killed, signal.SIGKILL)
        os.waitpid(killed, 0)
        live.append(start(chance.choice([None, Shard(1, 2), Shard(2, 3)])))
    for child in (*live, start(None)):
        os.waitpid(child, 0)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in files} == expected
    logged = (tmp_path / "log").read_text().splitlines()
    assert all(line.startswith("Report ") for line in logged) and len(set(logged)) == len(logged)
    assert claimed(tmp_path / "out") == []


def test_a_read_only_folder_is_an_error(tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:  # permissions do not apply to root
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(claims_module, "hold_lock", refuse)
    run = make_run(tmp_path, model, "a.png")
    with fails(OutputError, f"The folder {tmp_path / 'out'} cannot be written: read-only file system."), run:
        pass


def test_folders_are_created_and_temporary_files_removed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "elsewhere").mkdir()
    name = f".pcsr-{machine()}01234567.part"
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
