"""``pcsr verify``."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import ROOT, Pcsr
from tests.images import levels, save

# A build of pcsr whose tiles get next to no halo.
SHORT = """
import sys
from pcsr_cli.engine import upscale as upscaling
from pcsr_cli.cli.main import main
original = upscaling.plan_tiles
upscaling.plan_tiles = lambda lr_size, scale, tile, halo, *rest: original(lr_size, scale, tile, 1, *rest)
sys.argv[0] = "pcsr"
main()
"""


@pytest.fixture(autouse=True)
def photograph(run_pcsr: Pcsr) -> Path:
    return save(run_pcsr.cwd / "in.png", levels(30, 50))


VARIANTS = ["2 threads", "features computed twice"]


def test_the_verdict_is_one_line(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    ran = run_pcsr("verify", "in.png", "--model", tiny_folder).succeeded()
    (line,) = ran.stdout.splitlines()
    assert line.startswith("in.png, the whole image: 50x30 -> 200x120; tiny, cpu")
    assert ": all 7 checks passed" in line
    assert run_pcsr.files() == ["in.png"]


def test_verbose_prints_every_check(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    ran = run_pcsr("verify", "in.png", "--model", tiny_folder, "-v").succeeded()
    for text in ("tiles of 41", "tiles of 25", *VARIANTS, "All checks passed."):
        assert text in ran.stdout


def test_the_document_has_every_comparison(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    arguments: list[str | Path] = ["--crop", "24", "--tile", "16", "--tile", "9", "--model", tiny_folder, "--json"]
    document = run_pcsr("verify", "in.png", *arguments).succeeded().document
    assert document["passed"] is True and document["checked"] == "the middle of the image"
    assert (document["input_size"], document["output_size"]) == ([24, 24], [96, 96])
    adaptive = [comparison for comparison in document["comparisons"] if comparison["routing"] == "ADM"]
    assert [comparison["variant"] for comparison in adaptive] == ["tiles of 16", "tiles of 9", *VARIANTS]
    for comparison in document["comparisons"]:
        assert comparison["passed"] and comparison["tolerance"]["difference"] == 1e-5


@pytest.mark.slow
def test_too_short_a_halo_fails(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    command = [sys.executable, "-c", SHORT, "verify", "in.png", "--crop", "30", "--model", str(tiny_folder)]
    done = subprocess.run(command, env=run_pcsr.env, cwd=run_pcsr.cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "BROKEN" in done.stdout
    assert " failed." in done.stderr


def test_quiet_prints_nothing(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    ran = run_pcsr("verify", "in.png", "--crop", "20", "--model", tiny_folder, "--quiet").succeeded()
    assert (ran.stdout, ran.stderr) == ("", "")


@pytest.mark.parametrize(
    "arguments", [["--tile", "4"], ["--crop", "0"], ["--scale", "0.5"], ["--json", "--quiet"], ["--device", "toaster"]]
)
def test_an_invalid_option_is_refused(run_pcsr: Pcsr, arguments: list[str]) -> None:
    run_pcsr("verify", "in.png", *arguments).failed(2)


@pytest.mark.slow
def test_the_packaged_photograph_passes(run_pcsr: Pcsr) -> None:
    photograph = ROOT / "examples" / "chelsea.png"
    ran = run_pcsr("verify", photograph, "--model", "builtin", "--crop", "64", "--precision", "bf16", "-v")
    assert "bfloat16" in ran.succeeded().stdout and "near: " in ran.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("published", [False, pytest.param(True, marks=pytest.mark.shared)], ids=["builtin", "carn"])
def test_a_whole_photograph_passes(run_pcsr: Pcsr, shared: Path, published: bool) -> None:
    image, model = ROOT / "examples" / "chelsea.png", Path("builtin")
    if published:
        image, model = shared / "images" / "demo_lr_x4.png", shared / "hub" / "3587jjh" / "pcsr_carn"
    arguments = ("verify", image, "--model", model, "--tile", "61", "--json")
    document = run_pcsr.in_new_interpreter(*arguments, timeout=1200).succeeded().document
    assert document["passed"] is True and document["checked"] == "the whole image"
