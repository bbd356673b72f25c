"""Results are named by a template that was checked, and no two of them the same."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.jobs import find as naming
from pcsr_cli.jobs.find import DEFAULT, Source, Task, Template, parse_template, plan_tasks
from tests.failing import fails


def plan(out: Path, *names: str, template: str = DEFAULT, scale: float = 4, suffix: str | None = None) -> list[str]:
    sources = [Source(out.parent / "in" / name, Path(name).parent) for name in names]
    tasks = plan_tasks(sources, out, Template(template), scale, lambda path: suffix or path.suffix)
    return [task.output.as_posix() for task in tasks]


def test_names_are_filled_in(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert plan(out, "a.png", "sub/b.JPG") == ["a_x4.png", "sub/b_x4.JPG"]
    assert plan(out, "a.b.png", template="{scale}-{name}{suffix}", scale=2.5, suffix=".webp") == ["2.5-a.b.png.webp"]
    assert plan(out, "{stem}.png", template="{{{stem}}}{suffix}") == ["{{stem}}.png"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{colour}", "there is no {colour}"),
        ("{}", "there is no {}"),
        ("{0}", "there is no {0}"),
        ("{stem.__class__}", "there is no {stem.__class__}"),
        ("{stem[0]}", "there is no {stem[0]}"),
        ("{stem!r}", "there is no {stem!r}"),
        ("{scale:>9999999999}", "there is no {scale:>9999999999}"),
        ("{stem", "expected '}' before end of string"),
        ("stem}", "single '}' encountered in format string"),
        ("x/{stem}{suffix}", "a name has no folders in it"),
        ("..\\{stem}", "a name has no folders in it"),
        ("{stem}\0", "a name has no folders in it"),
        ("..", "a name has letters in it"),
        ("", "a name has letters in it"),
        (".pcsr-{stem}.part", "names that begin with .pcsr- are kept for unfinished files"),
    ],
)
def test_what_is_no_template(template: str, reason: str) -> None:
    fields = "{stem}, {name}, {suffix}, {scale}"
    with fails(UsageError, f"--name {template} is no template: {reason}.", f"Such as {DEFAULT}; there are {fields}."):
        parse_template(template)


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_a_template_fills_or_is_refused(text: str) -> None:
    try:
        template = parse_template(text)
    except UsageError:
        return
    assert Path(template.fill(Path("a.png"), 4, ".png")).name == template.fill(Path("a.png"), 4, ".png")


def test_two_results_of_one_name_are_refused(tmp_path: Path) -> None:
    with fails(RefusedOutputError, f"{tmp_path / 'in/a.png'} and {tmp_path / 'in/a.jpg'} would both become a_x4.webp."):
        plan(tmp_path / "out", "a.png", "a.jpg", "b.png", suffix=".webp")
    with fails(RefusedOutputError, "would both become") as raised:
        plan(tmp_path / "out", "a.png", "b.png", "c.png", template="x.png")
    assert "and 1 more alike" in str(raised.value)
    assert plan(tmp_path / "out", "a.png", "a.jpg", template="{name}{suffix}", suffix=".webp")


def test_where_case_does_not_count_names_that_differ_in_nothing_else_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(naming, "ignores_case", lambda folder: False)
    assert plan(tmp_path / "out", "a.png", "A.png") == ["a_x4.png", "A_x4.png"]
    monkeypatch.setattr(naming, "ignores_case", lambda folder: True)
    for other in ("A.png", "ä.png"):
        first = "a.png" if other == "A.png" else "a\u0308.png"
        with fails(RefusedOutputError, "would both become"):
            plan(tmp_path / "out", first, other)


def test_no_result_replaces_a_picture_to_enlarge(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b_x4.png").symlink_to(tmp_path / "a.png")
    sources = [Source(tmp_path / "a.png"), Source(tmp_path / "b.png")]
    with fails(RefusedOutputError, f"The result {tmp_path / 'b_x4.png'} would replace a picture to enlarge."):
        plan_tasks(sources, tmp_path, Template(), 4, lambda path: path.suffix)
    with fails(RefusedOutputError, f"The result {tmp_path / 'a.png'} would replace a picture to enlarge."):
        plan_tasks(sources, tmp_path, Template("{name}"), 4, lambda path: path.suffix)


def test_no_result_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a_x4.png").mkdir()
    with fails(RefusedOutputError, f"The result {tmp_path / 'a_x4.png'} is a folder."):
        plan_tasks([Source(Path("a.png"))], tmp_path, Template(), 4, lambda path: path.suffix)


def test_a_task_is_a_picture_and_its_result(tmp_path: Path) -> None:
    source = Source(tmp_path / "a.png", Path("sub"))
    assert plan_tasks([source], tmp_path, Template(), 2, lambda path: ".tif") == (Task(source, Path("sub/a_x2.tif")),)
