"""``pcsr train`` as people and scripts see it."""

import builtins
import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pcsr_cli.cli import train as command
from pcsr_cli.cli.training_view import View, sparkline
from pcsr_cli.failures import Failure, measuring, training, usage
from pcsr_cli.training.curve import plot_run
from pcsr_cli.training.events import Decoded, Event, Progress, Saved, Skipped, Validated
from tests.failing import fails
from tests.training.test_processes import RECIPE, recipe_file

__all__ = ["recipe_file"]


def test_a_recipe_becomes_a_model(recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.command(recipe_file, out=tmp_path / "run", json=True)
    told = json.loads(capsys.readouterr().out)
    assert Path(told["model"], "model.safetensors").is_file()
    assert Path(told["log"]).is_file()


def test_an_interrupted_run_says_how_to_go_on(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe_file.write_text(RECIPE.replace("iterations = 6", "iterations = 100000", 1))
    before = signal.getsignal(signal.SIGINT)

    def interrupt(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    usual = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        with pytest.raises(SystemExit) as ended:
            command.command(recipe_file, out=tmp_path / "run", device="cpu")
    finally:
        signal.signal(signal.SIGALRM, usual)
    assert ended.value.code == 130
    assert "--resume" in capsys.readouterr().err
    assert (tmp_path / "run" / "state.pt").is_file()
    assert signal.getsignal(signal.SIGINT) is before
    with fails(training.RUN_EXISTS, folder=tmp_path / "run"):
        command.command(recipe_file, out=tmp_path / "run")


def test_cutting_pictures_can_be_interrupted(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def interrupting(*_: Any) -> Iterator[Callable[[Event], None]]:
        yield lambda event: os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("pcsr_cli.cli.training_view.watching", interrupting)
    with pytest.raises(KeyboardInterrupt):
        command.command(recipe_file, out=tmp_path / "run")
    assert list((recipe_file.parent / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "row"),
    [
        ({"json": True, "quiet": True}, usage.EXCLUDE),
        ({"resume": True, "start": Path("x")}, usage.EXCLUDE),
        ({"rewind": 0.5}, training.NOTHING_TO_REWIND),
        ({"rewind": 1.5, "resume": True}, training.REWIND),
        ({"minutes": 0.0}, training.MINUTES),
    ],
)
def test_wrong_usage_is_one_sentence(recipe_file: Path, tmp_path: Path, options: dict[str, Any], row: Failure) -> None:
    with fails(row):
        command.command(recipe_file, out=tmp_path / "run", **options)


def test_without_matplotlib_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return usual(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with fails(measuring.NO_MATPLOTLIB):
        plot_run(tmp_path / "log.jsonl", tmp_path / "curve.png")


def test_the_curve_is_drawn(recipe_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command.command(recipe_file, out=tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")
    with fails(training.NOTHING_TO_PLOT, log=tmp_path / "nothing.jsonl"):
        plot_run(tmp_path / "nothing.jsonl", tmp_path / "curve.png")


def test_the_panel_shows_every_event() -> None:
    from rich.console import Console

    events: list[Event] = [
        Decoded(Path("a.png"), 1, 2),
        Skipped(Path("b[red].png"), "It is broken."),
        Progress(2, 10, 20, 0.5, 1e-3, 4.0, 64.0, 2.0, 2.5, 0.4),
        Validated(4, 26.0, 26.1, 24.6, 0.3, 3e9, stage=2, step=10, seconds=2.0),
        Saved(Path("run/state.pt"), 2, 10),
    ]
    view = View("tiny")
    console = Console(width=100, record=True, file=io.StringIO())
    for event in events:
        view(event)
        console.print(view.draw())
    text = console.export_text()
    for part in (
        "1 of 2 pictures",
        "b[red].png",
        "10 of 20",
        "40.0%",
        "26.00 dB (+1.40 over bicubic",
        "0:00:02",
        "state.pt",
    ):
        assert part in text


def test_sparklines_are_as_long_as_there_is_room() -> None:
    assert sparkline([3.0]) == "▁"
    assert sparkline([1.0, 2.0]) == "▁█"
    assert len(sparkline([float(value) for value in range(1000)])) == 48
