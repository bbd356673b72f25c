"""What the README shows works as printed."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from tests.command import Pcsr

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """The ``pcsr`` lines of the README, without their comments."""
    lines = re.findall(r"^    (pcsr .*)$", README, flags=re.MULTILINE)
    return [line.split("#")[0].strip() for line in lines]


def test_the_python_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("(902, 600) ")


def test_there_are_commands_to_try() -> None:
    assert len(commands()) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_a_command_runs_as_printed(command: str, run_pcsr: Pcsr) -> None:
    with Image.open(ROOT / "examples" / "chelsea.png") as photograph:
        small = photograph.crop((100, 50, 160, 90))
    for name in ("in.png", "in.jpg"):
        small.save(run_pcsr.cwd / name)
    (run_pcsr.cwd / "folder").mkdir()
    small.save(run_pcsr.cwd / "folder" / "photograph.png")
    run_pcsr(*shlex.split(command)[1:]).succeeded()


def test_the_command_that_sets_everything_up_enlarges_the_photograph_that_ships() -> None:
    (line,) = re.findall(r"^    python3 -m venv .*$", README, flags=re.MULTILINE)
    assert line.endswith("pcsr upscale examples/chelsea.png chelsea_x4.png --scale 4")
    assert (ROOT / "examples" / "chelsea.png").is_file()
