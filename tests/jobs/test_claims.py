"""Claims: one live run has an image, and the claims of killed runs pass on."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pcsr_cli.errors import OutputError
from pcsr_cli.images.files import DAY_SECONDS, hold_lock
from pcsr_cli.images.objects import to_path
from pcsr_cli.jobs import claims as claims_module
from pcsr_cli.jobs.claims import BUSY, CLAIMS, MAX_STARTS, RUNNING, STALE_SECONDS, Claims, describe_run
from pcsr_cli.jobs.journal import HIDDEN
from tests.failing import fails
from tests.s3_server import Bucket

OUTPUT = Path("sub/a.png")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(b"image")
    return tmp_path / "a.png"


def claims(source: Path, id: str | None = None) -> Claims:
    run = describe_run()
    return Claims(source.parent / "out", run if id is None else replace(run, id=id))


def files(source: Path, kind: str) -> list[Path]:
    return list((source.parent / "out" / HIDDEN / kind).iterdir())


def leave_a_claim(source: Path, id: str) -> Path:
    """Claim an image by a run that is killed, and return the file of the run."""
    with claims(source, id) as killed:
        assert killed.take(OUTPUT, source, MAX_STARTS) is None
        killed._held.clear()
        file = killed._file
    file.write_text(id)
    return file


def test_one_run_has_an_image_until_it_ends(source: Path) -> None:
    with claims(source) as first, claims(source) as second:
        assert first.take(OUTPUT, source) is None
        assert [each.take(OUTPUT, source) for each in (first, second)] == [BUSY, BUSY]
        assert second.take(Path("b.png"), source) is None
        first.release(OUTPUT)
        assert second.take(OUTPUT, source) is None
    assert files(source, CLAIMS) == files(source, RUNNING) == []


HOLDER = """
import os, sys
from pathlib import Path
from pcsr_cli.jobs.claims import Claims, describe_run
with Claims(Path(sys.argv[1]), describe_run()) as claims:
    print(claims.take(Path("sub/a.png"), Path(sys.argv[2])), flush=True)
    sys.stdin.read()
"""


def test_the_claim_of_a_killed_process_passes_on_at_once(source: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(source.parent / "out"), str(source)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "None\n"
        with claims(source) as other:
            assert other.take(OUTPUT, source, 1) == BUSY
            holder.kill()
            holder.wait()
            assert other.take(OUTPUT, source) == 1
            assert other.take(OUTPUT, source, 1) is None
    assert files(source, CLAIMS) == []


def test_a_run_on_another_machine_is_running_while_its_file_is_young(source: Path) -> None:
    file = leave_a_claim(source, "0-elsewhere-1-0")
    with claims(source) as other:
        assert other.take(OUTPUT, source, 1) == BUSY
        old = time.time() - STALE_SECONDS - 1
        os.utime(file, (old, old))
        assert other.take(OUTPUT, source, 1) is None


def test_a_live_run_keeps_its_file_young(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "BEAT_SECONDS", 0.01)
    with claims(source) as run:
        os.utime(run._file, (1, 1))
        time.sleep(0.1)
        assert run._file.stat().st_mtime > 1


def test_the_third_killed_run_is_the_last_and_another_image_is_tried(source: Path) -> None:
    for number in range(MAX_STARTS):
        leave_a_claim(source, f"{number}").unlink()
    with claims(source) as run:
        assert run.take(OUTPUT, source, MAX_STARTS) == MAX_STARTS
        source.write_bytes(b"another image")
        assert run.take(OUTPUT, source) is None


def test_claims_in_a_store(bucket: Bucket, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = to_path(f"{bucket.url}/out")

    def leave(id: str) -> None:
        with Claims(folder, replace(describe_run(), id=id)) as killed:
            assert killed.take(OUTPUT, source, MAX_STARTS) is None
            killed._held.clear()
        bucket.put(f"out/{HIDDEN}/{RUNNING}/{id}", b"")

    with Claims(folder, describe_run()) as first, Claims(folder, describe_run()) as second:
        assert first.take(OUTPUT, source) is None
        assert second.take(OUTPUT, source) == BUSY
        monkeypatch.setattr(claims_module, "STALE_SECONDS", -1e9)
        assert second.take(OUTPUT, source) == BUSY, "the lock is on this machine"
        first.release(OUTPUT)
        leave("0-elsewhere-1-0")
        assert second.take(OUTPUT, source) == 1, "no lock, and no sign of life for long"
        assert second.take(OUTPUT, source, 1) is None
    assert bucket.keys(f"out/{HIDDEN}/{CLAIMS}/") == []


def test_a_claim_whose_creation_is_repeated_is_held(bucket: Bucket, source: Path) -> None:
    with Claims(to_path(f"{bucket.url}/out"), describe_run()) as run:
        assert run.take(OUTPUT, source) is None
        run._held.clear()  # as if the answer of the store were lost
        assert run.take(OUTPUT, source) is None


def no_links(source: Path, target: Path) -> None:
    raise PermissionError(1, "Operation not permitted")


def refuse_lock(handle: int, operation: int) -> None:
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize(("name", "function"), [("os.link", no_links), ("fcntl.flock", refuse_lock)])
def test_a_file_system_needs_no_hard_links_and_no_locks(
    source: Path, monkeypatch: pytest.MonkeyPatch, name: str, function: Callable[..., None]
) -> None:
    monkeypatch.setattr(name, function)
    with claims(source) as first, claims(source) as second:
        assert first.take(OUTPUT, source) is None
        assert second.take(OUTPUT, source) == BUSY


def test_an_unfinished_claim_counts_while_it_is_young(source: Path) -> None:
    with claims(source) as run:
        assert run.take(OUTPUT, source) is None
        (claim,) = files(source, CLAIMS)
        claim.unlink()
        claim.touch()
        with claims(source) as other:
            assert other.take(OUTPUT, source, 1) == BUSY
            os.utime(claim, (1, 1))
            assert other.take(OUTPUT, source, 1) is None


def test_files_of_runs_that_were_killed_long_ago_are_removed(source: Path) -> None:
    file = leave_a_claim(source, "0")
    old = time.time() - DAY_SECONDS - 10
    for path in (file, *files(source, CLAIMS)):
        os.utime(path, (old, old))
    with claims(source):
        assert files(source, CLAIMS) == []
        assert len(files(source, RUNNING)) == 1


def test_a_folder_that_cannot_be_made_is_an_error(source: Path) -> None:
    with fails(OutputError, f"The folder {source / 'out'} cannot be written:"), Claims(source / "out", describe_run()):
        pass


def test_a_lock_is_released_after_a_check(source: Path) -> None:
    file = leave_a_claim(source, describe_run().id)
    with claims(source) as run:
        assert not run.is_running(file.name)
        with hold_lock(file) as locked:
            assert locked
            assert run.is_running(file.name)
