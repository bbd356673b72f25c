"""A detail before and after, drawn in the terminal, and nothing drawn where nobody would see it."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pcsr_cli.cli.preview import UPPER_HALF, choose_detail, drawn, half_blocks, why_not
from pcsr_cli.failures import maps, usage
from tests.command import Pcsr
from tests.failing import tells
from tests.pictures import levels, save


@given(st.integers(1, 30), st.integers(1, 30), st.floats(1, 4), st.integers(2, 40), st.integers(1, 40))
def test_a_detail_is_of_the_same_place(height: int, width: int, scale: float, rows: int, columns: int) -> None:
    before = levels(height, width)
    high, wide = max(2, round(height * scale)), round(width * scale)
    # A result that is the source's own pixels, larger: both sides have to be equal.
    at_rows, at_columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in ((high, height), (wide, width)))
    after = before[at_rows][:, at_columns]
    detail = choose_detail(before, after, (rows, columns))
    assert np.array_equal(detail.before, detail.after)
    shown = detail.after.shape[:2]
    assert shown[0] <= max(rows, 2) and shown[1] <= columns
    row, column = detail.at
    assert np.array_equal(detail.after, after[row : row + shown[0], column : column + shown[1]])


def test_it_is_where_the_contrast_is() -> None:
    before = np.full((40, 60, 3), 100, dtype=np.uint8)
    before[30:36, 50:56] = levels(6, 6)
    after = before.repeat(2, axis=0).repeat(2, axis=1)
    row, column = choose_detail(before, after, (16, 16)).at
    assert 56 <= row <= 64 and 94 <= column <= 104


def test_half_blocks_are_two_pixels_a_character() -> None:
    console = Console(force_terminal=True, color_system="truecolor", width=80)
    with console.capture() as capture:
        console.print(half_blocks(np.array([[[1, 2, 3]], [[4, 5, 6]]], dtype=np.uint8)))
    assert capture.get().startswith(f"\x1b[38;2;1;2;3;48;2;4;5;6m{UPPER_HALF}")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_it_fits_the_terminal(columns: int) -> None:
    console = Console(force_terminal=True, color_system="truecolor", width=columns, height=24)
    detail = choose_detail(levels(100, 100), levels(400, 400), (40, (columns - 2) // 2))
    with console.capture() as capture:
        console.print(drawn(detail))
    plain = re.sub(r"\x1b\[[\d;]*m", "", capture.get()).splitlines()
    assert len([line for line in plain if UPPER_HALF in line]) == 20
    assert max(map(len, plain)) <= columns


@pytest.mark.parametrize(
    ("console", "words"),
    [
        (Console(force_terminal=False, width=80, height=24), "no terminal"),
        (
            Console(force_terminal=True, color_system="truecolor", width=80, height=24, _environ={"TERM": "dumb"}),
            "no t",
        ),
        (Console(force_terminal=True, color_system=None, width=80, height=24), "no colours"),
        (Console(force_terminal=True, color_system="truecolor", width=15, height=24), "too small"),
        (Console(force_terminal=True, color_system="truecolor", width=80, height=24), ""),
    ],
)
def test_where_nothing_can_be_drawn_it_is_said_why(console: Console, words: str) -> None:
    assert (why_not(console) or "").find(words) >= 0
    assert (why_not(console) is None) is (words == "")


@pytest.fixture
def photograph(run_pcsr: Pcsr) -> Path:
    return save(run_pcsr.cwd / "in.png", levels(12, 14))


def test_a_pipe_gets_a_sentence(run_pcsr: Pcsr, tiny_folder: Path, photograph: Path) -> None:
    ran = run_pcsr("upscale", "in.png", "out.png", "--preview", "--model", tiny_folder).succeeded()
    assert "Note: no preview: stderr is no terminal that draws." in ran.stderr
    assert UPPER_HALF not in ran.stderr + ran.stdout
    assert run_pcsr.files() == ["in.png", "out.png"]


def test_a_terminal_gets_a_picture(run_pcsr: Pcsr, tiny_folder: Path, photograph: Path) -> None:
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "pcsr_cli",
        "upscale",
        "in.png",
        "out.png",
        "--preview",
        "--model",
        str(tiny_folder),
    ]
    env = {**run_pcsr.env, "TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "80", "LINES": "30"}
    with subprocess.Popen(command, env=env, cwd=run_pcsr.cwd, stderr=theirs, stdout=subprocess.PIPE) as process:
        os.close(theirs)
        said = b""
        while chunk := _read(ours):
            said += chunk
        assert process.wait() == 0
    os.close(ours)
    assert "before" in said.decode() and said.decode().count(UPPER_HALF) == 2 * 39 * 24


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux tells that nobody holds the other end any more
        return b""


def test_many_pictures_have_no_preview(run_pcsr: Pcsr, photograph: Path) -> None:
    ran = run_pcsr("upscale", "in.png", "--out-dir", "out", "--preview").told(2)
    assert tells(maps.ONLY_FOR_ONE, ran.stderr, option="--preview")


def test_nothing_to_be_said_leaves_nothing_to_draw(run_pcsr: Pcsr, photograph: Path) -> None:
    ran = run_pcsr("upscale", "in.png", "out.png", "--preview", "--quiet").told(2)
    assert tells(usage.EXCLUDE, ran.stderr, options="--preview and --quiet")
