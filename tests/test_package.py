"""The wheel and its dependencies."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.mark.parametrize(
    "name",
    [
        "weights.toml",
        "builtin/config.json",
        "builtin/model.safetensors",
        "examples/chelsea.png",
        "py.typed",
        "engine/fused/rows.py",
        "training/card.md.jinja",
        "cli/main.py",
    ],
)
def test_the_wheel_carries(wheel: zipfile.ZipFile, name: str) -> None:
    assert f"pcsr_cli/{name}" in wheel.namelist()


def test_the_registry_in_the_wheel_is_the_one_at_the_top(wheel: zipfile.ZipFile) -> None:
    assert wheel.read("pcsr_cli/weights.toml") == (ROOT / "weights.toml").read_bytes()


def test_the_wheel_carries_no_tests(wheel: zipfile.ZipFile) -> None:
    assert not [name for name in wheel.namelist() if name.startswith("tests/")]


def test_the_model_in_the_wheel_is_under_a_megabyte(wheel: zipfile.ZipFile) -> None:
    sizes = [info.file_size for info in wheel.infolist() if "/builtin/" in info.filename]
    assert 0 < sum(sizes) < 1_000_000


def names(requirements: list[str]) -> set[str]:
    """The packages that requirements name, in the index's spelling."""
    return {re.split(r"[\s\[<>=;]", line)[0].lower().replace("_", "-") for line in requirements if line[:1].isalpha()}


def test_constraints_pin_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = names(project["dependencies"]).union(*(names(extra) for extra in extras)) - {"pcsr"}
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert wanted <= names([line for line in constraints if "==" in line])
