"""Decoders are fed garbage: a picture or a sentence comes of it, never a traceback, a hang or half a file."""

from pathlib import Path

import pytest

from tests.command import Pcsr
from tests.images.mutations import damaged, is_read, seeds

pytestmark = pytest.mark.filterwarnings("ignore")


def test_sound_files_are_read() -> None:
    unread = [name for name, content in seeds().items() if not is_read(content)]
    assert not unread


@pytest.mark.timeout(30)
@pytest.mark.parametrize("part", range(10))
def test_damage_is_told_and_nothing_else(part: int) -> None:
    read = [is_read(content) for _, content in damaged(60, 60 * part)]
    assert 0 < sum(read) < 60  # some damage is none that can be seen


def test_the_command_leaves_no_half_file_of_them(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    for name, content in damaged(8, 606):
        suffix = Path(name).suffix
        (run_pcsr.cwd / f"in{suffix}").write_bytes(content)
        ran = run_pcsr("upscale", f"in{suffix}", "out.png", "--model", tiny_folder, "--quiet")
        assert (ran.code, (run_pcsr.cwd / "out.png").exists()) in {(0, True), (1, False)}, name
        if ran.code:
            ran.failed(1)
        for file in run_pcsr.cwd.iterdir():
            file.unlink()
