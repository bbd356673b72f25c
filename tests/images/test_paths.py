"""The paths of output files are checked before any work."""

import errno
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from pcsr_cli.errors import OutputError, RefusedOutputError
from pcsr_cli.images import paths
from pcsr_cli.images.files import TEMPORARY_PREFIX, TEMPORARY_SUFFIX, machine, remove_leftovers
from pcsr_cli.images.paths import check_outputs, ignores_case, refused_outputs
from tests.failing import fails
from tests.images import save
from tests.images.test_files import missing, needs_locks


def test_names_that_the_file_system_refuses_are_found_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch = Path.touch

    def refuse(self: Path, mode: int = 0o666, exist_ok: bool = True) -> None:
        if ":" in self.name or self.name.endswith("."):
            raise OSError(errno.EINVAL, "Invalid argument")
        touch(self, mode, exist_ok)

    monkeypatch.setattr(Path, "touch", refuse)
    outputs = [tmp_path / name for name in ("12:30.png", "b.", "good.png")]
    refused = refused_outputs(outputs)
    assert list(refused) == outputs[:2]
    with fails(
        OutputError, "12:30.png cannot be written: the file system refuses the name (invalid argument).", "name"
    ):
        check_outputs(outputs[:1], [], overwrite=False)
    assert list(tmp_path.iterdir()) == []


@needs_locks
def test_a_trial_that_another_run_removes_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = Path.mkdir
    made: list[Path] = []

    def remove_first(self: Path, mode: int) -> None:
        mkdir(self, mode)
        made.append(self)
        if len(made) == 1:
            assert remove_leftovers(tmp_path) == 1

    monkeypatch.setattr(Path, "mkdir", remove_first)
    assert refused_outputs([tmp_path / "a.png"]) == {}
    assert len(made) == 2 and list(tmp_path.iterdir()) == []


def test_a_folder_may_accept_files_but_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing("mkdir", errno.EPERM, monkeypatch)
    assert refused_outputs([tmp_path / "a.png"]) == {}
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_replaced_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = save(tmp_path / "out.png")
    check_outputs([output], [], overwrite=True)
    for number in (errno.EPERM, errno.EBUSY):  # an immutable file, or one of another user in a folder such as /tmp
        with monkeypatch.context() as patch:

            def refuse(path: Path, number: int = number) -> None:
                raise OSError(number, os.strerror(number)) if path == output else NotADirectoryError

            patch.setattr(os, "rmdir", refuse)
            with fails(OutputError, f"{output} cannot be written:", "Choose another name, or remove the file."):
                check_outputs([output], [], overwrite=True)
    monkeypatch.setattr(paths, "_mounts", lambda: {output.resolve()})
    with fails(OutputError, "it is mounted as a single file.", "Mount the folder"):
        check_outputs([output], [], overwrite=True)
    assert output.exists()


@needs_locks
def test_files_of_killed_processes_beside_an_output_are_removed(tmp_path: Path) -> None:
    empty, mine, file = (tmp_path / f"{TEMPORARY_PREFIX}{machine()}{digit * 8}{TEMPORARY_SUFFIX}" for digit in "abc")
    file.touch()
    for folder in (empty, mine):
        folder.mkdir()
        (folder / "out.png").touch()
    (mine / "notes.txt").write_text("not of a killed process")
    check_outputs([tmp_path / "out.png"], [], overwrite=False)
    assert list(tmp_path.iterdir()) == [mine]


def test_an_interruption_while_names_are_tried_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path, *arguments: object, **named: object) -> None:
        path.write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "touch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        refused_outputs([tmp_path / "a.png"])
    assert list(tmp_path.iterdir()) == []


def test_existing_files_need_overwrite(tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    check_outputs([output], [tmp_path / "in.png"], overwrite=False)
    assert list(tmp_path.iterdir()) == []
    save(output)
    with fails(RefusedOutputError, f"{output} already exists."):
        check_outputs([output], [], overwrite=False)
    check_outputs([output], [], overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_must_not_be_an_input(tmp_path: Path, overwrite: bool) -> None:
    source = save(tmp_path / "in.png")
    (tmp_path / "hard.png").hardlink_to(source)
    (tmp_path / "soft.png").symlink_to(source)
    for output in (source, tmp_path / "hard.png", tmp_path / "soft.png", tmp_path / "." / "in.png"):
        with fails(RefusedOutputError, f"The output {output} is also an input."):
            check_outputs([tmp_path / "new.png", output], [tmp_path / "gone.png", source], overwrite)


def test_two_results_need_two_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "out.png")
    for other in ("out.png", "folder/../out.png", "link.png"):
        with fails(RefusedOutputError, "Two results have the path"):
            check_outputs([tmp_path / "out.png", tmp_path / other], [], overwrite=True)
    for same in (False, True):
        monkeypatch.setattr(paths, "ignores_case", lambda folder, same=same: same)
        with fails(RefusedOutputError, "Two results have the path") if same else nullcontext():
            check_outputs([tmp_path / "new.png", tmp_path / "NEW.png"], [], overwrite=False)


def test_case_sensitivity_is_that_of_the_file_system(tmp_path: Path) -> None:
    (tmp_path / "Probe").touch()
    assert ignores_case(tmp_path / "not" / "there") == (tmp_path / "pROBE").exists()


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    with fails(RefusedOutputError, f"The output {tmp_path} is a folder."):
        check_outputs([tmp_path], [], overwrite=True)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        (tmp_path / "link.png").symlink_to("pipe.png")
        for name in ("pipe.png", "link.png"):
            with fails(RefusedOutputError, f"The output {tmp_path / name} is not a regular file."):
                check_outputs([tmp_path / name], [], overwrite=True)


def test_impossible_paths_are_output_errors(tmp_path: Path) -> None:
    (tmp_path / "circle.png").symlink_to("circle.png")
    (tmp_path / "file").touch()
    for name, advice in (
        (f"{'x' * 300}.png", "Choose another name."),
        ("circle.png", "Choose another name."),
        ("nowhere/out.png", "Choose a folder that exists and can be written."),
        ("file/out.png", "Choose a folder that exists and can be written."),
    ):
        with fails(OutputError, "cannot be written:", advice):
            check_outputs([tmp_path / name], [], overwrite=False)
