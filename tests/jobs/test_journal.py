"""The journal is appended to, survives being cut anywhere, and vouches for a file only by its content."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcsr_cli.errors import OutputError
from pcsr_cli.images.files import Fingerprint, fingerprint
from pcsr_cli.jobs.journal import NAME, Entry, Journal, is_content_of, same_way
from tests.failing import fails

WAY = {"scale": 4.0, "routing": "threshold 0.5", "model": {"name": "tiny", "sha256": "ab"}}


def entry(name: str = "a.png", size: int = 3) -> Entry:
    return Entry(name, Fingerprint(5, "aa"), WAY, Fingerprint(size, "bb"), {"source": "in/\udcff.png"})


def test_what_is_appended_is_found_by_whoever_opens_it_next(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.find(Path("a.png")) is None
    journal.append(entry("sub/ä 1.png"))
    assert journal.find(Path("sub") / "ä 1.png") == entry("sub/ä 1.png")
    assert Journal(tmp_path).find(Path("sub") / "ä 1.png") == entry("sub/ä 1.png")


def test_of_several_lines_the_last_counts(tmp_path: Path) -> None:
    for size in (1, 2, 3):
        Journal(tmp_path).append(entry(size=size))
    found = Journal(tmp_path).find(Path("a.png"))
    assert found is not None and found.result.size == 3


@given(st.integers(0, 10_000))
def test_cut_anywhere_it_keeps_every_whole_line_and_can_be_gone_on_with(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    for name in "abc":
        Journal(folder).append(entry(name))
    content = (folder / NAME).read_bytes()
    cut %= len(content) + 1
    (folder / NAME).write_bytes(content[:cut])
    whole = [name for index, name in enumerate("abc") if cut >= len(b"\n".join(content.split(b"\n")[: index + 1]))]
    assert [name for name in "abc" if Journal(folder).find(Path(name))] == whole
    Journal(folder).append(entry("d"))
    assert [name for name in "abcd" if Journal(folder).find(Path(name))] == [*whole, "d"]


@given(st.binary(max_size=200))
def test_rubbish_is_passed_over(tmp_path_factory: pytest.TempPathFactory, rubbish: bytes) -> None:
    folder = tmp_path_factory.mktemp("rubbish")
    Journal(folder).append(entry("a"))
    with (folder / NAME).open("ab") as file:
        file.write(rubbish)
    Journal(folder).append(entry("b"))
    journal = Journal(folder)
    assert journal.find(Path("a")) == entry("a")
    assert journal.find(Path("b")) == entry("b")


@pytest.mark.parametrize(
    "line", [b"null", b"[]", b"{}", b'{"version": 2}', b'{"version": 1, "name": "a.png"}', b"[" * 9999]
)
def test_lines_of_another_kind_do_not_count(tmp_path: Path, line: bytes) -> None:
    (tmp_path / NAME).write_bytes(line + b"\n")
    assert Journal(tmp_path).find(Path("a.png")) is None


def test_what_a_full_disk_took_of_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.append(entry("a"))
    before = journal.path.read_bytes()

    def refuse(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with fails(OutputError, f"The journal {journal.path} cannot be written: no space left on device."):
        journal.append(entry("b"))
    assert journal.path.read_bytes() == before
    assert journal.find(Path("b")) is None


def test_many_threads_may_append(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(journal.append, [entry(str(number)) for number in range(40)]))
    again = Journal(tmp_path)
    assert all(again.find(Path(str(number))) for number in range(40))
    assert len(journal.path.read_bytes().splitlines()) == 40


def test_a_journal_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with fails(OutputError, f"The journal {tmp_path / NAME} cannot be read: is a directory."):
        Journal(tmp_path)


def test_content_is_the_same_as_long_as_every_byte_is(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")
    made = Entry("a.png", Fingerprint(1, "x"), WAY, fingerprint(path), {})
    assert is_content_of(made.result, path)
    path.write_bytes(b"abd")
    assert not is_content_of(made.result, path)
    path.write_bytes(b"abcd")
    assert not is_content_of(made.result, path)
    path.unlink()
    assert not is_content_of(made.result, path)


def test_a_way_is_the_same_whatever_the_order_of_its_words() -> None:
    assert same_way(entry(), {key: WAY[key] for key in sorted(WAY, reverse=True)})
    assert not same_way(entry(), {**WAY, "scale": 2.0})
    assert not same_way(entry(), {**WAY, "model": {"name": "tiny", "sha256": "cd"}})
