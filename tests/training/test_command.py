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
from pcsr_cli.errors import OutputError, PlotError, RefusedOutputError, UsageError
from pcsr_cli.training.config import load_config
from pcsr_cli.training.events import Decoded, Event, Progress, Saved, Skipped, Validated
from pcsr_cli.training.report import plot_run
from pcsr_cli.training.state import load_state
from tests.failing import fails
from tests.training.test_processes import recipe_file

__all__ = ["recipe_file"]


def test_a_recipe_becomes_a_model(recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.command(recipe_file, out=tmp_path / "run", json=True)
    told = json.loads(capsys.readouterr().out)
    assert Path(told["model"], "model.safetensors").is_file()
    assert Path(told["log"]).is_file()


def signal_at(kind: type[Event], number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first event of a kind bring a signal along."""
    left = [number]

    def observe(event: Event) -> None:
        if isinstance(event, kind) and left:
            os.kill(os.getpid(), left.pop())

    @contextmanager
    def watching(*_: Any) -> Iterator[Callable[[Event], None]]:
        yield observe

    monkeypatch.setattr("pcsr_cli.cli.training_view.watching", watching)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_stopped_run_is_saved_and_says_how_to_go_on(
    recipe_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    before = signal.getsignal(number)
    signal_at(Progress, number, monkeypatch)
    with pytest.raises(SystemExit) as ended:
        command.command(recipe_file, out=tmp_path / "run", device="cpu")
    assert ended.value.code == 128 + number
    assert "--resume" in capsys.readouterr().err
    assert load_state(tmp_path / "run" / "state.pt", load_config(recipe_file).model.spec).step == 2
    assert signal.getsignal(number) is before
    with fails(RefusedOutputError, f"{tmp_path / 'run'} holds a run already."):
        command.command(recipe_file, out=tmp_path / "run")


def test_cutting_pictures_can_be_interrupted(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal_at(Decoded, signal.SIGINT, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        command.command(recipe_file, out=tmp_path / "run")
    assert list((recipe_file.parent / "cache").iterdir()) == []


def test_a_terminal_that_is_closed_may_tell_twice_but_a_second_ctrl_c_ends_at_once() -> None:
    with command.Stopping() as stopping:
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            signal.raise_signal(number)
        assert stopping.asked == signal.SIGHUP
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    usual = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with command.Stopping() as stopping:
            signal.raise_signal(signal.SIGHUP)
            assert stopping.asked is None
    finally:
        signal.signal(signal.SIGHUP, usual)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"json": True, "quiet": True}, "exclude each other."),
        ({"resume": True, "start": Path("x")}, "exclude each other."),
        ({"rewind": 0.5}, "--rewind needs a state to go on from."),
        ({"rewind": 1.5, "resume": True}, "is out of range."),
        ({"minutes": 0.0}, "is no time."),
    ],
)
def test_wrong_usage_is_one_sentence(recipe_file: Path, tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with fails(UsageError, said):
        command.command(recipe_file, out=tmp_path / "run", **options)


def test_without_matplotlib_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return usual(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with fails(PlotError, "Plots need matplotlib."):
        plot_run(tmp_path / "log.jsonl", tmp_path / "curve.png")


def test_the_curve_is_drawn(recipe_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command.command(recipe_file, out=tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")
    with fails(OutputError, "cannot be written:", "Choose a folder that exists and can be written."):
        plot_run(tmp_path / "run" / "log.jsonl", tmp_path / "nowhere" / "curve.png")
    with fails(PlotError, f"{tmp_path / 'nothing.jsonl'} tells of no iteration yet."):
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
