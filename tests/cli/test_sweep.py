"""``pcsr sweep``."""

from pathlib import Path

import pytest

from pcsr_cli.cli.sweep import join_grids
from pcsr_cli.errors import InputError, OutputError, PcsrError, RefusedOutputError, UsageError
from tests.command import Pcsr
from tests.failing import tells
from tests.images import levels, save


@pytest.fixture
def photograph(run_pcsr: Pcsr) -> Path:
    return save(run_pcsr.cwd / "in.png", levels(48, 56))


def test_the_document(run_pcsr: Pcsr, tiny_folder: Path, photograph: Path) -> None:
    arguments: list[str | Path] = ["in.png", "--model", tiny_folder, "--json", "--csv", "points.csv"]
    document = run_pcsr("sweep", "--threshold", "0:1:0.5", *arguments).succeeded().document
    mean = document["mean"]
    assert [point["cut"] for point in mean["points"]] == [0, 0.5, 1]
    ends = {"heavy": mean["points"][0], "light": mean["points"][2]}
    assert all(mean[name] == {**point, "cut": None} for name, point in ends.items())
    assert "knee" in mean and "adm" in mean and document["knee_rule"]
    assert (run_pcsr.cwd / "points.csv").read_text().count("\n") == 4


def test_skipped_images_are_in_the_document(run_pcsr: Pcsr, tiny_folder: Path, photograph: Path) -> None:
    (run_pcsr.cwd / "broken.png").write_bytes(b"no picture")
    asked: list[str | Path] = ["--threshold", "0.5", "--model", tiny_folder, "--json"]
    ran = run_pcsr("sweep", "in.png", "broken.png", *asked)
    assert ran.code == 1 and [one["image"] for one in ran.document["skipped"]] == ["broken.png"]
    assert run_pcsr("sweep", "in.png", *asked).succeeded().document["skipped"] == []


@pytest.mark.parametrize("columns", ["80", "140"])
def test_the_terminal_shows_table_and_curve(run_pcsr: Pcsr, tiny_folder: Path, photograph: Path, columns: str) -> None:
    (run_pcsr.cwd / "more").mkdir()
    save(run_pcsr.cwd / "more" / "b.png", levels(48, 40, seed=1))
    ran = run_pcsr("sweep", "in.png", "more", "--k", "--model", tiny_folder, env={"COLUMNS": columns}).succeeded()
    assert "mean of 2" in ran.stdout and "GFLOPs (paper's count)" in ran.stdout and "ADM" in ran.stdout
    assert max(map(len, ran.stdout.splitlines())) <= int(columns)


def test_the_default_is_the_packaged_photograph(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    document = run_pcsr("sweep", "--threshold", "--model", tiny_folder, "--json").succeeded().document
    assert document["mean"]["image"] == "chelsea.png" and len(document["mean"]["points"]) == 21


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_plot(run_pcsr: Pcsr, tiny_folder: Path, photograph: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    run_pcsr("sweep", "in.png", "--threshold", "0,0.5,1", "--model", tiny_folder, "--plot", f"c.{suffix}").succeeded()
    assert (run_pcsr.cwd / f"c.{suffix}").stat().st_size > 1000


@pytest.mark.parametrize("asked", [[], ["--no-reference"]], ids=["hr", "lr"])
def test_equal_results_have_no_curve(run_pcsr: Pcsr, asked: list[str]) -> None:
    pytest.importorskip("matplotlib")
    save(run_pcsr.cwd / "black.png", levels(24, 32) * 0)
    at_two_cuts = ["--threshold", "0,1", "--model", "builtin", "--scale", "2", "--plot", "c.png"]
    ran = run_pcsr("sweep", "black.png", *at_two_cuts, *asked).succeeded()
    assert "there is no curve to draw" in ran.stdout and "equal" in ran.stdout


def test_a_plot_needs_matplotlib(run_pcsr: Pcsr, tiny_folder: Path, photograph: Path) -> None:
    hidden = run_pcsr.scratch / "matplotlib"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ImportError")
    env = {"PYTHONPATH": f"{run_pcsr.scratch}:{run_pcsr.env['PYTHONPATH']}"}
    ran = run_pcsr.in_new_interpreter("sweep", "in.png", "--model", str(tiny_folder), "--plot", "c.png", env=env)
    assert tells(ran.failed(1).stderr, "Plots need matplotlib.")


@pytest.mark.parametrize(
    ("kind", "said", "arguments"),
    [
        (UsageError, "Invalid grid", ["--threshold", "lots"]),
        (UsageError, "is out of range.", ["--threshold", "0:2:0.5"]),
        (UsageError, "is out of range.", ["--threshold", "-1:1:0.5"]),
        (UsageError, "points. Use 1 to", ["--threshold", "1:0:0.5"]),
        (UsageError, "exclude each other.", ["--threshold", "--k"]),
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
        (OutputError, "cannot be written:", ["in.png", "--plot", "x" * 300 + ".png"]),
        (InputError, "does not exist.", ["x" * 300]),
        (UsageError, "Invalid grid", ["--threshold", "x" * 300]),
        (InputError, "do not match x4:", ["in.png", "--lr", "in.png"]),
        (InputError, "All images failed.", ["text.png", "text.png"]),
    ],
)
def test_an_invalid_request_is_one_line(
    run_pcsr: Pcsr, tiny_folder: Path, photograph: Path, kind: type[PcsrError], said: str, arguments: list[str]
) -> None:
    (run_pcsr.cwd / "folder.png").mkdir()
    (run_pcsr.cwd / "text.png").write_text("no picture")
    ran = run_pcsr("sweep", *arguments, "--model", tiny_folder)
    assert ran.code == kind.exit_code and ran.stdout == ""
    assert tells(ran.stderr, said)


@pytest.mark.parametrize(
    ("given", "joined"),
    [
        (["--k", "-1:2:0.5"], ["--k=-1:2:0.5"]),
        (["--k", "0,1", "x.png"], ["--k=0,1", "x.png"]),
        (["--threshold"], ["--threshold=default"]),
        (["--threshold", "--json"], ["--threshold=default", "--json"]),
        (["--threshold", "lots"], ["--threshold=lots"]),
        (["--k", "/"], ["--k=default", "/"]),
        (["--k=1", "--", "--k"], ["--k=1", "--", "--k"]),
    ],
)
def test_a_grid_option_may_have_no_value(given: list[str], joined: list[str]) -> None:
    assert join_grids(given) == joined
