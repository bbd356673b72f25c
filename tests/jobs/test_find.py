"""Paths, folders and patterns stand for pictures: each once, in natural order, links followed but not in circles."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcsr_cli.errors import InputError
from pcsr_cli.jobs.find import Source, find_sources, natural
from tests.failing import fails

SUFFIXES = (".png", ".jpg")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Pictures at three depths, and what is none."""
    root = tmp_path / "in"
    for name in ("b.png", "a10.jpg", "a2.JPG", "notes.txt", ".hidden.png", "sub/c.png", "sub/deep/d.png", ".git/e.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(root: Path, recursive: bool = False, leave_out: Path | None = None) -> list[str]:
    found = find_sources([root], SUFFIXES, recursive, leave_out)
    assert all(source.path.parent == root / source.folder for source in found.sources)
    return [source.path.relative_to(root).as_posix() for source in found.sources]


def test_of_a_folder_the_pictures_that_are_not_hidden_are_taken_in_natural_order(tree: Path) -> None:
    assert names(tree) == ["a2.JPG", "a10.jpg", "b.png"]
    assert find_sources([tree], SUFFIXES).others == 1


def test_recursively_the_tree_is_kept(tree: Path) -> None:
    assert names(tree, recursive=True) == ["a2.JPG", "a10.jpg", "b.png", "sub/c.png", "sub/deep/d.png"]


def test_where_the_results_go_is_not_entered(tree: Path) -> None:
    assert "sub/c.png" not in names(tree, recursive=True, leave_out=tree / "sub")


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1), min_size=2))
def test_any_names_have_an_order(texts: list[str]) -> None:
    paths = [Path(text) for text in texts]
    backwards = paths[::-1]
    assert sorted(paths, key=natural) == sorted(backwards, key=natural)


def test_numbers_count_by_their_value_and_letters_in_either_case() -> None:
    given_names = ["img10", "IMG9", "img2", "2024-1/b", "2024-10/a", "2024-2/c", "x1y10", "x1y9", "²"]
    ordered = ["2024-1/b", "2024-2/c", "2024-10/a", "img2", "IMG9", "img10", "x1y9", "x1y10", "²"]
    assert [path.as_posix() for path in sorted(map(Path, given_names), key=natural)] == ordered


def test_files_and_patterns_are_taken_as_they_are_and_once(tree: Path) -> None:
    found = find_sources([tree / "notes.txt", tree / "*.jpg", tree / "a10.jpg", tree], SUFFIXES).sources
    assert [source.path.name for source in found] == ["notes.txt", "a10.jpg", "a2.JPG", "b.png"]


def test_a_pattern_may_be_a_name(tmp_path: Path) -> None:
    (tmp_path / "[red].png").touch()
    (tmp_path / "r.png").touch()
    assert [s.path.name for s in find_sources([tmp_path / "[red].png"], SUFFIXES).sources] == ["[red].png"]


def test_a_pattern_goes_through_folders(tree: Path) -> None:
    found = find_sources([tree / "**" / "*.png"], SUFFIXES).sources
    assert [source.path.name for source in found] == ["b.png", "c.png", "d.png"]
    assert {source.folder for source in found} == {Path()}


def test_where_there_is_nothing_that_is_said(tmp_path: Path) -> None:
    with fails(InputError, f"There is no picture in {tmp_path}.", "Pictures are .png, .jpg."):
        find_sources([tmp_path], SUFFIXES)
    with fails(InputError, f"No file matches {tmp_path / '*.png'}."):
        find_sources([tmp_path / "*.png"], SUFFIXES)


def test_a_missing_file_is_left_to_the_reading(tmp_path: Path) -> None:
    assert find_sources([tmp_path / "gone.png"], SUFFIXES).sources == (Source(tmp_path / "gone.png"),)


def test_links_are_followed_but_not_in_circles(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "o.png").touch()
    (other / "back").symlink_to(tree)
    (tree / "z1").symlink_to(other)
    (tree / "z2").symlink_to(other)
    (tree / "itself").symlink_to(tree)
    (tree / "above").symlink_to(tmp_path)
    (tree / "inside").symlink_to(tree / "sub")
    (tree / "loop").symlink_to(tree / "loop")
    (tree / "link.png").symlink_to(tmp_path / "p.png")
    (tmp_path / "p.png").touch()
    (tree / "broken.png").symlink_to(tmp_path / "nowhere.png")
    found = names(tree, recursive=True)
    assert found == [
        "a2.JPG", "a10.jpg", "b.png", "broken.png", "link.png", "sub/c.png", "sub/deep/d.png", "z1/o.png"
    ]  # fmt: skip


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="names are text there")
def test_names_that_are_no_text_are_names(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\xfe 1.png")).touch()
    assert [os.fsencode(s.path.name) for s in find_sources([tmp_path], SUFFIXES).sources] == [b"\xff\xfe 1.png"]


def test_a_folder_that_cannot_be_read(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.listdir

    def refuse(folder: Path) -> list[str]:  # root may read everything, so permissions would prove nothing
        if folder == closed:
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(os, "listdir", refuse)
    closed = tree
    with fails(InputError, f"The folder {tree} cannot be read: Permission denied."):
        find_sources([tree], SUFFIXES)
    closed = tree / "sub"
    found = find_sources([tree], SUFFIXES, recursive=True)
    assert [source.path.name for source in found.sources] == ["a2.JPG", "a10.jpg", "b.png"]
    ((folder, error),) = found.unread
    assert folder == closed
    assert "Permission denied" in str(error)
