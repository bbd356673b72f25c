"""``pcsr sweep``."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from pcsr_cli.cli.sweep import _table, conclude
from pcsr_cli.errors import InputError, OutputError, PcsrError, RefusedOutputError, UsageError
from pcsr_cli.evaluate.sweep import Curve, OriginalPoint, Point
from tests.command import Pcsr, Ran
from tests.images import levels, save


@pytest.fixture
def sweep(run_pcsr: Pcsr, tiny_folder: Path) -> Callable[..., Ran]:
    """Runs ``pcsr sweep`` with the tiny model beside an image."""
    save(run_pcsr.cwd / "in.png", levels(48, 56))
    return partial(run_pcsr, "sweep", "--model", tiny_folder)


def test_the_document_has_curves_and_a_mean(run_pcsr: Pcsr, sweep: Callable[..., Ran]) -> None:
    document = sweep("--threshold", "0:1:0.5", "in.png", "--json", "--csv", "points.csv").succeeded().document
    mean = document["mean"]
    assert [point["cut"] for point in mean["points"]] == [0, 0.5, 1]
    ends = {"heavy": mean["points"][0], "light": mean["points"][2]}
    assert all(mean[name] == {**point, "cut": None} for name, point in ends.items())
    assert "knee" in mean and "adm" in mean and document["knee_rule"]
    assert (run_pcsr.cwd / "points.csv").read_text().count("\n") == 4


def test_skipped_images_are_in_the_document(run_pcsr: Pcsr, sweep: Callable[..., Ran]) -> None:
    (run_pcsr.cwd / "broken.png").write_bytes(b"not an image")
    ran = sweep("in.png", "broken.png", "--threshold", "0.5", "--json")
    assert ran.code == 1 and [skipped["image"] for skipped in ran.document["skipped"]] == ["broken.png"]
    assert sweep("in.png", "--threshold", "0.5", "--json").succeeded().document["skipped"] == []


@pytest.mark.parametrize("columns", ["80", "140"])
def test_the_table_fits_the_terminal(run_pcsr: Pcsr, sweep: Callable[..., Ran], columns: str) -> None:
    (run_pcsr.cwd / "more").mkdir()
    save(run_pcsr.cwd / "more" / "b.png", levels(48, 40, seed=1))
    ran = sweep("in.png", "more", "--k", "-1:2:0.25", env={"COLUMNS": columns}).succeeded()
    assert "mean of 2" in ran.stdout and "GFLOPs" in ran.stdout and "ADM" in ran.stdout and "knee" in ran.stdout
    assert max(map(len, ran.stdout.splitlines())) <= int(columns)


def test_a_long_remark_does_not_break_the_figures() -> None:
    point, console = Point(0.5, 0.25, 0.5, 2, 2, 20, 0.9, equal=12), Console(width=80)
    with console.capture() as shown:
        console.print(_table(Curve("a", (point,), point, point, point, OriginalPoint(4, 4, None))))
    assert "0.5000  0.25  50.0%" in shown.get() and "infinite" in shown.get()


def test_the_default_image_is_the_packaged_photograph(sweep: Callable[..., Ran]) -> None:
    document = sweep("--json").succeeded().document
    assert document["mean"]["image"] == "chelsea.png" and len(document["mean"]["points"]) == 21


@pytest.mark.parametrize(
    ("kind", "k", "qualities", "conclusion"),
    [
        ("threshold", 0.25, (20, 29, 30), "threshold 0.5, is 1.00 dB below all heavy and saves 50% (paper's count)"),
        ("threshold", 0.25, (20, 31, 30), "threshold 0.5, is 1.00 dB above all heavy and saves 50% (paper's count)"),
        ("threshold", 0.25, (20, 31, math.inf), "threshold 0.5, has 31.00 dB against all heavy and saves 50%"),
        ("k", -0.0, (20, 29, 30), "use --k 0."),
        ("k", 0.25, (20, 29, 30), "k 0.25, is 1.00 dB below all heavy and saves 50% (paper's count): use --k 0.25."),
        ("k", 0.25, (20, 25, 30), "The curve has no knee: no point is above the straight line between its ends."),
    ],
)
def test_one_sentence_states_the_knee_and_the_option_for_it(
    kind: str, k: float, qualities: tuple[float, ...], conclusion: str
) -> None:
    points = [
        Point(0.5, k, 0.5, gflops, gflops, psnr, 0.9)
        for gflops, psnr in zip((2, 4, 6), (*qualities[:2], min(qualities[2], 30)), strict=True)
    ]
    heavy = replace(points[2], paper=8, psnr=qualities[2])
    assert conclusion in conclude(Curve("a.png", tuple(points), points[0], heavy, points[1], None), kind)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_plot_is_written(run_pcsr: Pcsr, sweep: Callable[..., Ran], suffix: str) -> None:
    pytest.importorskip("matplotlib")
    (run_pcsr.cwd / "in.png").rename(run_pcsr.cwd / "$a_{$.png")  # invalid as a formula
    ran = sweep("$a_{$.png", "--threshold", "0,0.5,1", "--plot", f"c.{suffix}").succeeded()
    assert ran.stderr == ""
    assert (run_pcsr.cwd / f"c.{suffix}").stat().st_size > 1000


@pytest.mark.parametrize("options", [[], ["--no-reference"]], ids=["hr", "lr"])
def test_equal_results_have_no_knee(run_pcsr: Pcsr, options: list[str]) -> None:
    pytest.importorskip("matplotlib")
    save(run_pcsr.cwd / "black.png", levels(24, 32) * 0)
    at_two_cuts = ["--threshold", "0,1", "--model", "builtin", "--scale", "2", "--plot", "c.png"]
    ran = run_pcsr("sweep", "black.png", *at_two_cuts, *options).succeeded()
    assert "has no knee" in ran.stdout and "equal" in ran.stdout


@pytest.mark.slow
def test_a_plot_needs_matplotlib(run_pcsr: Pcsr) -> None:
    hidden = run_pcsr.scratch / "matplotlib"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ImportError")
    env = {"PYTHONPATH": f"{run_pcsr.scratch}:{run_pcsr.env['PYTHONPATH']}"}
    ran = run_pcsr.in_new_interpreter("sweep", "--plot", "c.png", env=env)
    ran.failed(1, "Plots need matplotlib.")


@pytest.mark.parametrize(
    ("kind", "message", "arguments"),
    [
        (UsageError, "Invalid grid", ["--threshold", "lots"]),
        (UsageError, "is out of range.", ["--threshold", "-1:1:0.5"]),
        (UsageError, "exclude each other.", ["--threshold", "0", "--k", "0"]),
        (InputError, "does not exist.", ["nowhere.png"]),
        (OutputError, "Cannot write a plot as", ["--plot", "c.txt"]),
        (RefusedOutputError, "is a folder.", ["--plot", "folder.png"]),
        (RefusedOutputError, "is a folder.", ["--csv", "folder.png"]),
        (OutputError, "cannot be written:", ["--plot", "nowhere/c.png"]),
        (RefusedOutputError, "already exists.", ["in.png", "--plot", "text.png"]),
        (RefusedOutputError, "already exists.", ["in.png", "--csv", "text.png"]),
        (RefusedOutputError, "is also an input.", ["in.png", "--plot", "in.png", "--overwrite"]),
        (RefusedOutputError, "is also an input.", ["in.png", "--csv", "in.png", "--overwrite"]),
        (RefusedOutputError, "Two results have the path", ["in.png", "--plot", "c.png", "--csv", "./c.png"]),
        (UsageError, "Invalid grid", ["--threshold", "x" * 300]),
        (InputError, "do not match x4:", ["in.png", "--lr", "in.png"]),
        (InputError, "All images failed.", ["text.png", "text.png"]),
    ],
)
def test_an_invalid_request_is_refused(
    run_pcsr: Pcsr, sweep: Callable[..., Ran], kind: type[PcsrError], message: str, arguments: list[str]
) -> None:
    (run_pcsr.cwd / "folder.png").mkdir()
    (run_pcsr.cwd / "text.png").write_text("not an image")
    ran = sweep(*arguments)
    assert ran.code == kind.exit_code and ran.stdout == ""
    assert message in ran.stderr
