"""The folder of results is held by one run at a time, and what killed runs left in it goes away."""

import subprocess
import sys
from pathlib import Path

import pytest

from pcsr_cli.errors import OutputError, RefusedOutputError
from pcsr_cli.jobs import folder as place
from pcsr_cli.jobs.folder import held, make_room
from tests.failing import fails

HOLDER = """
import sys
from pathlib import Path
from pcsr_cli.jobs.folder import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_held_by_one_process_and_free_when_it_is_killed(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    command = [sys.executable, "-c", HOLDER, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with fails(OutputError, f"Another pcsr is writing into {out}."), held(out):
            pass
        holder.kill()
        holder.wait()
    with held(out):
        pass
    with held(out):  # nor does the one who let go hold on to it
        pass


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        fails(RefusedOutputError, f"{tmp_path / 'file'} is no folder, and the results of many pictures need one."),
        held(tmp_path / "file"),
    ):
        pass
    with fails(OutputError, "Nothing can be written to the folder"), held(tmp_path / "file" / "out"):
        pass


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def __init__(self, path: Path, timeout: int) -> None:
            pass

        def acquire(self) -> None:  # root may write anywhere, so permissions would prove nothing
            raise OSError(30, "Read-only file system")

    monkeypatch.setattr(place, "FileLock", Refusing)
    with fails(OutputError, f"Nothing can be written to the folder {tmp_path}: read-only file system."), held(tmp_path):
        pass


def test_room_is_made_and_leftovers_are_removed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "elsewhere").mkdir()
    leftovers = [tmp_path / ".pcsr-1.part", tmp_path / "sub" / ".pcsr-2.part"]
    others = [tmp_path / "elsewhere" / ".pcsr-3.part", tmp_path / "sub" / "result.png"]
    for path in leftovers + others:
        path.touch()
    make_room(tmp_path, [Path("sub/a.png"), Path("new/er/b.png")])
    assert (tmp_path / "new" / "er").is_dir()
    assert [path.exists() for path in leftovers + others] == [False, False, True, True]
    (tmp_path / "file").touch()
    with fails(OutputError, "Nothing can be written to the folder"):
        make_room(tmp_path, [Path("file/a.png")])
