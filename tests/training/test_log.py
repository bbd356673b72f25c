"""The log of a run, and the model card and plot made from it."""

import builtins
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pcsr_cli.errors import OutputError, PlotError
from pcsr_cli.model.network import Pcsr
from pcsr_cli.training.config import TrainConfig, ValidationConfig
from pcsr_cli.training.log import Log, Progress, Skipped, Validated, plot_run, read_log, write_card
from tests.failing import contains, fails


def test_the_card_states_data_recipe_and_figures(recipe: TrainConfig, tmp_path: Path) -> None:
    source = replace(recipe.data.sources[0], title="Drawn waves", licence="CC0-1.0", reductions=(1.0, 2.0))
    data, validation = replace(recipe.data, sources=(source,)), ValidationConfig("images", scales=(2,))
    config = replace(recipe, data=data, validation=validation, stage1=replace(recipe.stage1, square_tail=0.25))
    log = Log(tmp_path / "log.jsonl")
    log(Validated(2, 26.0, 26.5, 24.0, 0.25, 3e9, stage=2, step=6, seconds=60.0))
    write_card(config, Pcsr(config.model.spec), tmp_path, tmp_path / "log.jsonl", seconds=7200)
    card = (tmp_path / "README.md").read_text()
    parts = ("license: mit", "| Drawn waves | CC0-1.0 | 1, 2 |", "Seed 3", "2.0 hours", "26.00 dB | 25.0%", "x1 to x3")
    assert contains(card, *parts, "[4], [8, 8]", "mean squared error in the last 25%")


def test_a_card_and_a_log_that_cannot_be_written_are_errors(recipe: TrainConfig, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with fails(OutputError, f"{missing / 'README.md'} cannot be written: no such file or directory."):
        write_card(recipe, Pcsr(recipe.model.spec), missing, missing / "log.jsonl", seconds=1)
    with fails(OutputError, f"Cannot write the log {missing / 'log.jsonl'}: no such file or directory."):
        Log(missing / "log.jsonl")(Skipped(Path("a.png"), "It is broken."))


def test_a_log_that_was_cut_short_can_be_read_and_continued(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    Log(path)(Skipped(Path("a.png"), "It is broken."))
    with path.open("a") as stream:
        stream.write('{"event": "skip')
    Log(path)(Skipped(Path("b.png"), "It is broken too."))
    assert [entry["path"] for entry in read_log(path, "skipped")] == ["a.png", "b.png"]
    assert list(read_log(tmp_path / "nothing.jsonl", "skipped")) == []


def test_without_matplotlib_the_error_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return usual(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with fails(PlotError, "Plots need matplotlib."):
        plot_run(tmp_path / "log.jsonl", tmp_path / "curve.png")


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "log.jsonl"
    with fails(PlotError, f"{path} has no progress to plot."):
        plot_run(path, tmp_path / "curve.png")
    for step in (1, 2):
        Log(path)(Progress(1, step, 2, 0.5 / step, 1e-3, 4.0, 64.0, 2.0, 2.5))
    Log(path)(Validated(2, 26.0, 26.5, 24.0, 0.25, 3e9, stage=1, step=2, seconds=60.0))
    plot_run(path, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with fails(OutputError, "cannot be written"):
        plot_run(path, tmp_path / "missing" / "curve.png")
