"""Commands and options are in panels of the help, and every example in the help runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.core import TyperGroup
from typer.main import get_command

from pcsr_cli.cli import (
    bench,
    compare,
    config,
    doctor,
    export,
    main,
    models,
    plan,
    report,
    status,
    sweep,
    upscale,
    verify,
)
from pcsr_cli.jobs.claims import describe_run
from pcsr_cli.jobs.journal import Failure, Segment
from tests.command import ROOT, Pcsr

EPILOGS = {module.__name__.rpartition(".")[2]: module.EXAMPLES for module in (upscale, plan, status, bench, sweep)}
EPILOGS |= {module.__name__.rpartition(".")[2]: module.EXAMPLES for module in (report, compare, verify, doctor, export)}
EPILOGS |= {"": str(main.app.info.epilog), "models": str(models.app.info.epilog), "config": str(config.app.info.epilog)}
EXAMPLES = {command: epilog.split("\n\n")[1:] for command, epilog in EPILOGS.items()}


def panels(text: str) -> dict[str, list[str]]:
    """Return the names of the commands or options in each panel."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if title := re.fullmatch(r"╭─ (.+?) ─+╮", line):
            found[title[1]] = []
        elif name := re.match(r"│ (?:\*  +)?([\w-]+)", line):
            found[list(found)[-1]].append(name[1])
    return found


def test_commands_are_in_panels(run_pcsr: Pcsr) -> None:
    found = panels(run_pcsr("--help").succeeded().stdout)
    assert found["Upscale"] == ["upscale", "plan", "status"]
    assert found["Evaluate"] == ["bench", "sweep", "report", "compare"]
    assert found["Check"] == ["verify", "doctor"]
    assert found["Models"] == ["train", "export", "models"]
    assert found["Defaults"] == ["config"]
    assert {"--version", "--help"} <= set(found["Options"])


@pytest.mark.parametrize("command", ["upscale --help-all", "bench --help", "sweep --help", "verify --help"])
def test_options_are_in_panels(run_pcsr: Pcsr, command: str) -> None:
    found = panels(run_pcsr(*command.split()).succeeded().stdout)
    assert "--model" in found["Model"]
    assert "--device" in found["Device and memory"]
    assert {"--scale", "--help"} <= set(found["Options"])


def test_the_help_of_upscale_fits_one_screen_with_common_options_first(run_pcsr: Pcsr) -> None:
    text = run_pcsr("upscale", "--help", env={"COLUMNS": "80"}).succeeded().stdout
    assert text.strip().count("\n") < 50
    found = panels(text)
    assert found["Options"][:3] == ["--scale", "--output", "--model"]
    assert found["Advanced"] == ["--help-all"]
    assert "--adm" in panels(run_pcsr("upscale", "--help-all").succeeded().stdout)["Routing"]


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_help_shows_every_example_in_one_line(run_pcsr: Pcsr, command: str) -> None:
    lines = run_pcsr(*command.split(), "--help").succeeded().stdout.splitlines()
    assert set(EXAMPLES[command]) <= {line.strip() for line in lines}
    assert all(example.startswith(f"pcsr {command}".strip()) for example in EXAMPLES[command])


def test_no_help_is_hidden_as_markup() -> None:
    group = get_command(main.app)
    assert isinstance(group, TyperGroup) and isinstance(group.commands["models"], TyperGroup)
    commands = [*group.commands.values(), *group.commands["models"].commands.values()]
    texts = [str(getattr(parameter, "help", "")) for command in commands for parameter in command.params]
    assert len(texts) > 50 and not [text for text in texts if "[" in text]


def prepare(folder: Path) -> None:
    """Create the files that the examples read."""
    with Image.open(ROOT / "examples" / "chelsea.png") as photograph:
        small = photograph.crop((100, 50, 160, 90))
    for name in ("in.png", "in.jpg"):
        small.save(folder / name)
    (folder / "folder").mkdir()
    small.save(folder / "folder" / "photograph.png")
    (folder / "archive").mkdir()
    Segment(folder / "archive", describe_run()).append(Failure("a.png", "folder/a.png", "a.png", "It failed.", 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("example", [example for examples in EXAMPLES.values() for example in examples])
def test_an_example_runs_as_shown(example: str, run_pcsr: Pcsr) -> None:
    prepare(run_pcsr.cwd)
    if set(example) & set("<>|"):
        shell = example.replace("pcsr", f"{shlex.quote(sys.executable)} -m pcsr_cli", 1)
        subprocess.run(shell, shell=True, cwd=run_pcsr.cwd, env=run_pcsr.env, check=True, timeout=200)
    else:
        run_pcsr(*shlex.split(example, comments=True)[1:]).succeeded()
