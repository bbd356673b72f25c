"""Finding images in folders and patterns: each file once and in natural order, links without loops."""

import io
import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcsr_cli.errors import InputError, RefusedOutputError, UsageError
from pcsr_cli.jobs import find
from pcsr_cli.jobs.find import (
    DEFAULT_TEMPLATE,
    Listing,
    Shard,
    Task,
    check_template,
    fill_template,
    find_images,
    name_output,
    natural_key,
    parse_shard,
    read_list,
    refused_names,
)
from tests.failing import fails

SUFFIXES = (".png", ".jpg")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with images at three depths, and other files."""
    root = tmp_path / "in"
    for name in ("b.png", "a10.jpg", "a2.JPG", "notes.txt", ".hidden.png", "sub/c.png", "sub/deep/d.png", ".git/e.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(root: Path, recursive: bool = False, skip: Path | None = None) -> list[str]:
    found = find_images([root], SUFFIXES, recursive, skip)
    assert all(task.source == root / task.output for task in found.tasks)
    return [task.output.as_posix() for task in found.tasks]


def test_a_folder_gives_its_visible_images_in_natural_order(tree: Path) -> None:
    assert names(tree) == ["a2.JPG", "a10.jpg", "b.png"]
    assert find_images([tree], SUFFIXES).others == 1


def test_recursive_search_keeps_the_tree_and_skips_the_output_folder(tree: Path) -> None:
    assert names(tree, recursive=True) == ["a2.JPG", "a10.jpg", "b.png", "sub/c.png", "sub/deep/d.png"]
    assert names(tree, recursive=True, skip=tree / "sub") == ["a2.JPG", "a10.jpg", "b.png"]


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=6), min_size=2, max_size=6
    )
)
def test_the_order_does_not_depend_on_the_order_of_the_input(texts: list[str]) -> None:
    paths = [Path(text) for text in texts]
    backwards = paths[::-1]
    assert sorted(paths, key=natural_key) == sorted(backwards, key=natural_key)


def test_numbers_sort_by_value_and_case_is_ignored() -> None:
    given_names = ["img10", "IMG9", "img2", "2024-1/b", "2024-10/a", "2024-2/c", "x1y10", "x1y9", "²", "b"]
    ordered = ["2024-1/b", "2024-2/c", "2024-10/a", "b", "img2", "IMG9", "img10", "x1y9", "x1y10", "²"]
    assert [path.as_posix() for path in sorted(map(Path, given_names), key=natural_key)] == ordered


def test_named_files_with_any_suffix_are_listed_once(tree: Path) -> None:
    found = find_images([tree / "notes.txt", tree / "*.jpg", tree / "a10.jpg", tree], SUFFIXES).tasks
    assert [task.source.name for task in found] == ["notes.txt", "a10.jpg", "a2.JPG", "b.png"]


def test_links_to_one_file_are_separate_images(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    (tmp_path / "in" / "hard.png").hardlink_to(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "soft.png").symlink_to("a.png")
    (tmp_path / "again").symlink_to("in")
    found = find_images([tmp_path / "in", tmp_path / "again", tmp_path / "in" / "." / "a.png"], SUFFIXES).tasks
    assert [task.source.name for task in found] == ["a.png", "hard.png", "soft.png"]


def test_a_file_name_may_look_like_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "[red].png").touch()
    (tmp_path / "r.png").touch()
    assert [task.source.name for task in find_images([tmp_path / "[red].png"], SUFFIXES).tasks] == ["[red].png"]


def test_a_recursive_pattern_matches_subfolders(tree: Path) -> None:
    found = find_images([tree / "**" / "*.png"], SUFFIXES).tasks
    assert [task.source.name for task in found] == ["b.png", "c.png", "d.png"]
    assert [task.output.as_posix() for task in found] == ["b.png", "c.png", "d.png"]


def test_no_image_is_an_error(tmp_path: Path) -> None:
    with fails(InputError, f"No image found in {tmp_path}.", "Supported files are .png, .jpg."):
        find_images([tmp_path], SUFFIXES)
    with fails(InputError, f"No file matches {tmp_path / '*.png'}."):
        find_images([tmp_path / "*.png"], SUFFIXES)


def test_a_missing_file_is_listed(tmp_path: Path) -> None:
    name = Path("gone.png")
    assert find_images([tmp_path / name], SUFFIXES).tasks == (Task(tmp_path / name, name, name),)


def test_links_are_followed_without_loops(tree: Path, tmp_path: Path) -> None:
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


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="file names are text on these systems")
def test_names_need_not_be_utf_8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\xfe 1.png")).touch()
    assert [os.fsencode(task.source.name) for task in find_images([tmp_path], SUFFIXES).tasks] == [b"\xff\xfe 1.png"]


def test_unreadable_folders_are_reported(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.scandir

    def refuse(folder: Path) -> Any:  # permissions do not apply to root
        if folder == closed:
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    closed = tree
    with fails(InputError, f"Cannot read the folder {tree}: Permission denied."):
        find_images([tree], SUFFIXES)
    closed = tree / "sub"
    found = find_images([tree], SUFFIXES, recursive=True)
    assert [task.source.name for task in found.tasks] == ["a2.JPG", "a10.jpg", "b.png"]
    ((folder, error),) = found.unread
    assert folder == closed
    assert "Permission denied" in str(error)


def test_a_folder_is_listed_while_its_images_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        (tmp_path / f"{number}.png").touch()
    listed = os.scandir
    read: list[str] = []

    def note(entry: os.DirEntry[str]) -> bool:
        read.append(entry.name)
        return True

    @contextmanager
    def count(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        with listed(folder) as entries:
            yield filter(note, entries)

    monkeypatch.setattr(os, "scandir", count)
    monkeypatch.setattr(find, "CHUNK", 10)
    images = iter(Listing([tmp_path], SUFFIXES))
    first = [next(images).source.name for _ in range(10)]
    assert len(read) == 10 and first == sorted(read, key=lambda name: int(Path(name).stem))
    assert len(list(images)) == 40


def test_an_endless_list_is_used_while_it_is_read() -> None:
    names = (Path(f"in/{number}.png") for number in itertools.count())
    images = Listing([Path("in")], SUFFIXES, names=names)
    assert [task.output.name for task in itertools.islice(images, 3)] == ["0.png", "1.png", "2.png"]


def test_listed_images_keep_their_place_in_the_common_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def outputs(*names: str | Path, folders: tuple[str, ...] = ("in",)) -> list[str]:
        listing = Listing([*map(Path, folders)], SUFFIXES, skip=Path("in/out"), names=map(Path, names))
        return [f"{task.source} {task.path} {task.output}" for task in listing]

    names = "in/a.png", "in/../in/sub/b.tif"
    assert outputs(*names, folders=()) == ["in/a.png a.png a.png", "in/../in/sub/b.tif b.tif b.tif"]
    assert outputs(*names) == ["in/a.png a.png a.png", "in/../in/sub/b.tif sub/b.tif sub/b.tif"]
    assert outputs(tmp_path / "in" / "a.png") == [f"{tmp_path}/in/a.png a.png a.png"]
    for name in ("a.png", "in/../a.png", "/in/a.png"):
        with fails(InputError, f"{name} is not in in."):
            outputs("in/a.png", name)
    with fails(InputError, "in/out/a.png is in the folder of the results."):
        outputs("in/out/a.png")
    assert outputs() == []


class Pieces(io.BytesIO):
    """A pipe that delivers its content in pieces."""

    def read1(self, size: int | None = -1) -> bytes:
        return super().read1(3)


@pytest.mark.parametrize("kind", [io.BytesIO, Pieces])
@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"a.png\nsub/b c.png\n", [b"a.png", b"sub/b c.png"]),
        (b"a.png\n\nb.png", [b"a.png", b"b.png"]),
        (b"a\n.png\0b.png\0", [b"a\n.png", b"b.png"]),
        (b"\xff.png\n", [b"\xff.png"]),
        (b"", []),
    ],
)
def test_a_list_has_a_path_a_line_or_nul_bytes(kind: type[io.BytesIO], content: bytes, names: list[bytes]) -> None:
    if kind is Pieces and b"\0" in content:
        content = content.replace(b"\n", b"")  # the first block decides
        names = [name.replace(b"\n", b"") for name in names]
    assert [os.fsencode(path) for path in read_list(kind(content))] == names


def test_a_list_without_lines_is_refused() -> None:
    with fails(InputError, "The list has a path that is too long."):
        list(read_list(io.BytesIO(b"x" * 200_000)))


def named(
    out: Path, *names: str, template: str = DEFAULT_TEMPLATE, scale: float = 4, suffix: str | None = None
) -> list[str]:
    found = [Task(out.parent / "in" / name, Path(name)) for name in names]
    tasks = [name_output(task, template, scale, lambda path: suffix or path.suffix) for task in found]
    for error in refused_names(tasks, out).values():
        raise error
    return [task.output.as_posix() for task in tasks]


def test_a_template_makes_names(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert named(out, "a.png", "sub/b.JPG") == ["a_x4.png", "sub/b_x4.JPG"]
    assert named(out, "a.b.png", template="{scale}-{name}{suffix}", scale=2.5, suffix=".webp") == ["2.5-a.b.png.webp"]
    assert named(out, "{stem}.png", template="{{{stem}}}{suffix}") == ["{{stem}}.png"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{colour}", "the field {colour} does not exist"),
        ("{}", "the field {} does not exist"),
        ("{0}", "the field {0} does not exist"),
        ("{stem.__class__}", "the field {stem.__class__} does not exist"),
        ("{stem[0]}", "the field {stem[0]} does not exist"),
        ("{stem!r}", "the field {stem!r} does not exist"),
        ("{scale:>9999999999}", "the field {scale:>9999999999} does not exist"),
        ("{stem", "expected '}' before end of string"),
        ("stem}", "single '}' encountered in format string"),
        ("x/{stem}{suffix}", "a file name cannot contain a folder"),
        ("..\\{stem}", "a file name cannot contain a folder"),
        ("{stem}\0", "a file name cannot contain a folder"),
        ("..", "a file name needs a letter or a digit"),
        ("", "a file name needs a letter or a digit"),
        (".pcsr-{stem}.part", "names that start with .pcsr- are reserved for temporary files"),
    ],
)
def test_invalid_templates_are_refused(template: str, reason: str) -> None:
    advice = f"Use {{stem}}, {{name}}, {{suffix}}, {{scale}}, such as {DEFAULT_TEMPLATE}."
    with fails(UsageError, f"Invalid name template '{template}': {reason}", advice):
        check_template(template)


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_a_template_makes_a_plain_name_or_is_refused(text: str) -> None:
    try:
        template = check_template(text)
    except UsageError:
        return
    name = fill_template(template, Path("a.png"), 4, ".png")
    assert Path(name).name == name


def test_two_results_with_one_name_are_refused(tmp_path: Path) -> None:
    with fails(RefusedOutputError, f"{tmp_path / 'in/a.png'} and {tmp_path / 'in/a.jpg'} would both become a_x4.webp."):
        named(tmp_path / "out", "a.png", "a.jpg", "b.png", suffix=".webp")
    assert named(tmp_path / "out", "a.png", "a.jpg", template="{name}{suffix}", suffix=".webp")


def test_names_that_differ_in_case_only_clash_where_the_file_system_ignores_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "ignores_case", lambda folder: False)
    assert named(tmp_path / "out", "a.png", "A.png") == ["a_x4.png", "A_x4.png"]
    monkeypatch.setattr(find, "ignores_case", lambda folder: True)
    for first, other in (("a.png", "A.png"), ("a\u0308.png", "ä.png")):
        with fails(RefusedOutputError, "would both become"):
            named(tmp_path / "out", first, other)


def test_a_result_never_replaces_an_input_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b_x4.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "c_x4.png").mkdir()
    tasks = [Task(tmp_path / name, Path(name)) for name in ("a.png", "b.png", "c.png")]
    named = [name_output(task, DEFAULT_TEMPLATE, 4, lambda path: path.suffix) for task in tasks]
    assert [str(error).partition(".png ")[2] for error in refused_names(named, tmp_path).values()] == [
        "would replace an input image. Choose another name.",
        "is a folder. Choose another name.",
    ]
    assert list(refused_names(tasks, tmp_path)) == tasks[:1]


def test_results_keep_the_subfolder_of_their_source(tmp_path: Path) -> None:
    task = Task(tmp_path / "a.png", Path("sub/a.png"))
    result = name_output(task, DEFAULT_TEMPLATE, 2, lambda path: ".tif")
    assert result == Task(task.source, Path("sub/a_x2.tif"))


def test_fan_out_adds_two_folders_by_the_path_of_the_source() -> None:
    def fan_out(path: str) -> str:
        task = Task(Path("elsewhere", path), Path(path), Path(path))
        return name_output(task, DEFAULT_TEMPLATE, 2, lambda path: ".tif", fan_out=True).output.as_posix()

    assert fan_out("sub/a.png") == "8e/db/sub/a_x2.tif"
    folders = {fan_out(f"{number}.png")[:5] for number in range(2000)}
    assert len(folders) > 1900


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "0/0", "-1/3", "1", "1/3/5", "a/b", "1/ 3", ""])
def test_invalid_shards_are_refused(text: str) -> None:
    with fails(UsageError, f"Invalid shard {text!r}.", "Use NUMBER/COUNT with a number from 1 to COUNT, such as 2/5."):
        parse_shard(text)


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, unique=True), st.integers(1, 50))
def test_each_image_is_in_one_shard(names: list[bytes], count: int) -> None:
    tasks = [Task(Path("any"), Path("any"), Path(os.fsdecode(name.replace(b"\0", b"x")))) for name in names]
    shards = [Shard(number + 1, count) for number in range(count)]
    assert all(sum(shard.holds(task) for shard in shards) == 1 for task in tasks)


def test_shards_have_similar_sizes_and_do_not_depend_on_the_machine() -> None:
    tasks = [Task(Path("any"), Path("any"), Path(f"sub/{number}.png")) for number in range(3000)]
    sizes = [sum(Shard(number, 3).holds(task) for task in tasks) for number in (1, 2, 3)]
    assert all(900 < size < 1100 for size in sizes)
    assert [task.path.stem for task in tasks[:12] if Shard(1, 3).holds(task)] == ["0", "8", "9", "10"]
