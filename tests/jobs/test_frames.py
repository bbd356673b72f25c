"""With ``frames``, what moves is enlarged frame by frame or not at all; only what does not move is a still."""

from pathlib import Path

import pytest
from PIL import Image

from pcsr_cli.api import load_model
from pcsr_cli.errors import InputError
from pcsr_cli.images.animation import open_animation
from pcsr_cli.jobs import upscale_file
from pcsr_cli.jobs.request import Job, Request
from pcsr_cli.jobs.upscale_file import JobInput, Upscaler
from tests.failing import fails
from tests.images import levels, save


def film(path: Path) -> Path:
    still, *others = (Image.fromarray(levels(24, 30, seed=seed)) for seed in range(6))
    still.save(path, save_all=True, append_images=others)
    return path


def read(upscaler: Upscaler, path: Path) -> JobInput:
    return upscaler.read(Job(path, path.with_name("result.png")))


@pytest.fixture
def upscaler(tiny_folder: Path) -> Upscaler:
    return Upscaler(load_model(str(tiny_folder)), Request(refine=1, frames=True), record=lambda *finished: None)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_a_damaged_film_does_not_become_a_still(upscaler: Upscaler, tmp_path: Path, suffix: str) -> None:
    path = film(tmp_path / f"film{suffix}")
    whole = read(upscaler, path)
    assert whole.moving and len(whole.frames) == 6
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with fails(InputError, "is truncated or damaged:"):
        read(upscaler, path)


def test_a_film_that_changes_meanwhile_does_not_become_a_still(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path / "film.gif")

    def read_and_changed(source: Path, allow_huge: bool) -> object:
        path.touch()
        return open_animation(source, allow_huge)

    monkeypatch.setattr(upscale_file, "open_animation", read_and_changed)
    with fails(InputError, "was changed while it was read."):
        read(upscaler, path)


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.webp", "a.jpg"])
def test_what_does_not_move_is_a_still(upscaler: Upscaler, tmp_path: Path, name: str) -> None:
    assert not read(upscaler, save(tmp_path / name)).moving


def test_of_a_single_picture_frames_were_asked_for_in_earnest(tiny_folder: Path, tmp_path: Path) -> None:
    upscaler = Upscaler(load_model(str(tiny_folder)), Request(refine=1, frames=True), stills=False)
    with fails(InputError, "has only one frame."):
        read(upscaler, save(tmp_path / "a.gif"))
