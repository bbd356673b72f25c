"""The commands, the Python code and the links in README and docs work as printed.

Commands run on small images with the names they use, with a tiny network in place of ``carn``. The commands of one
document run in order in one folder.
"""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from msgspec import structs
from PIL import Image

from pcsr_cli.model.checkpoint import save_folder
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.spec import Scales
from tests.cli.test_help import prepare
from tests.command import Pcsr as Runner
from tests.documents import DOCUMENTS, ROOT, Command, commands, links, python, reference
from tests.tiny import tiny_spec
from tests.training.conftest import RECIPE, draw_images

README = ROOT / "README.md"
COMMANDS = [command for document in DOCUMENTS for command in commands(document)]
PYTHON = [(document.name, code) for document in DOCUMENTS for code in python(document)]

CARN = """
[models.carn]
folder = "carn"
backbone = { name = "carn", width = 8 }
samplers = [[4], [64, 64, 64]]
classifier = [5, 5]
mean = [0.4488, 0.4371, 0.4040]
scales = [4]
receptive_radius = 19
licence = "MIT"
source = "a stand-in"
"""


def test_the_documents_contain_commands() -> None:
    assert len(commands(README)) >= 10
    assert len({command.document for command in COMMANDS}) >= 5


def test_every_indented_line_is_a_command_or_has_a_reason_not_to_run() -> None:
    programs = {"pcsr", "python", "torchrun", "for", "cat", "find"}
    assert {command.line.split()[0] for command in COMMANDS if command.reason is None} <= programs


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.name))
def test_every_link_has_a_target(document: Path) -> None:
    for target in links(document):
        assert (document.parent / target).exists(), target


def test_the_readme_links_to_every_document() -> None:
    linked = {(ROOT / target).resolve() for target in links(README)}
    assert set(DOCUMENTS[1:]) <= linked


def test_the_page_of_options_is_current() -> None:
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert page == reference(), "Run: python -m tests.documents"


def test_the_python_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = python(README)
    monkeypatch.chdir(ROOT)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("(902, 600) ")


@pytest.mark.slow
@pytest.mark.parametrize(("document", "code"), [pair for pair in PYTHON if pair[0] != "README.md"])
def test_python_runs_as_printed(document: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, document, "exec"), {})


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder per document, with the images and recipes that its commands name."""
    root = tmp_path_factory.mktemp("workspaces")
    for document in DOCUMENTS:
        folder = root / document.name
        folder.mkdir()
        prepare(folder)
        with Image.open(folder / "in.png") as small:
            small.save(folder / "small.png")
            small.convert("L").save(folder / "mask.png")
        _add_pair(folder / "hr.png", folder / "lr.png")
        for part in ("HR", "LR_x4"):
            (folder / "set14" / part).mkdir(parents=True)
        _add_pair(folder / "set14" / "HR" / "a.png", folder / "set14" / "LR_x4" / "a.png")
        draw_images(folder / "images")
        (folder / "recipe.toml").write_text(RECIPE.replace("high = 3", "high = 4").replace("patch = 48", "patch = 64"))
        (folder / "examples").symlink_to(ROOT / "examples")
    save_folder(_stand_in(), Scales((4.0,)), root / "carn")
    (root / "own.toml").write_text(CARN)
    return root


def _stand_in() -> Pcsr:
    """A small random CARN-PCSR with a large heavy sampler, so that a budget can choose between costs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Pcsr(structs.replace(tiny_spec("carn"), samplers=((4,), (64, 64, 64))))


def _add_pair(hr: Path, lr: Path) -> None:
    with Image.open(ROOT / "examples" / "chelsea.png") as photograph:
        large = photograph.crop((100, 50, 260, 210))
    large.save(hr)
    large.resize((40, 40), Image.Resampling.BICUBIC).save(lr)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.document}: {command.line}")
def test_a_command_runs_as_printed(command: Command, run_pcsr: Runner, workspaces: Path) -> None:
    if command.reason is not None:
        pytest.skip(f"{command.document}: {command.reason}")
    env = {**run_pcsr.env, "PCSR_REGISTRY": str(workspaces / "own.toml"), "COLUMNS": "100"}
    runner = replace(run_pcsr, cwd=workspaces / command.document, env=env)
    if command.line.startswith("pcsr ") and not set(command.line) & set("<>|;"):
        runner(*shlex.split(command.line)[1:]).succeeded()
        return
    path = os.pathsep.join((str(Path(sys.executable).parent), env["PATH"]))
    done = subprocess.run(
        command.line, shell=True, env={**env, "PATH": path}, cwd=runner.cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_install_commands_use_the_tested_versions_and_enlarge_the_shipped_photograph() -> None:
    (line,) = re.findall(r"^    python3 -m venv .*$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    installation = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert re.findall(r"torch==\S+", installation) == re.findall(r"^torch==\S+", constraints, flags=re.MULTILINE)
    assert "pip install -c constraints.txt . " in line
    assert line.endswith("pcsr upscale examples/chelsea.png chelsea_x4.png --scale 4")
    assert (ROOT / "examples" / "chelsea.png").is_file()
