"""Help is in groups, and every example in it runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pcsr_cli.cli.examples import EXAMPLES
from tests.command import ROOT, Pcsr

COMMANDS = [example.command for examples in EXAMPLES.values() for example in examples]


def headings(text: str) -> dict[str, list[str]]:
    """What stands first in the lines under each heading."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if heading := re.fullmatch(r"(\w[\w ]*):", line):
            found[heading[1]] = []
        elif found and re.match(r"  \S", line):
            found[list(found)[-1]].append(line.split()[0].rstrip(","))
    return found


def test_commands_are_grouped_by_what_they_are_for(run_pcsr: Pcsr) -> None:
    groups = headings(run_pcsr("--help").succeeded().stdout)
    assert groups["Enlarge"][0] == "upscale"
    assert {"bench", "sweep"} <= set(groups["Measure and look"])
    assert groups["Check"] == ["verify", "doctor"]
    assert groups["Models"] == ["train", "models"]
    assert {"--version", "-h"} <= set(groups["Options"])


@pytest.mark.parametrize("command", ["upscale", "bench", "sweep", "verify"])
def test_options_are_grouped_by_what_they_are_about(run_pcsr: Pcsr, command: str) -> None:
    groups = headings(run_pcsr(command, "--help").succeeded().stdout)
    assert "-m" in groups["Model"]
    assert "--device" in groups["Where and how it is computed"]
    assert "-s" in groups["Options"] and "-h" in groups["Options"]
    assert list(groups)[-2:] == ["Options", "Examples"]


def test_every_command_with_examples_shows_them(run_pcsr: Pcsr) -> None:
    for path, examples in EXAMPLES.items():
        told = run_pcsr(*path.split()[1:], "--help").succeeded().stdout
        for example in examples:
            assert f"  {example.command}\n      {example.said}\n" in told


def test_no_sentence_about_a_command_is_cut_short(run_pcsr: Pcsr) -> None:
    assert "..." not in run_pcsr("--help").succeeded().stdout.replace("[ARGS]...", "")


def prepare(folder: Path) -> None:
    """The files that examples speak of."""
    with Image.open(ROOT / "examples" / "chelsea.png") as photograph:
        small = photograph.crop((100, 50, 160, 90))
    for name in ("in.png", "in.jpg"):
        small.save(folder / name)
    (folder / "folder").mkdir()
    small.save(folder / "folder" / "photograph.png")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_an_example_runs_as_shown(command: str, run_pcsr: Pcsr) -> None:
    prepare(run_pcsr.cwd)
    if set(command) & set("<>|"):
        shell = command.replace("pcsr", f"{shlex.quote(sys.executable)} -m pcsr_cli", 1)
        subprocess.run(shell, shell=True, cwd=run_pcsr.cwd, env=run_pcsr.env, check=True, timeout=200)
    else:
        run_pcsr(*shlex.split(command)[1:]).succeeded()
