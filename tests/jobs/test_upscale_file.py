"""Reading a job: an animation is read as frames, and a damaged one is refused."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pcsr_cli.api import load_model
from pcsr_cli.errors import InputError, RefusedOutputError
from pcsr_cli.images.animation import open_animation
from pcsr_cli.jobs import upscale_file
from pcsr_cli.jobs.request import Job, Request
from pcsr_cli.jobs.upscale_file import JobInput, Upscaler
from tests.command import ROOT
from tests.failing import fails
from tests.images import levels, save


def save_animation(path: Path) -> Path:
    still, *others = (Image.fromarray(levels(24, 30, seed=seed)) for seed in range(6))
    still.save(path, save_all=True, append_images=others)
    return path


def read(upscaler: Upscaler, path: Path) -> JobInput:
    return upscaler.read(Job(path, path.with_name("result.png")))


@pytest.fixture
def upscaler(tiny_folder: Path) -> Upscaler:
    return Upscaler(load_model(str(tiny_folder)), Request(refine=1, frames=True), record=lambda *finished: None)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_a_damaged_animation_is_refused(upscaler: Upscaler, tmp_path: Path, suffix: str) -> None:
    path = save_animation(tmp_path / f"animation{suffix}")
    whole = read(upscaler, path)
    assert whole.moving and len(whole.frames) == 6
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with fails(InputError, "is truncated or damaged:"):
        read(upscaler, path)


def test_an_animation_that_changes_is_refused(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_animation(tmp_path / "animation.gif")

    def read_and_changed(source: Path, allow_huge: bool) -> object:
        path.touch()
        return open_animation(source, allow_huge)

    monkeypatch.setattr(upscale_file, "open_animation", read_and_changed)
    with fails(InputError, "was changed while it was read."):
        read(upscaler, path)


@pytest.mark.parametrize("background", [None, (255, 255, 255)])
@pytest.mark.parametrize("name", ["result.jpg", "result.bmp"])
def test_a_format_of_one_frame_is_refused_for_an_animation(
    tiny_folder: Path, tmp_path: Path, background: tuple[int, int, int] | None, name: str
) -> None:
    request = Request(refine=1, frames=True, background=background)
    path = save_animation(tmp_path / "animation.gif")
    with fails(RefusedOutputError, "holds only one frame."):
        Upscaler(load_model(str(tiny_folder)), request).read(Job(path, tmp_path / name))


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.webp", "a.jpg"])
def test_images_with_one_frame_are_stills(upscaler: Upscaler, tmp_path: Path, name: str) -> None:
    assert not read(upscaler, save(tmp_path / name)).moving


def test_one_frame_is_refused_if_stills_are_not_allowed(tiny_folder: Path, tmp_path: Path) -> None:
    upscaler = Upscaler(load_model(str(tiny_folder)), Request(refine=1, frames=True), stills=False)
    with fails(InputError, "has only one frame."):
        read(upscaler, save(tmp_path / "a.gif"))


def test_frames_that_need_too_much_memory_are_refused_before_any_work(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_animation(tmp_path / "animation.gif")
    needed = 4 * 6 * (24 * 30 + 2 * 96 * 120)
    monkeypatch.setattr(upscale_file, "free_memory", lambda device: 2 * needed)
    assert len(read(upscaler, path).frames) == 6
    monkeypatch.setattr(upscale_file, "free_memory", lambda device: 2 * needed - 2)
    monkeypatch.setattr(Image.Image, "load", None)  # no frame is decoded
    with fails(InputError, f"The 6 frames of {path} need up to 0.0 GiB of memory, more than half of the free memory"):
        read(upscaler, path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("from_stream", [False, True])
def test_an_image_that_needs_too_much_memory_is_refused_before_it_is_decoded(
    tiny_folder: Path, tmp_path: Path, name: str, from_stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    upscaler = Upscaler(load_model(str(tiny_folder)), Request(refine=1, scale=3))
    path = save(tmp_path / "in.png", levels(24, 30))
    free = 24 * 30 * (3 + 9 * 4) if name == "a.png" else 24 * 30 * (3 + 9 * 4 + 9 * 3)

    def run() -> JobInput:
        source = io.BytesIO(path.read_bytes()) if from_stream else path
        return upscaler.read(Job(source, path.with_name(name)))

    monkeypatch.setattr(upscale_file, "CERTAIN_MEMORY", 0)
    monkeypatch.setattr(upscale_file, "free_memory", lambda device: free)
    assert run().image.size == (24, 30)
    monkeypatch.setattr(upscale_file, "free_memory", lambda device: free - 1)
    monkeypatch.setattr(upscale_file, "read_image", None)
    with fails(InputError, "(30 x 24) needs at least 0.0 GiB of memory, more than the free memory"):
        run()


ENCODE = """
import sys
import numpy as np, torch
from pathlib import Path
from pcsr_cli.engine.device import peak_memory
from pcsr_cli.images.animation import open_frame_writer
from pcsr_cli.images.formats import choose_format
from pcsr_cli.images.image import ImageData

output, count = Path(sys.argv[1]), int(sys.argv[2])
with open_frame_writer(output, choose_format(output), (700, 1000)) as writer:
    for number in range(count):
        rgb = np.full((700, 1000, 3), number, np.uint8)
        writer.add(ImageData(rgb, np.full((700, 1000), 255 - number, np.uint8)), 40)
print(peak_memory(torch.device("cpu")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in another unit elsewhere")
@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_encoding_stays_within_the_memory_that_the_check_assumes(tmp_path: Path, suffix: str) -> None:
    def peak(count: int) -> int:
        command = [sys.executable, "-c", ENCODE, str(tmp_path / f"out{suffix}"), str(count)]
        return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    assert peak(62) - peak(2) < 60 * 2 * 4 * 700 * 1000 + 2**25
