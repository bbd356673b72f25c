"""``pcsr verify``."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command import ROOT, Pcsr
from tests.failing import tells
from tests.images import levels, save

# A build of pcsr whose tiles get next to no halo.
SHORT = """
import sys
from pcsr_cli.engine import upscale as upscaling
from pcsr_cli.cli.main import main
honest = upscaling.plan_tiles
upscaling.plan_tiles = lambda lr_size, scale, tile, halo, ring: honest(lr_size, scale, tile, 1, ring)
sys.argv[0] = "pcsr"
main()
"""


@pytest.fixture
def photograph(run_pcsr: Pcsr) -> Path:
    return save(run_pcsr.cwd / "in.png", levels(30, 50))


def test_the_verdict_is_on_stdout(run_pcsr: Pcsr, tiny_folder: Path, photograph: Path) -> None:
    ran = run_pcsr("verify", "in.png", "--model", tiny_folder).succeeded()
    assert "in.png, the whole image: 50x30 -> 200x120" in ran.stdout
    assert "All checks passed." in ran.stdout
    for way in ("tiles of 41", "tiles of 25", "2 threads", "features computed twice"):
        assert way in ran.stdout
    assert run_pcsr.files() == ["in.png"]


def test_the_document(run_pcsr: Pcsr, tiny_folder: Path, photograph: Path) -> None:
    arguments: list[str | Path] = ["--crop", "24", "--tile", "16", "--tile", "9", "--model", tiny_folder, "--json"]
    document = run_pcsr("verify", "in.png", *arguments).succeeded().document
    assert document["passed"] is True and document["checked"] == "the middle of the image"
    assert (document["input_size"], document["output_size"]) == ([24, 24], [96, 96])
    ways = [one["variant"] for one in document["comparisons"] if one["routing"] == "ADM"]
    assert ways == ["tiles of 16", "tiles of 9", "2 threads", "features computed twice"]
    assert all(one["passed"] and one["tolerance"]["difference"] == 1e-5 for one in document["comparisons"])


def test_too_short_a_halo_fails(run_pcsr: Pcsr, tiny_folder: Path, photograph: Path) -> None:
    command = [sys.executable, "-c", SHORT, "verify", "in.png", "--crop", "30", "--model", str(tiny_folder)]
    done = subprocess.run(command, env=run_pcsr.env, cwd=run_pcsr.cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "BROKEN" in done.stdout
    assert tells(done.stderr, " failed.")


def test_quiet_prints_nothing(run_pcsr: Pcsr, tiny_folder: Path, photograph: Path) -> None:
    ran = run_pcsr("verify", "in.png", "--crop", "20", "--model", tiny_folder, "--quiet").succeeded()
    assert (ran.stdout, ran.stderr) == ("", "")


@pytest.mark.parametrize(
    "arguments", [["--tile", "4"], ["--crop", "0"], ["--scale", "0.5"], ["--json", "--quiet"], ["--device", "toaster"]]
)
def test_invalid_options(run_pcsr: Pcsr, photograph: Path, arguments: list[str]) -> None:
    run_pcsr("verify", "in.png", *arguments).failed(2)


def test_the_packaged_photograph_passes(run_pcsr: Pcsr) -> None:
    picture = ROOT / "examples" / "chelsea.png"
    ran = run_pcsr("verify", picture, "--model", "builtin", "--crop", "64", "--precision", "bf16")
    assert "bfloat16" in ran.succeeded().stdout and "near: " in ran.stdout


def whole(run_pcsr: Pcsr, picture: Path, model: str | Path) -> Any:
    """Return the document of a verification of a whole image, without a time limit."""
    command = [
        sys.executable,
        "-m",
        "pcsr_cli",
        "verify",
        str(picture),
        "--model",
        str(model),
        "--tile",
        "61",
        "--json",
    ]
    done = subprocess.run(command, env=run_pcsr.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_whole_packaged_photograph_passes(run_pcsr: Pcsr) -> None:
    document = whole(run_pcsr, ROOT / "examples" / "chelsea.png", "builtin")
    assert document["passed"] is True and document["checked"] == "the whole image"


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.timeout(1200)
def test_the_published_model_passes(run_pcsr: Pcsr, shared: Path) -> None:
    picture, model = shared / "images" / "demo_lr_x4.png", shared / "hub" / "3587jjh" / "pcsr_carn"
    document = whole(run_pcsr, picture, model)
    assert document["passed"] is True
