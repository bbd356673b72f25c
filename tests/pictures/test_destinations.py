"""Where results may go: refused before any work where something would be lost."""

import os
from pathlib import Path

import pytest

from pcsr_cli.failures import outputs
from pcsr_cli.pictures.destinations import check_output
from tests.failing import fails
from tests.pictures import save


def test_an_output_that_is_free_is_left_alone(tmp_path: Path) -> None:
    check_output(tmp_path / "out.png", tmp_path / "in.png", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_replaced_only_when_asked(tmp_path: Path) -> None:
    output = save(tmp_path / "out.png")
    with fails(outputs.EXISTS, output=output):
        check_output(output, None, overwrite=False)
    check_output(output, None, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_is_never_the_input(tmp_path: Path, overwrite: bool) -> None:
    source = save(tmp_path / "in.png")
    (tmp_path / "hard.png").hardlink_to(source)
    (tmp_path / "soft.png").symlink_to(source)
    for output in (source, tmp_path / "hard.png", tmp_path / "soft.png", tmp_path / "." / "in.png"):
        with fails(outputs.IS_THE_INPUT):
            check_output(output, source, overwrite)


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    with fails(outputs.IS_A_FOLDER, output=tmp_path):
        check_output(tmp_path, None, overwrite=True)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        (tmp_path / "link.png").symlink_to("pipe.png")
        for name in ("pipe.png", "link.png"):
            with fails(outputs.NOT_A_FILE, output=tmp_path / name):
                check_output(tmp_path / name, None, overwrite=True)


def test_names_and_places_that_cannot_be_are_told(tmp_path: Path) -> None:
    with fails(outputs.BAD_NAME):
        check_output(tmp_path / f"{'x' * 300}.png", None, overwrite=False)
    (tmp_path / "circle.png").symlink_to("circle.png")
    with fails(outputs.BAD_NAME):
        check_output(tmp_path / "circle.png", None, overwrite=False)
    with fails(outputs.NO_PLACE):
        check_output(tmp_path / "nowhere" / "out.png", None, overwrite=False)
