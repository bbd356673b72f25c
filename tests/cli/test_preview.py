"""The preview in the terminal: a detail before and after."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console

from pcsr_cli.cli.upscale_view import HALF_BLOCK, draw_preview, why_no_preview
from tests.command import Pcsr
from tests.images import levels, save


def drawn(before: NDArray[np.uint8], after: NDArray[np.uint8], room: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the colours of a preview, (rows, columns, 3), read from its escape sequences."""
    console = Console(force_terminal=True, color_system="truecolor", width=200, height=99)
    with console.capture() as capture:
        console.print(draw_preview(before, after, room))
    rows = []
    for line in capture.get().splitlines()[1:]:
        cells = re.findall(r"\x1b\[38;2;([\d;]+);48;2;([\d;]+)m▄", line)
        upper, lower = ([[int(part) for part in cell[side].split(";")] for cell in cells] for side in (1, 0))
        rows += [upper, lower]  # the upper pixel is the background
    return np.array(rows, np.uint8)


@given(st.integers(1, 30), st.integers(1, 30), st.floats(1, 4), st.integers(2, 40), st.integers(1, 40))
def test_both_sides_show_the_same_detail(height: int, width: int, scale: float, rows: int, columns: int) -> None:
    before = levels(height, width)
    high, wide = max(2, round(height * scale)), round(width * scale)
    # The result repeats the pixels of the source, so both sides must be equal.
    at_rows, at_columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in ((high, height), (wide, width)))
    both = drawn(before, before[at_rows][:, at_columns], (rows, columns))
    shown = both.shape[1] // 2
    assert both.shape[0] <= rows and shown == min(columns, wide)
    assert np.array_equal(both[:, :shown], both[:, -shown:])


@pytest.mark.parametrize("times", [1, 40])
def test_the_detail_is_where_the_contrast_is(times: int) -> None:
    after = np.full((40, 60, 3), 100, dtype=np.uint8)
    after[30:36, 50:56] = levels(6, 6)
    after = after.repeat(times, axis=0).repeat(times, axis=1)  # 40 times is more than MAX_SEARCHED
    text = draw_preview(after, after, (8 * times, 8 * times)).renderables[0]
    column, row = (int(part) / times for part in str(text).rpartition(" ")[2].split(","))
    assert 28 <= row <= 31 and 47 <= column <= 51


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
    reason = why_no_preview(console, Path("out.png"), (100, 100))
    assert words in (reason or "") and (reason is None) is (words == "")
    assert why_no_preview(console, Path("out.png"), (20_000, 10_000)) is not None


@pytest.fixture(autouse=True)
def photograph(run_pcsr: Pcsr) -> Path:
    return save(run_pcsr.cwd / "in.png", levels(12, 14))


def test_a_pipe_gets_a_note(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    ran = run_pcsr("upscale", "in.png", "out.png", "--preview", "--model", tiny_folder).succeeded()
    assert "Note: no preview: stderr is not a terminal that can draw." in ran.stderr
    assert HALF_BLOCK not in ran.stderr + ran.stdout
    assert run_pcsr.files() == ["in.png", "out.png"]


@pytest.mark.slow
def test_a_terminal_gets_a_preview_after_the_report(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    text = run_pcsr.on_terminal("upscale", "in.png", "out.png", "--preview", "--model", tiny_folder)
    report, _, preview = text.partition("before")
    assert "of the compute saved" in report
    assert preview.count(HALF_BLOCK) == 2 * 39 * 24


@pytest.mark.slow
def test_a_result_on_stdout_has_no_preview(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    text = run_pcsr.on_terminal("upscale", "in.png", "-", "--format", "png", "--preview", "--model", tiny_folder)
    assert "Note: no preview: the result is not a file." in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["other.png", "--out-dir", "out"], "--preview is for a single image."),
        (["out.png", "--quiet"], "--preview and --quiet exclude each other."),
    ],
)
def test_an_invalid_preview_is_refused(run_pcsr: Pcsr, arguments: list[str], message: str) -> None:
    run_pcsr("upscale", "in.png", "--preview", *arguments).failed(2, message)
