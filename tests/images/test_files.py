"""Files are written whole or not at all; what killed runs left is cleaned up, what live ones are at is not."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pcsr_cli.errors import OutputError, RefusedOutputError
from pcsr_cli.images import files
from pcsr_cli.images.files import TEMPORARY_PREFIX, put_in_place, remove_leftovers, written_whole
from tests.failing import fails

needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="locks tell a live run from a dead one")


@pytest.mark.parametrize("name", ["x" * 300, "file/within", "a\0b", "gone"])
def test_a_name_that_can_be_no_file_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / name
    assert not files.exists(path) and not files.is_file(path) and not files.is_folder(path)
    assert files.exists(tmp_path / "file") and files.is_file(tmp_path / "file")
    assert files.exists(tmp_path) and files.is_folder(tmp_path)


def test_what_is_put_in_place_stays_and_nothing_else(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with written_whole(output) as temporary:
        temporary.write_text("all of it")
        assert not output.exists()
        put_in_place(temporary, output)
    with pytest.raises(RuntimeError), written_whole(output) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert output.read_text() == "all of it"


@pytest.mark.parametrize("links", [True, False])
def test_what_came_meanwhile_is_not_replaced_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def unsupported(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", unsupported)
    output = tmp_path / "out"
    with written_whole(output) as temporary:
        temporary.write_text("first")
        put_in_place(temporary, output, replace=False)
    with fails(RefusedOutputError, f"{output} exists already."), written_whole(output) as temporary:
        temporary.write_text("second")
        put_in_place(temporary, output, replace=False)
    assert output.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_told_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="out cannot be written"), written_whole(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_where_there_are_no_locks_nothing_is_kept_open_and_nothing_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0  # noqa: PTH208 - not files
    with written_whole(tmp_path / "out") as temporary:
        after = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0  # noqa: PTH208 - not files
        assert after == before
        assert remove_leftovers(tmp_path) == 0
        put_in_place(temporary, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@needs_locks
def test_files_of_a_live_run_are_no_leftovers(tmp_path: Path) -> None:
    with written_whole(tmp_path / "out") as temporary:
        temporary.write_text("being written")
        assert remove_leftovers(tmp_path) == 0
        assert temporary.read_text() == "being written"
        put_in_place(temporary, tmp_path / "out")


@needs_locks
def test_files_of_a_run_that_was_killed_are(tmp_path: Path) -> None:
    code = "import os, pathlib, sys\nfrom pcsr_cli.images.files import written_whole\n"
    code += "with written_whole(pathlib.Path(sys.argv[1]) / 'out'):\n    os.kill(os.getpid(), 9)\n"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -9
    assert [path.name.startswith(TEMPORARY_PREFIX) for path in tmp_path.iterdir()] == [True]
    assert remove_leftovers(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_nothing_but_temporary_files_is_a_leftover(tmp_path: Path) -> None:
    (tmp_path / "mine.part").touch()
    (tmp_path / ".pcsr-journal.jsonl").touch()
    (tmp_path / ".pcsr-folder.part").mkdir()
    (tmp_path / "elsewhere").touch()
    (tmp_path / ".pcsr-link.part").symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.iterdir())
    assert remove_leftovers(tmp_path) == 0
    assert sorted(tmp_path.iterdir()) == before


def test_threads_that_write_at_once_do_not_upset_the_modes_of_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:

        def write(number: int) -> None:
            for _ in range(50):
                with written_whole(tmp_path / str(number)) as temporary:
                    put_in_place(temporary, tmp_path / str(number))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
    finally:
        assert os.umask(before) == 0o027
