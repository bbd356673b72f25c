"""The journal: appended lines, damaged lines, content of files, and lines of pcsr 0.1."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcsr_cli.engine.rules import ALL_HEAVY, ALL_LIGHT, Adaptive, Allowance, Routing, Threshold, Tradeoff
from pcsr_cli.errors import OutputError
from pcsr_cli.images.files import Fingerprint, fingerprint
from pcsr_cli.jobs.journal import NAME, Entry, Journal, has_content, routing_settings, same_settings
from tests.failing import fails

SETTINGS = {"scale": 4.0, "routing": {"threshold": 0.5}, "model": {"name": "tiny", "sha256": "ab"}}


def entry(name: str = "a.png", size: int = 3) -> Entry:
    return Entry(name, Fingerprint(5, "aa"), SETTINGS, Fingerprint(size, "bb"), {"source": "in/\udcff.png"})


def test_an_appended_entry_is_found_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.find(Path("a.png")) is None
    journal.append(entry("sub/ä 1.png"))
    assert journal.find(Path("sub") / "ä 1.png") == entry("sub/ä 1.png")
    assert Journal(tmp_path).find(Path("sub") / "ä 1.png") == entry("sub/ä 1.png")


def test_the_last_line_about_a_result_counts(tmp_path: Path) -> None:
    for size in (1, 2, 3):
        Journal(tmp_path).append(entry(size=size))
    found = Journal(tmp_path).find(Path("a.png"))
    assert found is not None and found.result.size == 3


@given(st.integers(0, 10_000))
def test_a_truncated_journal_keeps_its_complete_lines_and_can_be_appended_to(
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
def test_garbage_is_ignored(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    Journal(folder).append(entry("a"))
    with (folder / NAME).open("ab") as file:
        file.write(garbage)
    Journal(folder).append(entry("b"))
    journal = Journal(folder)
    assert journal.find(Path("a")) == entry("a")
    assert journal.find(Path("b")) == entry("b")


@pytest.mark.parametrize(
    "line",
    [b"null", b"[]", b"{}", b'{"version": 3}', *(b'{"version": %d, "name": "a.png"}' % i for i in (1, 2)), b"[" * 9999],
)
def test_other_lines_are_ignored(tmp_path: Path, line: bytes) -> None:
    (tmp_path / NAME).write_bytes(line + b"\n")
    assert Journal(tmp_path).find(Path("a.png")) is None


def test_a_line_that_does_not_fit_on_the_disk_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.append(entry("a"))
    before = journal.path.read_bytes()

    def refuse(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with fails(OutputError, f"Cannot write the journal {journal.path}: no space left on device."):
        journal.append(entry("b"))
    assert journal.path.read_bytes() == before
    assert journal.find(Path("b")) is None


def test_threads_can_append_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(journal.append, [entry(str(number)) for number in range(40)]))
    again = Journal(tmp_path)
    assert all(again.find(Path(str(number))) for number in range(40))
    assert len(journal.path.read_bytes().splitlines()) == 40


@pytest.mark.parametrize("kind", ["folder", "link", *(["pipe"] if hasattr(os, "mkfifo") else [])])
def test_a_journal_that_is_not_a_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    journal = Journal(tmp_path)
    path, target = tmp_path / NAME, tmp_path / "target"
    target.write_text("mine")
    match kind:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(target)
        case "pipe":
            os.mkfifo(path)
    with fails(OutputError, f"Cannot read the journal {path}: the path is"):
        Journal(tmp_path)
    with fails(OutputError, f"Cannot write the journal {path}:"):
        journal.append(entry())
    assert target.read_text() == "mine"


def test_a_file_system_without_fsync_keeps_a_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    Journal(tmp_path).append(entry("a"))
    assert Journal(tmp_path).find(Path("a")) == entry("a")


def test_a_journal_of_another_user_is_replaced_by_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Journal(tmp_path).append(entry("a"))
    opened = os.open
    first = (tmp_path / NAME).stat().st_ino

    def refuse(path: Path, flags: int, *mode: int) -> int:  # permissions do not apply to root
        if Path(path) == tmp_path / NAME and flags & os.O_RDWR and Path(path).stat().st_ino == first:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    journal = Journal(tmp_path)
    with fails(OutputError, "Cannot write the journal"):
        journal.append(entry("b"))
    journal.check_writable()
    journal.append(entry("b"))
    assert [Journal(tmp_path).find(Path(name)) for name in "ab"] == [entry("a"), entry("b")]


def test_content_is_compared_by_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")
    made = Entry("a.png", Fingerprint(1, "x"), SETTINGS, fingerprint(path), {})
    assert has_content(path, made.result)
    for other in (b"abd", b"abcd"):
        path.write_bytes(other)
        assert not has_content(path, made.result)
    path.unlink()
    assert not has_content(path, made.result)


def test_the_order_of_settings_does_not_matter() -> None:
    assert same_settings(entry(), {key: SETTINGS[key] for key in sorted(SETTINGS, reverse=True)})
    assert not same_settings(entry(), {**SETTINGS, "scale": 2.0})
    assert not same_settings(entry(), {**SETTINGS, "model": {"name": "tiny", "sha256": "cd"}})


FROM_VERSION_1 = """\
{"name": "a_x4.png", "result": {"sha256": "2b002234576b57cf21a5c2a0fbb665b8c128dd1557e494196793f32c150da8cc", "size": \
1177}, "source": {"sha256": "26fbff27ac3ea07ed7215883b2fb705c62bc9d5bc82dffac3c69829c207b0e5c", "size": 132}, "told": \
{"pcsr": "0.1.0", "source": "in/a.png"}, "version": 1, "way": {"compression": null, "format": "PNG", "frames": false, \
"lossless": false, "model": {"name": "tiny", "revision": null, "sha256": \
"0db39ecdcb0394a2f256cef865ccfe124ec7f0277131ce850d6174358ab82ac8"}, "precision": "float32", "quality": null, \
"refine": 1, "routing": "Threshold(cut=0.5)", "scale": 4.0, "strip": false}}
"""
"""A line that pcsr 0.1 wrote. The routings below were written by the same version, with other options."""


@pytest.mark.parametrize(
    ("text", "routing"),
    [
        ("Threshold(cut=0.5)", Threshold(0.5)),
        ("Threshold(cut=0.25)", Threshold(0.25)),
        ("Tradeoff(k=0.5)", Tradeoff(0.5)),
        ("Tradeoff(k=-1.0)", Tradeoff(-1.0)),
        ("Adaptive()", Adaptive()),
        ("60%", Allowance(60, "%")),
        ("0.001G", Allowance(0.001, "G")),
    ],
)
def test_lines_of_version_1_are_read(tmp_path: Path, text: str, routing: Routing | Allowance) -> None:
    (tmp_path / NAME).write_text(FROM_VERSION_1.replace("Threshold(cut=0.5)", text))
    found = Journal(tmp_path).find(Path("a_x4.png"))
    assert found is not None and (found.source.size, found.result.size) == (132, 1177)
    assert found.settings == {**json.loads(FROM_VERSION_1)["way"], "routing": routing_settings(routing)}


def test_the_settings_of_a_routing_do_not_depend_on_names_in_the_code() -> None:
    found = [routing_settings(each) for each in (Threshold(0.5), Tradeoff(1.0), Adaptive(), ALL_HEAVY, ALL_LIGHT)]
    assert found == [{"threshold": 0.5}, {"k": 1.0}, {"adm": True}, {"all": "heavy"}, {"all": "light"}]
