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

from pcsr_cli.cli.preview import UPPER_HALF, Detail, Lookout, choose_detail, drawn, half_blocks, why_not
from pcsr_cli.engine.routing import Threshold
from pcsr_cli.images.formats import choose_format
from pcsr_cli.images.image import ImageData, Layout, Pixels
from pcsr_cli.jobs.pipeline import Ready
from tests.command import Pcsr
from tests.failing import tells
from tests.images import levels, save


def passed_by(before: Pixels, after: Pixels, room: tuple[int, int], band: int) -> Detail:
    """The detail that is kept when the rows of a result, (H, W, 1 to 4), go by so many at a time."""
    lookout = Lookout(room)
    picture = ImageData(before)
    layout = Layout(*after.shape[:2])
    lookout.watch(Ready(picture, None, choose_format(None, "png"), layout, Threshold(), (), 0.0))
    for top in range(0, len(after), band):
        lookout.write(after[top : top + band])
    assert lookout.detail is not None
    return lookout.detail


@given(
    st.integers(1, 30), st.integers(1, 30), st.floats(1, 4), st.integers(2, 40), st.integers(1, 40), st.integers(1, 130)
)
def test_a_detail_is_of_the_same_place(
    height: int, width: int, scale: float, rows: int, columns: int, band: int
) -> None:
    before = levels(height, width)
    high, wide = max(2, round(height * scale)), round(width * scale)
    # A result that is the source's own pixels, larger: both sides have to be equal.
    at_rows, at_columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in ((high, height), (wide, width)))
    after = before[at_rows][:, at_columns]
    detail = passed_by(before, after, (rows, columns), band)
    assert np.array_equal(detail.before, detail.after)
    shown = detail.after.shape[:2]
    assert shown[0] <= max(rows, 2) and shown[1] <= columns
    row, column = detail.at
    assert np.array_equal(detail.after, after[row : row + shown[0], column : column + shown[1]])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [8, 16])
def test_it_is_in_colour_and_of_8_bits_whatever_the_result_is(channels: int, depth: int) -> None:
    after = levels(8, 8, channels)
    rows = after if depth == 8 else after.astype(np.uint16) * 257
    colours = after[..., :1].repeat(3, axis=2) if channels < 3 else after[..., :3]
    assert np.array_equal(passed_by(levels(4, 4), rows, (8, 8), 3).after, colours)


def test_of_frames_it_is_the_first() -> None:
    first, second = levels(8, 8), levels(8, 8, seed=1)
    lookout = Lookout((8, 8))
    lookout.detail = choose_detail(levels(4, 4), (8, 8), (8, 8))
    for frame in (first, second):
        lookout.write(frame)
    assert np.array_equal(lookout.detail.after, first)


@pytest.mark.parametrize("times", [1, 40])
def test_it_is_where_the_contrast_is(times: int) -> None:
    before = np.full((40, 60, 3), 100, dtype=np.uint8)
    before[30:36, 50:56] = levels(6, 6)
    before = before.repeat(times, axis=0).repeat(times, axis=1)  # 40 times is more than is searched pixel by pixel
    row, column = choose_detail(before, (80 * times, 120 * times), (16 * times, 16 * times)).at
    assert 56 <= row / times <= 64 and 94 <= column / times <= 104


def test_half_blocks_are_two_pixels_a_character() -> None:
    console = Console(force_terminal=True, color_system="truecolor", width=80)
    with console.capture() as capture:
        console.print(half_blocks(np.array([[[1, 2, 3]], [[4, 5, 6]]], dtype=np.uint8)))
    assert capture.get().startswith(f"\x1b[38;2;1;2;3;48;2;4;5;6m{UPPER_HALF}")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_it_fits_the_terminal(columns: int) -> None:
    console = Console(force_terminal=True, color_system="truecolor", width=columns, height=24)
    detail = choose_detail(levels(100, 100), (400, 400), (40, (columns - 2) // 2))
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


@pytest.mark.parametrize("output", ["out.png", "-"])
def test_a_terminal_gets_a_picture_when_all_is_said(
    run_pcsr: Pcsr, tiny_folder: Path, photograph: Path, output: str
) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pcsr_cli", "upscale", "in.png", output, "--format", "png", "--preview"]
    env = {**run_pcsr.env, "TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "80", "LINES": "30"}
    with subprocess.Popen(
        [*command, "--model", str(tiny_folder)], env=env, cwd=run_pcsr.cwd, stderr=theirs, stdout=subprocess.PIPE
    ) as process:
        os.close(theirs)
        said = b""
        while chunk := _read(ours):
            said += chunk
        assert process.wait() == 0
    os.close(ours)
    report, _, preview = said.decode().partition("before")
    assert "executed" in report
    assert preview.count(UPPER_HALF) == 2 * 39 * 24


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux tells that nobody holds the other end any more
        return b""


def test_many_pictures_have_no_preview(run_pcsr: Pcsr, photograph: Path) -> None:
    ran = run_pcsr("upscale", "in.png", "--out-dir", "out", "--preview").told(2)
    assert tells(ran.stderr, "--preview is for a single picture.")


def test_nothing_to_be_said_leaves_nothing_to_draw(run_pcsr: Pcsr, photograph: Path) -> None:
    ran = run_pcsr("upscale", "in.png", "out.png", "--preview", "--quiet").told(2)
    assert tells(ran.stderr, "--preview and --quiet exclude each other.")
