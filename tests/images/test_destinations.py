"""Where results may go: refused before any work where something would be lost."""

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from pcsr_cli.errors import OutputError, RefusedOutputError
from pcsr_cli.images import files as destinations
from pcsr_cli.images.files import check_outputs, ignores_case
from tests.failing import fails
from tests.images import save


def test_an_output_that_is_free_is_left_alone(tmp_path: Path) -> None:
    check_outputs([tmp_path / "out.png"], [tmp_path / "in.png"], overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_replaced_only_when_asked(tmp_path: Path) -> None:
    output = save(tmp_path / "out.png")
    with fails(RefusedOutputError, f"{output} already exists."):
        check_outputs([output], [], overwrite=False)
    check_outputs([output], [], overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_is_never_the_input(tmp_path: Path, overwrite: bool) -> None:
    source = save(tmp_path / "in.png")
    (tmp_path / "hard.png").hardlink_to(source)
    (tmp_path / "soft.png").symlink_to(source)
    for output in (source, tmp_path / "hard.png", tmp_path / "soft.png", tmp_path / "." / "in.png"):
        with fails(RefusedOutputError, f"The output {output} is also an input."):
            check_outputs([output], [source], overwrite)


def test_of_many_results_none_is_any_of_many_inputs(tmp_path: Path) -> None:
    sources = [save(tmp_path / name) for name in ("a.png", "b.png")]
    with fails(RefusedOutputError, f"The output {sources[1]} is also an input."):
        check_outputs([tmp_path / "new.png", sources[1]], [*sources, tmp_path / "gone.png"], overwrite=True)


def test_no_two_results_have_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "out.png")
    for other in ("out.png", "folder/../out.png", "link.png"):
        with fails(RefusedOutputError, "Two results have the path"):
            check_outputs([tmp_path / "out.png", tmp_path / other], [], overwrite=True)
    for same in (False, True):
        monkeypatch.setattr(destinations, "ignores_case", lambda folder, same=same: same)
        with fails(RefusedOutputError, "Two results have the path") if same else nullcontext():
            check_outputs([tmp_path / "new.png", tmp_path / "NEW.png"], [], overwrite=False)


def test_whether_case_counts_is_asked_of_the_file_system(tmp_path: Path) -> None:
    (tmp_path / "Probe").touch()
    assert ignores_case(tmp_path / "not" / "there") == (tmp_path / "pROBE").exists()


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    with fails(RefusedOutputError, f"The output {tmp_path} is a folder."):
        check_outputs([tmp_path], [], overwrite=True)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        (tmp_path / "link.png").symlink_to("pipe.png")
        for name in ("pipe.png", "link.png"):
            with fails(RefusedOutputError, f"The output {tmp_path / name} is not a regular file."):
                check_outputs([tmp_path / name], [], overwrite=True)


def test_names_and_places_that_cannot_be_are_told(tmp_path: Path) -> None:
    with fails(OutputError, "cannot be written:", "Choose another name."):
        check_outputs([tmp_path / f"{'x' * 300}.png"], [], overwrite=False)
    (tmp_path / "circle.png").symlink_to("circle.png")
    with fails(OutputError, "cannot be written:", "Choose another name."):
        check_outputs([tmp_path / "circle.png"], [], overwrite=False)
    with fails(OutputError, "cannot be written:", "Choose a folder that exists and can be written."):
        check_outputs([tmp_path / "nowhere" / "out.png"], [], overwrite=False)
    (tmp_path / "file").touch()
    with fails(OutputError, "cannot be written:", "Choose a folder that exists and can be written."):
        check_outputs([tmp_path / "file" / "out.png"], [], overwrite=False)
