"""The preview in the terminal: a detail before and after."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pcsr_cli.cli.upscale_view import HALF_BLOCK, PreviewTap, why_no_preview
from pcsr_cli.images.image import Pixels
from tests.command import Pcsr
from tests.images import levels, save


def tapped(before: Pixels, after: Pixels, max_size: tuple[int, int], band: int) -> PreviewTap:
    """Return a preview to which the rows of a result (H, W, 1 to 4) were written, ``band`` at a time."""
    tap = PreviewTap(max_size)
    tap.choose(before, (after.shape[0], after.shape[1]))
    for top in range(0, len(after), band):
        tap.write(after[top : top + band])
    return tap


@given(
    st.integers(1, 30), st.integers(1, 30), st.floats(1, 4), st.integers(2, 40), st.integers(1, 40), st.integers(1, 130)
)
def test_both_sides_show_the_same_detail(
    height: int, width: int, scale: float, rows: int, columns: int, band: int
) -> None:
    before = levels(height, width)
    high, wide = max(2, round(height * scale)), round(width * scale)
    # The result repeats the pixels of the source, so both sides must be equal.
    at_rows, at_columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in ((high, height), (wide, width)))
    after = before[at_rows][:, at_columns]
    tap = tapped(before, after, (rows, columns), band)
    assert np.array_equal(tap.before, tap.after)
    shown = tap.after.shape[:2]
    assert shown[0] <= max(rows, 2) and shown[1] <= columns
    row, column = tap.origin
    assert np.array_equal(tap.after, after[row : row + shown[0], column : column + shown[1]])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_preview_has_colours_of_8_bits(channels: int, depth: int) -> None:
    after = levels(8, 8, channels)
    rows = after if depth == 8 else after.astype(np.uint16) * 257
    colours = after[..., :1].repeat(3, axis=2) if channels < 3 else after[..., :3]
    assert np.array_equal(tapped(levels(4, 4), rows, (8, 8), 3).after, colours)


def test_a_preview_of_an_animation_shows_the_first_frame() -> None:
    first, second = levels(8, 8), levels(8, 8, seed=1)
    tap = tapped(levels(4, 4), first, (8, 8), 8)
    tap.write(second)
    assert np.array_equal(tap.after, first)


@pytest.mark.parametrize("times", [1, 40])
def test_the_detail_is_where_the_contrast_is(times: int) -> None:
    before = np.full((40, 60, 3), 100, dtype=np.uint8)
    before[30:36, 50:56] = levels(6, 6)
    before = before.repeat(times, axis=0).repeat(times, axis=1)  # 40 times is more than MAX_SEARCHED
    tap = PreviewTap((16 * times, 16 * times))
    tap.choose(before, (80 * times, 120 * times))
    row, column = tap.origin
    assert 56 <= row / times <= 64 and 94 <= column / times <= 104


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_preview_fits_the_terminal(columns: int) -> None:
    console = Console(force_terminal=True, color_system="truecolor", width=columns, height=24)
    side = (columns - 2) // 2
    tap = tapped(levels(100, 100), levels(400, 400), (40, side), 400)
    with console.capture() as capture:
        console.print(tap.draw())
    plain = re.sub(r"\x1b\[[\d;]*m", "", capture.get()).splitlines()
    assert len([line for line in plain if line.count(HALF_BLOCK) == 2 * side]) == 20
    assert max(map(len, plain)) <= columns
    above, below = (";".join(map(str, tap.before[row, 0])) for row in (0, 1))
    assert f"\x1b[38;2;{below};48;2;{above}m{HALF_BLOCK}" in capture.get()


@pytest.mark.parametrize(
    ("console", "words"),
    [
        (Console(force_terminal=False, width=80, height=24), "not a terminal"),
        (
            Console(force_terminal=True, color_system="truecolor", width=80, height=24, _environ={"TERM": "dumb"}),
            "not a t",
        ),
        (Console(force_terminal=True, color_system=None, width=80, height=24), "no colours"),
        (Console(force_terminal=True, color_system="truecolor", width=15, height=24), "too small"),
        (Console(force_terminal=True, color_system="truecolor", width=80, height=24), ""),
    ],
)
def test_a_missing_preview_has_a_reason(console: Console, words: str) -> None:
    assert (why_no_preview(console) or "").find(words) >= 0
    assert (why_no_preview(console) is None) is (words == "")


@pytest.fixture(autouse=True)
def photograph(run_pcsr: Pcsr) -> Path:
    return save(run_pcsr.cwd / "in.png", levels(12, 14))


def test_a_pipe_gets_a_note(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    ran = run_pcsr("upscale", "in.png", "out.png", "--preview", "--model", tiny_folder).succeeded()
    assert "Note: no preview: stderr is not a terminal that can draw." in ran.stderr
    assert HALF_BLOCK not in ran.stderr + ran.stdout
    assert run_pcsr.files() == ["in.png", "out.png"]


@pytest.mark.slow
@pytest.mark.parametrize("output", ["out.png", "-"])
def test_a_terminal_gets_a_preview_after_the_report(run_pcsr: Pcsr, tiny_folder: Path, output: str) -> None:
    text = run_pcsr.on_terminal("upscale", "in.png", output, "--format", "png", "--preview", "--model", tiny_folder)
    report, _, preview = text.partition("before")
    assert "executed" in report
    assert preview.count(HALF_BLOCK) == 2 * 39 * 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out-dir", "out"], "--preview is for a single image."),
        (["out.png", "--quiet"], "--preview and --quiet exclude each other."),
    ],
)
def test_an_invalid_preview_is_refused(run_pcsr: Pcsr, arguments: list[str], message: str) -> None:
    run_pcsr("upscale", "in.png", "--preview", *arguments).failed(2, message)
