"""``pcsr train``: output, signals and options."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pcsr_cli.cli import train as command
from pcsr_cli.cli.console import stderr_console
from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.training.config import load_config
from pcsr_cli.training.log import Decoded, Event, Progress, Saved, Skipped, Validated
from pcsr_cli.training.trainer import load_state
from tests.failing import fails
from tests.training.conftest import recipe_file

__all__ = ["recipe_file"]


@pytest.mark.slow
def test_a_recipe_becomes_a_model(recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    command.command(recipe_file, out=tmp_path / "run", json=True)
    document = json.loads(capsys.readouterr().out)
    assert Path(document["model"], "model.safetensors").is_file()
    assert Path(document["log"]).is_file() and Path(document["plot"]).is_file()


def send_at(kind: type[Event], number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send a signal to this process at the first event of a kind."""
    left = [number]

    def observe(event: Event) -> None:
        if isinstance(event, kind) and left:
            os.kill(os.getpid(), left.pop())

    @contextmanager
    def show_run(*_: Any) -> Iterator[Callable[[Event], None]]:
        yield observe

    monkeypatch.setattr(command, "show_run", show_run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_stopped_run_saves_its_state_and_prints_how_to_continue(
    recipe_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    before = signal.getsignal(number)
    send_at(Progress, number, monkeypatch)
    with pytest.raises(SystemExit) as ended:
        command.command(recipe_file, out=tmp_path / "run", device="cpu")
    assert ended.value.code == 128 + number
    assert "--resume" in capsys.readouterr().err
    assert load_state(tmp_path / "run" / "state.pt", load_config(recipe_file).model.spec).step == 2
    assert signal.getsignal(number) is before
    with fails(RefusedOutputError, f"{tmp_path / 'run'} already contains a run."):
        command.command(recipe_file, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("number", "end"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["SIGINT", "SIGTERM"]
)
def test_cutting_images_can_be_interrupted(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, end: type[BaseException]
) -> None:
    send_at(Decoded, number, monkeypatch)
    with pytest.raises(end):
        command.command(recipe_file, out=tmp_path / "run")
    assert list((recipe_file.parent / "cache").iterdir()) == []


def test_only_a_second_ctrl_c_ends_the_process() -> None:
    with command.record_signals() as received:
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            signal.raise_signal(number)
        assert received[0] == signal.SIGHUP
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_an_ignored_signal_stays_ignored() -> None:
    usual = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with command.record_signals() as received:
            signal.raise_signal(signal.SIGHUP)
            assert not received
    finally:
        signal.signal(signal.SIGHUP, usual)


@pytest.mark.parametrize("chosen", [{"json": True, "quiet": True}, {"resume": True, "start": Path("x")}], ids=str)
def test_options_that_exclude_each_other_are_refused(recipe_file: Path, tmp_path: Path, chosen: dict[str, Any]) -> None:
    with fails(UsageError, "exclude each other."):
        command.command(recipe_file, out=tmp_path / "run", **chosen)


def test_the_lines_describe_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    events: list[Event] = [
        Decoded(Path("a.png"), 1, 2),
        Skipped(Path("b[red].png"), "It is broken."),
        Progress(2, 10, 20, 0.5, 1e-3, 4.0, 64.0, 2.0, 2.5, 0.4),
        Validated(4, 26.0, 26.1, 24.6, 0.3, 3e9, stage=2, step=10, seconds=2.0),
        Saved(Path("run/state.pt"), 2, 10),
    ]
    for quiet in (False, True):
        with command.show_run("tiny", quiet) as observe:
            for event in events:
                observe(event)
        text = capsys.readouterr().err
        parts = ("b[red].png", "10 of 20", "40.0%", "26.00 dB (+1.40 over bicubic", "0:00:02 left")
        assert not text if quiet else all(part in text for part in parts)


def test_a_terminal_shows_a_bar_for_each_part(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    stderr_console.cache_clear()  # a console finds out about the terminal when it is made
    with command.show_run("tiny", quiet=False) as observe:
        observe(Decoded(Path("a.png"), 1, 2))
        for stage in (1, 2):
            observe(Progress(stage, 10, 20, 0.5, 1e-3, 4.0, 64.0, 2.0, 2.5))
    text = capsys.readouterr().err
    stderr_console.cache_clear()
    assert all(f"tiny, {part}" in text for part in ("cutting images", "stage 1 of 2", "stage 2 of 2"))
