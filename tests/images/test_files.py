"""Files are whole or absent, and temporary files are cleaned up after killed runs."""

import errno
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pcsr_cli.errors import OutputError, RefusedOutputError
from pcsr_cli.images import files
from pcsr_cli.images.files import (
    TEMPORARY_PREFIX,
    atomic_write,
    finite,
    hold_lock,
    read_bytes,
    remove_leftovers,
)
from tests.failing import fails

needs_locks = pytest.mark.skipif(
    sys.platform == "win32", reason="only locks distinguish a running process from a killed one"
)


@pytest.mark.parametrize("name", ["x" * 300, "file/within", "a\0b", "gone"])
def test_impossible_names_do_not_exist(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / name
    assert not files.exists(path) and not files.is_file(path) and not files.is_folder(path)
    assert files.exists(tmp_path / "file") and files.is_file(tmp_path / "file")
    assert files.exists(tmp_path) and files.is_folder(tmp_path)


def test_only_a_finished_file_gets_its_name(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with atomic_write(output) as temporary:
        temporary.write_text("complete")
        assert not output.exists()
    with pytest.raises(RuntimeError), atomic_write(output) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert output.read_text() == "complete"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_created_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def unsupported(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", unsupported)
    output = tmp_path / "out"
    with atomic_write(output, replace=False) as temporary:
        temporary.write_text("first")
    with fails(RefusedOutputError, f"{output} already exists."), atomic_write(output, replace=False) as temporary:
        temporary.write_text("second")
    assert output.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="out cannot be written"), atomic_write(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_not_replaced_by_that_of_removing_the_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing("unlink", errno.EROFS, monkeypatch)
    with fails(OutputError, "out cannot be written: no space left on device."), atomic_write(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_without_locks_no_file_stays_open_or_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0  # noqa: PTH208 - not files
    with atomic_write(tmp_path / "out"):
        after = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0  # noqa: PTH208 - not files
        assert after == before
        assert remove_leftovers(tmp_path) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@needs_locks
def test_files_of_a_running_process_are_kept(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "out") as temporary:
        temporary.write_text("being written")
        assert remove_leftovers(tmp_path) == 0
        assert temporary.read_text() == "being written"


@needs_locks
def test_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    code = "import os, pathlib, sys\nfrom pcsr_cli.images.files import atomic_write\n"
    code += "with atomic_write(pathlib.Path(sys.argv[1]) / 'out'):\n    os.kill(os.getpid(), 9)\n"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -9
    assert [path.name.startswith(TEMPORARY_PREFIX) for path in tmp_path.iterdir()] == [True]
    assert remove_leftovers(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_temporary_files_of_other_machines_are_removed_after_a_day(tmp_path: Path) -> None:
    file = tmp_path / f".pcsr-{'0' * 16}.part"
    file.touch()
    assert remove_leftovers(tmp_path) == 0
    os.utime(file, (1, 1))
    assert remove_leftovers(tmp_path) == 1


def test_only_temporary_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "mine.part").touch()
    (tmp_path / ".pcsr-journal.jsonl").touch()
    (tmp_path / ".pcsr-folder.part").mkdir()
    (tmp_path / "elsewhere").touch()
    (tmp_path / ".pcsr-link.part").symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.iterdir())
    assert remove_leftovers(tmp_path) == 0
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="no permission bits")
def test_a_new_file_keeps_the_permissions_of_the_replaced_one(tmp_path: Path) -> None:
    output = tmp_path / "out"
    before = os.umask(0o027)
    try:
        with atomic_write(output):
            pass
        assert output.stat().st_mode & 0o777 == 0o640
        for mode in (0o600, 0o664, 0o444):
            output.chmod(mode)
            with atomic_write(output) as temporary:
                temporary.write_text("new")
            assert (output.read_text(), output.stat().st_mode & 0o777) == ("new", mode)
    finally:
        os.umask(before)


@pytest.mark.skipif(sys.platform == "win32", reason="no permission bits")
def test_a_private_file_stays_private_while_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out"
    output.touch()
    for mode, during in ((0o600, 0o600), (0o440, 0o640), (0o604, 0o604)):
        output.chmod(mode)
        with atomic_write(output) as temporary:
            assert temporary.stat().st_mode & 0o777 == during
        assert output.stat().st_mode & 0o777 == mode

    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if os.getuid() == 0:  # the user is not in the group: what is its own is not for another group
        os.chown(output, 0, 12345)
        output.chmod(0o674)
        monkeypatch.setattr(os, "chown", refuse)
        with atomic_write(output):
            pass
        assert output.stat().st_mode & 0o777 == 0o644


def missing(name: str, number: int, monkeypatch: pytest.MonkeyPatch, module: object = os) -> None:
    """Make a function fail as on a file system that does not support it."""

    def refuse(*arguments: object, **named: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, name, refuse)


@pytest.mark.parametrize("name", ["fsync", "link", "chmod", "chown"])
@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_may_lack_an_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    missing(name, number, monkeypatch)
    for replace in (False, True):
        with atomic_write(tmp_path / "out", replace) as temporary:
            temporary.write_text(str(replace))
    assert (tmp_path / "out").read_text() == "True"
    with fails(RefusedOutputError, "already exists"), atomic_write(tmp_path / "out", replace=False):
        pass


def test_a_disk_that_fails_to_sync_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing("fsync", errno.EIO, monkeypatch)
    with fails(OutputError, "out cannot be written: input/output error."), atomic_write(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


@needs_locks
def test_a_lock_excludes_others_and_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    with hold_lock(path) as locked, pytest.raises(BlockingIOError), hold_lock(path):
        pass
    assert locked
    for number in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
        missing("flock", number, monkeypatch, pytest.importorskip("fcntl"))
        with hold_lock(path) as locked:
            assert not locked


def test_a_lock_never_follows_a_link_or_waits_for_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("link", "the path is a symbolic link"), ("pipe", "the path is not a regular file")):
        with pytest.raises(OSError, match=reason), hold_lock(tmp_path / name):
            pass
    assert not (tmp_path / "target").exists()


@needs_locks
def test_two_processes_may_make_a_lock_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def open_second(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT and not path.exists():
            os.close(opened(path, os.O_CREAT))
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", open_second)
    with hold_lock(tmp_path / "lock") as locked:
        assert locked


@needs_locks
def test_a_read_only_lock_of_another_user_is_held_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refuse(path: Path, flags: int, *mode: int) -> int:  # permissions do not apply to root
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *mode)

    with hold_lock(tmp_path / "lock"):
        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(BlockingIOError), hold_lock(tmp_path / "lock"):
            pass
    with hold_lock(tmp_path / "lock") as locked:
        assert locked


@pytest.mark.skipif(sys.platform == "win32", reason="no permission bits")
@pytest.mark.parametrize(("folder", "file"), [(0o2775, 0o664), (0o777, 0o666), (0o755, 0o600), (0o700, 0o600)])
def test_files_of_a_shared_folder_are_shared(tmp_path: Path, folder: int, file: int) -> None:
    tmp_path.chmod(folder)
    before = os.umask(0o077)
    try:
        with hold_lock(tmp_path / "lock"):
            pass
        assert (tmp_path / "lock").stat().st_mode & 0o777 == file
    finally:
        os.umask(before)


def test_a_file_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, bool]] = []
    output = tmp_path / "out"
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append((os.fstat(handle).st_size, output.exists())))
    with atomic_write(output) as temporary:
        temporary.write_text("new")
    assert synced == [(3, False)]


def test_concurrent_threads_respect_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:

        def write(number: int) -> None:
            for _ in range(50):
                with atomic_write(tmp_path / str(number)):
                    pass

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
    finally:
        assert os.umask(before) == 0o027


def test_non_finite_numbers_become_null_at_any_depth() -> None:
    document = {"psnr": math.inf, "rows": [{"cuts": (0.5, math.nan)}, -math.inf], "name": "inf", "count": 3}
    plain = finite(document)
    assert plain == {"psnr": None, "rows": [{"cuts": [0.5, None]}, None], "name": "inf", "count": 3}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").write_bytes(b"old")
    stat = os.fstat

    def change(number: int) -> os.stat_result:
        found = stat(number)
        os.utime(tmp_path / "weights", ns=(0, 0))
        return found

    monkeypatch.setattr(os, "fstat", change)
    with pytest.raises(OSError, match="changed while it was read"):
        read_bytes(tmp_path / "weights", 100)
