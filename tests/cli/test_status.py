"""``pcsr status``: the progress of a folder, and the list of failed images for another run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import Pcsr
from tests.images import levels, save


@pytest.fixture
def ran(run_pcsr: Pcsr, tiny_folder: Path) -> Pcsr:
    """A folder run with results, failures and images that remain."""
    for name in ("a.png", "b.png", "sub/c.png"):
        (run_pcsr.cwd / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        save(run_pcsr.cwd / "in" / name, levels(4, 5))
    for name in ("bad.png", os.fsdecode(b"\xff.png")):
        (run_pcsr.cwd / "in" / name).write_bytes(b"nonsense")
    assert run_pcsr("upscale", "in", "out", "--model", tiny_folder).code == 1
    return run_pcsr


def test_the_document_has_all_figures(ran: Pcsr) -> None:
    document = ran("status", "out", "in", "--recursive", "--json").succeeded().document
    assert (document["done"], document["failed"], document["remaining"]) == (2, 2, 1)
    assert document["reasons"] == {"the image is not an image of a known format.": 2}
    assert sorted(slow["result"] for slow in document["slowest"]) == ["a_x4.png", "b_x4.png"]
    (run,) = document["runs"]
    assert (run["done"], run["failed"], run["live"], run["info"]["shard"]) == (2, 2, False, "")
    assert ran("status", "out", "--json").succeeded().document["remaining"] is None


def test_a_table_shows_the_figures(ran: Pcsr) -> None:
    lines = ran("status", "out", "in").succeeded().stdout.splitlines()
    assert [line.rstrip().split(maxsplit=1) for line in lines[:4]] == [
        ["done", "2"],
        ["failed", "2"],
        ["2", "x the image is not an image of a known format."],
        ["remaining", "0"],
    ]
    assert lines[-1].split()[-1] == "ended"
    ran("status", "out", "nowhere").failed(1, "There is no file nowhere.")


@pytest.mark.parametrize("source", [[], ["in"]])
def test_the_failed_images_are_a_list_for_another_run(ran: Pcsr, tiny_folder: Path, source: list[str]) -> None:
    command = [sys.executable, "-m", "pcsr_cli"]
    failed = subprocess.run(
        [*command, "status", "out", *source, "--failed"], cwd=ran.cwd, env=ran.env, capture_output=True, check=True
    ).stdout
    assert failed == b"in/bad.png\nin/\xff.png\n"
    for name in failed.split():
        save(ran.cwd / os.fsdecode(name), levels(4, 5))
    (ran.cwd / "list").write_bytes(failed)
    again = ran("upscale", "in", "out", "--from-list", "list", "--model", tiny_folder, "--json").succeeded()
    assert again.document["totals"]["done"] == 2
    assert ran("status", "out", "--json").succeeded().document["failed"] == 0


def test_names_with_a_line_break_end_with_nul_bytes(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    (run_pcsr.cwd / "in").mkdir()
    for name in ("a.png", "b\n.png"):
        (run_pcsr.cwd / "in" / name).write_bytes(b"nonsense")
    assert run_pcsr("upscale", "in", "out", "--model", tiny_folder).code == 1
    assert run_pcsr("status", "out", "--failed").succeeded().stdout == "in/a.png\0in/b\n.png\0"


def test_a_wrong_folder_is_refused(run_pcsr: Pcsr) -> None:
    run_pcsr("status", "nowhere").failed(1, "nowhere has no journal. Give a folder with results of upscale.")
    run_pcsr("status", ".", "--failed", "--json").failed(2, "--failed and --json exclude each other.")
