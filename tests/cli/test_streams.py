"""stdout as it is found: closed, full, or in an encoding that cannot take every name."""

import sys
from pathlib import Path

import pytest

from tests.command import Pcsr
from tests.failing import tells
from tests.images import save

WHAT_GOES_THERE = [
    ["--help"],
    ["--version"],
    ["models"],
    ["models", "--json"],
    ["upscale", "in.png", "-", "--format", "png"],
    ["upscale", "in.png", "out.png", "--json"],
]


@pytest.fixture
def pcsr(run_pcsr: Pcsr, tiny_folder: Path) -> Pcsr:
    """The command in a folder with a picture."""
    save(run_pcsr.cwd / "in.png")
    (run_pcsr.cwd / "tiny").symlink_to(tiny_folder)
    return run_pcsr


def with_model(arguments: list[str]) -> list[str]:
    return [*arguments, "--model", "tiny"] if arguments[0] in {"upscale", "plan"} else arguments


@pytest.mark.parametrize("arguments", WHAT_GOES_THERE, ids=" ".join)
def test_a_closed_stdout_is_told_before_any_work(pcsr: Pcsr, arguments: list[str]) -> None:
    ran = pcsr(*with_model(arguments), stdout_is="closed").told(2)
    assert tells(ran.stderr, "stdout is closed, and what was asked for goes there.")
    assert not (pcsr.cwd / "out.png").exists()


def test_where_nothing_goes_there_it_may_be_closed(pcsr: Pcsr) -> None:
    pcsr(*with_model(["upscale", "in.png", "out.png"]), stdout_is="closed").succeeded()
    assert (pcsr.cwd / "out.png").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="no /dev/full")
@pytest.mark.parametrize("arguments", WHAT_GOES_THERE, ids=" ".join)
def test_a_full_stdout_is_told(pcsr: Pcsr, arguments: list[str]) -> None:
    ran = pcsr(*with_model(arguments), stdout_is="full").told(1, "no space left")
    if arguments[-1] != "png":
        assert tells(ran.stderr, "stdout cannot be written:")


def test_names_that_stdout_cannot_take_are_told_in_another_way(pcsr: Pcsr) -> None:
    (pcsr.cwd / "in.png").rename(pcsr.cwd / "画.png")
    ran = pcsr(*with_model(["plan", "画.png"]), env={"PYTHONIOENCODING": "ascii"}).succeeded()
    assert "\\u753b.png" in ran.stdout
