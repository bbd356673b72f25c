"""The journal: appended lines, damaged lines, content of files, and lines of pcsr 0.1."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcsr_cli.engine.rules import ALL_HEAVY, ALL_LIGHT, Adaptive, Allowance, Routing, Threshold, Tradeoff
from pcsr_cli.errors import OutputError
from pcsr_cli.images.files import Fingerprint, fingerprint
from pcsr_cli.jobs.journal import (
    OLD_NAME,
    Entry,
    Failure,
    Journal,
    RunInfo,
    Segment,
    has_content,
    parse_line,
    routing_settings,
    same_settings,
    settled,
)
from tests.failing import fails

SETTINGS = {"scale": 4.0, "routing": {"threshold": 0.5}, "model": {"name": "tiny", "sha256": "ab"}}


def entry(name: str = "a.png", size: int = 3) -> Entry:
    return Entry(name, Fingerprint(5, "aa"), SETTINGS, Fingerprint(size, "bb"), {"source": "in/\udcff.png"})


def run_info(id: str = "1") -> RunInfo:
    return RunInfo(id, "host", 1, "", 0.0)


def append(folder: Path, *entries: Entry, run: str = "1") -> Path:
    """Add entries to the segment of a run. Returns its path."""
    segment = Segment(folder, run_info(run))
    for each in entries:
        segment.append(each)
    return segment.path


def find(folder: Path, name: str) -> Entry | None:
    found = Journal(folder).find(Path(name))
    return found[0] if found else None


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_an_appended_entry_is_found_again(out: Path) -> None:
    assert find(out, "a.png") is None
    for name in ("sub/ä 1.png", "\udcff.png", "\n.png"):
        append(out, entry(name))
        assert find(out, name) == entry(name)


def test_all_segments_and_the_journal_of_earlier_versions_count(out: Path) -> None:
    append(out, entry("a"), run="1")
    append(out, entry("b"), run="2").replace(out / OLD_NAME)
    append(out, entry("c"), run="3")
    assert [find(out, name) for name in "abc"] == [entry(name) for name in "abc"]


def test_lines_of_other_runs_are_found_after_a_refresh(out: Path) -> None:
    append(out, entry("a"))
    journal = Journal(out)
    for run in ("1", "2"):
        path = append(out, entry(run), run=run)
        with path.open("ab") as file:
            file.write(b'{"version": 2, "name": "unfinished')
        assert journal.find(Path(run)) == ()
        journal.refresh()
        assert journal.find(Path(run)) == (entry(run),)
    assert journal.find(Path("a")) == (entry("a"),)


def test_a_result_that_was_replaced_has_several_entries(out: Path) -> None:
    for run in ("1", "2"):
        append(out, entry(size=int(run)), run=run)
    assert [found.result.size for found in Journal(out).find(Path("a.png"))] == [2, 1]


@given(st.integers(0, 10_000))
def test_a_truncated_segment_keeps_its_complete_lines_and_can_be_appended_to(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    path = append(folder, *map(entry, "abc"))
    content = path.read_bytes()
    cut %= len(content) + 1
    path.write_bytes(content[:cut])
    lines = content.split(b"\n")
    whole = [name for index, name in enumerate("abc") if cut >= len(b"\n".join(lines[: index + 2]))]
    assert [name for name in "abc" if find(folder, name)] == whole
    append(folder, entry("d"))
    assert [name for name in "abcd" if find(folder, name)] == [*whole, "d"]


@given(st.binary(max_size=200))
def test_garbage_is_ignored(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    with append(folder, entry("a")).open("ab") as file:
        file.write(garbage)
    append(folder, entry("b"))
    assert [find(folder, name) for name in "ab"] == [entry("a"), entry("b")]


@pytest.mark.parametrize(
    "line",
    [
        *(b"null", b"[]", b"{}", b"[" * 9999),
        *(b'{"version": %d}' % version for version in (3, 4)),
        *(b'{"version": %d, "name": "a.png"}' % version for version in (1, 2)),
        b'{"version": 3, "run": {}}',
        b'{"version": 3, "failed": []}',
        json.dumps({"version": 2, **asdict(entry("\ud800"))}).encode(),
    ],
)
def test_other_lines_are_ignored(tmp_path: Path, line: bytes) -> None:
    (tmp_path / OLD_NAME).write_bytes(line + b"\n")
    assert find(tmp_path, "a.png") is None


def test_a_line_that_does_not_fit_on_the_disk_is_removed(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = Segment(out, run_info())
    segment.append(entry("a"))
    before = segment.path.read_bytes()

    def refuse(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with fails(OutputError, f"Cannot write the journal {segment.path}: no space left on device."):
        segment.append(entry("b"))
    assert segment.path.read_bytes() == before


def test_threads_can_append_at_once(out: Path) -> None:
    segment = Segment(out, run_info())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(segment.append, [entry(str(number)) for number in range(40)]))
    journal = Journal(out)
    assert all(journal.find(Path(str(number))) for number in range(40))
    first, *lines = segment.path.read_bytes().splitlines()
    assert parse_line(first) == run_info()
    assert len(lines) == 40


@pytest.mark.parametrize("kind", ["folder", "link", *(["pipe"] if hasattr(os, "mkfifo") else [])])
def test_a_segment_that_is_not_a_regular_file_is_refused(out: Path, kind: str) -> None:
    path, target = append(out, entry()), out / "target"
    path.unlink()
    target.write_text("mine")
    match kind:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(target)
        case "pipe":
            os.mkfifo(path)
    with fails(OutputError, f"Cannot read the journal {path}: the path is"):
        Journal(out)
    with fails(OutputError, f"Cannot write the journal {path}:"):
        append(out, entry())
    assert target.read_text() == "mine"


def test_a_file_system_without_fsync_keeps_a_journal(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    append(out, entry("a"))
    assert find(out, "a") == entry("a")


def test_failures_are_in_the_segment_but_are_no_results(out: Path) -> None:
    segment, failure = Segment(out, run_info()), Failure("a", "in/a", "a", "It failed.", 1.5)
    segment.append(failure)
    assert parse_line(segment.path.read_bytes().splitlines()[1]) == failure
    assert find(out, "a") is None


def test_a_file_that_changed_a_moment_ago_may_change_again_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")
    assert settled(fingerprint(path)).modified is None
    os.utime(path, (1, 1))
    assert settled(fingerprint(path)).modified == 10**9


def test_content_is_compared_by_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")
    os.utime(path, (1, 1))
    content = fingerprint(path)
    for other in (b"abd", b"abcd"):
        path.write_bytes(other)
        assert not has_content(path, content)
    path.write_bytes(b"abc")
    assert has_content(path, content)
    path.unlink()
    assert not has_content(path, content)


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
    (tmp_path / OLD_NAME).write_text(FROM_VERSION_1.replace("Threshold(cut=0.5)", text))
    found = find(tmp_path, "a_x4.png")
    assert found is not None and (found.source.size, found.result.size) == (132, 1177)
    assert found.settings == {**json.loads(FROM_VERSION_1)["way"], "routing": routing_settings(routing)}


def test_the_settings_of_a_routing_do_not_depend_on_names_in_the_code() -> None:
    found = [routing_settings(each) for each in (Threshold(0.5), Tradeoff(1.0), Adaptive(), ALL_HEAVY, ALL_LIGHT)]
    assert found == [{"threshold": 0.5}, {"k": 1.0}, {"adm": True}, {"all": "heavy"}, {"all": "light"}]
