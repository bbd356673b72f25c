"""Invalid options are refused; valid ones become objects of the library."""

import os
from pathlib import Path

import pytest

from pcsr_cli.cli import options
from pcsr_cli.cli.upscale import STREAM, Batch, Single, choose_work
from pcsr_cli.cli.upscale_options import Options
from pcsr_cli.engine.rules import NEVER, Adaptive, Threshold, Tradeoff
from pcsr_cli.errors import UsageError
from tests.failing import fails


def test_an_upscale_has_at_most_one_routing() -> None:
    assert options.choose_routing(None, None, False) is None
    assert options.choose_routing(0.25, None, False) == Threshold(0.25)
    assert options.choose_routing(None, 1.0, False) == Tradeoff(1.0)
    assert options.choose_routing(None, None, True) == Adaptive()
    with fails(UsageError, "--threshold and --k and --adm and --budget exclude each other."):
        options.choose_routing(0.5, 1.0, True, "60%")


@pytest.mark.parametrize("refine", [-1, 10])
def test_refine_has_a_range(refine: int) -> None:
    with fails(UsageError, f"--refine {refine} is out of range.", f"Use 0 (smooth all light pixels) to {NEVER}"):
        options.choose_refine(refine, no_refine=False, scale=4)


def test_refine_depends_on_the_scale() -> None:
    assert options.choose_refine(None, no_refine=True, scale=4) == NEVER
    assert [options.choose_refine(None, no_refine=False, scale=scale) for scale in (2, 3, 4)] == [NEVER, 1, 1]
    with fails(UsageError, "--refine and --no-refine exclude each other."):
        options.choose_refine(3, True, 4)


@pytest.mark.parametrize("tile", ["7", "1.5", "big", "", "9" * 30])
def test_an_invalid_tile_is_refused(tile: str) -> None:
    with fails(UsageError, f"Invalid --tile {tile[:20]}.", f"from {options.MIN_TILE}, such as 256."):
        options.choose_tile(tile)


def test_a_tile_is_a_number_or_auto() -> None:
    assert (options.choose_tile("auto"), options.choose_tile("256")) == (None, 256)


@pytest.mark.parametrize("memory", ["lots", "-1G", "1X", ""])
def test_an_invalid_amount_of_memory_is_refused(memory: str) -> None:
    with fails(UsageError, f"Invalid --memory {memory}."):
        options.choose_memory(memory)


def test_an_amount_of_memory_has_a_unit() -> None:
    assert options.choose_memory("auto") is None
    assert options.choose_memory("512m") == 512 * 2**20
    assert options.choose_memory("1.5G") == 3 * 2**29


def test_an_empty_argument_is_refused() -> None:
    for arguments, name in (
        (["upscale", "", "out"], "An argument"),
        (["upscale", "in", "--out-dir", ""], "--out-dir"),
        (["sweep", "--lr="], "--lr"),
    ):
        with fails(UsageError, f"{name} is empty."):
            options.check_no_empty_argument(arguments)
    options.check_no_empty_argument(["upscale", "a=b=", "--name={stem}=", "-", "."])


def test_only_a_dash_means_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").touch()
    assert choose_work(Options(paths=["-", "-"])) == Single(STREAM, STREAM)
    assert choose_work(Options(paths=["./-", "-"])) == Single(Path.cwd() / "-", STREAM)


def test_results_of_a_folder_are_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, folder in (("/", Path("/_x4")), (".", tmp_path.parent / f"{tmp_path.name}_x4")):
        assert choose_work(Options(paths=[name]), "x4") == Batch((Path(name),), folder)


@pytest.mark.parametrize("text", ["2.5", "2.5x", "X2.5", 2.5])
def test_a_scale_may_have_an_x(text: object) -> None:
    assert options.parse_scale(text) == 2.5


@pytest.mark.parametrize("text", ["200%", "x", "2xx", "", "two"])
def test_an_invalid_scale_is_refused(text: str) -> None:
    with fails(UsageError, f"Invalid --scale {text}."):
        options.parse_scale(text)


def test_names_of_other_programs_are_ours() -> None:
    assert [options.usual_name(name) for name in ("output_dir", "force", "scale")] == ["out-dir", "overwrite", "scale"]
    assert options.advice(["upscale", "in.png", "--gpu=0"]) == "Use --device cuda."
    assert options.advice(["upscale", "in.png", "--nonsense"]) == ""
    assert options.advice(["upscale", "in.png", "--device", "cuda", "--nonsense"]) == ""


def test_threads_are_set_before_torch_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options.set_threads(None)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    options.set_threads(3)
    assert os.environ["OMP_NUM_THREADS"] == "3"
