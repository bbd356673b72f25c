"""The wheel, the sdist, the Dockerfile, and the dependencies."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the wheel and the sdist, built from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(dist.glob("*.whl")))


CONTENTS = {"weights.toml", "builtin/config.json", "builtin/model.safetensors", "examples/chelsea.png", "py.typed"}
CONTENTS |= {"engine/fused/rows.py", "training/card.md.jinja", "cli/main.py"}


def test_the_wheel_contains_the_package_without_the_tests(wheel: zipfile.ZipFile) -> None:
    files = wheel.namelist()
    assert {f"pcsr_cli/{name}" for name in CONTENTS} <= set(files)
    assert not [name for name in files if name.startswith("tests/")]
    assert wheel.read("pcsr_cli/weights.toml") == (ROOT / "weights.toml").read_bytes()


def test_the_model_in_the_wheel_is_under_a_megabyte(wheel: zipfile.ZipFile) -> None:
    sizes = [info.file_size for info in wheel.infolist() if "/builtin/" in info.filename]
    assert 0 < sum(sizes) < 1_000_000


def test_the_sdist_contains_every_file_of_the_repository(dist: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    with tarfile.open(next(dist.glob("*.tar.gz"))) as sdist:
        files = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"docs/formats.md", "recipes/builtin.toml", "tests/conftest.py"} <= set(tracked) <= files


def test_the_dockerfile_copies_what_the_wheel_needs_and_installs_the_tested_torch() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = {name for line in re.findall(r"^COPY (.*) \S+$", text, flags=re.MULTILINE) for name in line.split()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert all((ROOT / name).exists() for name in copied)
    assert {"pyproject.toml", "README.md", "LICENSE", "pcsr_cli"} <= copied
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]) <= copied
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert set(re.findall(r"torch==\S+", text)) <= set(pins)


def names(requirements: list[str]) -> set[str]:
    """The package names in requirements, as the index spells them."""
    return {re.split(r"[\s\[<>=;]", line)[0].lower().replace("_", "-") for line in requirements if line[:1].isalpha()}


def test_constraints_pin_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    required = names(project["dependencies"]).union(*(names(extra) for extra in extras)) - {"pcsr"}
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert required <= names([line for line in constraints if "==" in line])
