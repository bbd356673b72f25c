"""Animations: complete frames are read and written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pcsr_cli.errors import InputError, RefusedOutputError
from pcsr_cli.images.animation import Frame, is_animated, open_animation, open_frame_writer
from pcsr_cli.images.formats import SaveOptions, choose_format
from pcsr_cli.images.image import ImageData, Metadata, Pixels
from tests.failing import fails
from tests.images import deep_levels, levels, save
from tests.images.test_metadata import simple, turned

SUFFIXES = [".gif", ".webp", ".png"]
TIMES = [50.0, 120.0, 80.0]
each_format = pytest.mark.parametrize("suffix", SUFFIXES)


def few_colours(seed: int) -> Pixels:
    return levels(5, 6, seed=seed) // 128 * 100


def write(output: Path, images_: list[ImageData], plays: int = 0) -> Path:
    options = SaveOptions(lossless=output.suffix == ".webp")
    size = images_[0].size
    with open_frame_writer(output, choose_format(output), size, plays, options=options) as writer:
        for image, time in zip(images_, TIMES, strict=True):
            writer.add(image, time)
    return output


def read(source: Path) -> tuple[list[Frame], int]:
    with open_animation(source) as animation:
        frames = list(animation.frames)
        assert len(frames) == animation.count
        assert animation.size == frames[0].image.size
        return frames, animation.plays


@each_format
@pytest.mark.parametrize("plays", [0, 1, 3])
def test_frames_durations_and_plays_round_trip(tmp_path: Path, suffix: str, plays: int) -> None:
    written = [ImageData(few_colours(seed)) for seed in range(3)]
    frames, found = read(write(tmp_path / f"out{suffix}", written, plays))
    assert [frame.milliseconds for frame in frames] == TIMES
    assert found == plays
    assert is_animated(tmp_path / f"out{suffix}")
    for frame, image in zip(frames, written, strict=True):
        assert np.array_equal(frame.image.rgb, image.rgb)


@each_format
def test_a_transparent_frame_replaces_the_previous_one(tmp_path: Path, suffix: str) -> None:
    alphas = [np.zeros((5, 6), np.uint8) for _ in range(3)]
    for number, alpha in enumerate(alphas):
        alpha[:, 2 * number : 2 * number + 2] = 255
    written = [ImageData(few_colours(seed), alpha) for seed, alpha in enumerate(alphas)]
    frames, _ = read(write(tmp_path / f"out{suffix}", written))
    for frame, image, alpha in zip(frames, written, alphas, strict=True):
        assert frame.image.alpha is not None
        assert np.array_equal(frame.image.alpha, alpha)
        assert np.array_equal(frame.image.rgb[alpha > 0], image.rgb[alpha > 0])


@each_format
def test_opaque_animations_stay_opaque(tmp_path: Path, suffix: str) -> None:
    written = [ImageData(few_colours(seed), np.full((5, 6), 255, np.uint8)) for seed in range(3)]
    frames, _ = read(write(tmp_path / f"out{suffix}", written))
    assert all(frame.image.alpha is None or frame.image.alpha.min() == 255 for frame in frames)


def test_one_transparent_frame_gives_all_frames_alpha(tmp_path: Path) -> None:
    written = [ImageData(few_colours(seed)) for seed in range(3)]
    written[1] = ImageData(written[1].rgb, np.full((5, 6), 99, np.uint8))
    frames, _ = read(write(tmp_path / "out.png", written))
    assert [frame.image.alpha is None or int(frame.image.alpha[0, 0]) for frame in frames] == [255, 99, 255]


def test_sixteen_bits_are_rounded(tmp_path: Path) -> None:
    written = [ImageData(deep_levels(5, 6, seed=seed) // 257 * 257) for seed in range(3)]
    frames, _ = read(write(tmp_path / "out.png", written))
    assert np.array_equal(frames[2].image.rgb, written[2].rgb // 257)


def test_the_default_image_of_a_png_is_not_a_frame(tmp_path: Path) -> None:
    images = [Image.fromarray(levels(5, 6, seed=seed)) for seed in range(3)]
    images[0].save(tmp_path / "in.png", save_all=True, append_images=images[1:], default_image=True)
    frames, _ = read(tmp_path / "in.png")
    assert len(frames) == 2
    assert np.array_equal(frames[0].image.rgb, levels(5, 6, seed=1))


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_metadata_is_kept_and_text_goes_into_a_png(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"out{suffix}"
    metadata = Metadata(icc=b"a profile", xmp=b"<x hdrgm:Version='1'/>", text=(("parameters", "Steps: 20"),))
    with open_frame_writer(output, choose_format(output), (6, 8), 0, metadata, {"Software": "pcsr"}) as writer:
        for seed in range(2):
            writer.add(ImageData(levels(seed=seed)), 40)
    with open_animation(output) as animation:
        assert animation.metadata.icc == b"a profile"
        assert dict(animation.metadata.text).get("parameters") == ("Steps: 20" if suffix == ".png" else None)
        assert animation.notes == ("the result lacks the HDR gain map",)
    with Image.open(output) as image:
        assert suffix != ".png" or image.info["Software"] == "pcsr"


@pytest.mark.parametrize("suffix", [".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_frames_are_turned_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    frames = [Image.fromarray(levels(4, 6)), Image.fromarray(levels(4, 6, seed=1))]
    options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    options |= {"save_all": True, "append_images": frames[1:], "exif": simple(orientation)}
    frames[0].save(tmp_path / f"in{suffix}", **options)
    with open_animation(tmp_path / f"in{suffix}") as animation:
        found = list(animation.frames)
        assert np.array_equal(found[0].image.rgb, turned(orientation))
        assert animation.size == found[1].image.size == turned(orientation).shape[:2]


class TestErrors:
    def test_a_frame_outside_of_the_first_is_an_error(self, tmp_path: Path) -> None:
        path = write(tmp_path / "out.gif", [ImageData(few_colours(seed)) for seed in range(3)])
        content = path.read_bytes()
        at = content.rindex(b"\0,") + 2  # the position of the last frame follows its separator
        path.write_bytes(content[:at] + (60_000).to_bytes(2, "little") + content[at + 2 :])
        with fails(InputError, f"Frame 3 of {path} is not as large as the first."):
            read(path)

    def test_an_image_without_animation_is_refused(self, tmp_path: Path) -> None:
        assert not is_animated(save(tmp_path / "still.gif"))
        for suffix in (".png", ".jpg"):
            path = save(tmp_path / f"in{suffix}")
            with fails(InputError, f"{path} has only one frame."), open_animation(path):
                pass

    def test_a_format_without_animation_is_refused(self, tmp_path: Path) -> None:
        output = tmp_path / "out.jpg"
        with (
            fails(RefusedOutputError, "holds only one frame."),
            open_frame_writer(output, choose_format(output), (6, 8)),
        ):
            pass

    def test_a_damaged_frame_fails_when_it_is_read(self, tmp_path: Path) -> None:
        path = write(tmp_path / "in.webp", [ImageData(levels(50, 60, seed=seed)) for seed in range(3)])
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with fails(InputError, "is truncated or damaged:"), open_animation(path) as animation:
            list(animation.frames)

    def test_other_exceptions_between_frames_pass_unchanged(self, tmp_path: Path) -> None:
        path = write(tmp_path / "in.gif", [ImageData(few_colours(seed)) for seed in range(3)])
        with pytest.raises(ZeroDivisionError), open_animation(path) as animation:
            for _ in animation.frames:
                raise ZeroDivisionError

    def test_nothing_is_left_after_an_error(self, tmp_path: Path) -> None:
        output = tmp_path / "out.gif"
        with pytest.raises(RuntimeError), open_frame_writer(output, choose_format(output), (6, 8)) as writer:
            writer.add(ImageData(levels()), 40)
            raise RuntimeError
        assert list(tmp_path.iterdir()) == []
